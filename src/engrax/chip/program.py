"""From a network whose numbers are already a chip's to those integers, without a remainder, or not at all.

A current is an integer times 2^e: weights of several projections meet in the finest of their units. States have
`fraction` more binary places. A decay of 1 - 2^-k becomes k. What would have to be rounded here is refused by name:
rounding belongs into training, where the network can make up for it.
"""

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from ..errors import ArgumentError, ChipError
from ..network import Network
from ..neurons.cuba_lif import CuBaLIF
from ..neurons.li import LI
from ..neurons.lif import LIF
from ..parameter import MOST_SHIFTS, resolve
from ..synapses import Projection


class Format(eqx.Module):
    """Widths of a chip's registers in bits, all two's complement, and how a shift to the right rounds.

    Args:
        weight: of a weight.
        current: of a bias, and of the sum of bias and weights at a step.
        state: of a voltage and a synaptic current.
        fraction: binary places of a state below the unit of the current.
        rounding: "nearest" adds half of what is shifted out first, so halves go up; "floor" shifts alone.

    Raises:
        ArgumentError: a width that makes no sense; the message names it.
    """

    weight: int = eqx.field(static=True, default=8)
    current: int = eqx.field(static=True, default=16)
    state: int = eqx.field(static=True, default=24)
    fraction: int = eqx.field(static=True, default=6)
    rounding: str = eqx.field(static=True, default="nearest")

    def __check_init__(self) -> None:
        for name, least in (("weight", 2), ("current", 2), ("state", 2), ("fraction", 0)):
            bits = getattr(self, name)
            if isinstance(bits, bool) or not isinstance(bits, int) or not least <= bits <= 32:
                raise ArgumentError(f"Format: {name} must be an integer from {least} to 32, got {bits!r}.")
        if self.current + self.fraction > 48:
            raise ArgumentError("Format: current and fraction together must not exceed 48 bits.")
        if self.rounding not in ("nearest", "floor"):
            raise ArgumentError(f"Format: rounding must be 'nearest' or 'floor', got {self.rounding!r}.")


class Units(NamedTuple):
    """A population in integers; arrays have one number a unit.

    name, model: model is "LIF", "CuBaLIF" or "LI".
    size: number of units.
    leak: whether what enters a filter is shifted as the filter's own content is (input_scale="leak").
    subtract: whether a spike takes the threshold off, instead of clearing the voltage.
    exponent: a current of 1 stands for 2^exponent.
    bias: added to the current at every step, all projections' together.
    shift: k of the membrane.  shift_synapse: k of the synaptic current; None without one.
    threshold: what the voltage must exceed; None for LI.
    refractory: steps; None where no unit has a refractory period.
    """

    name: str
    model: str
    size: int
    leak: bool
    subtract: bool
    exponent: int
    bias: np.ndarray
    shift: np.ndarray
    shift_synapse: np.ndarray | None
    threshold: np.ndarray | None
    refractory: np.ndarray | None


class Connections(NamedTuple):
    """A projection in integers: weight (post, pre), to be shifted left by `left` before it is added to the current.

    delay: in steps, 0 for this step's spikes.
    """

    name: str
    pre: str
    post: str
    delay: int
    left: int
    weight: np.ndarray


class Program(NamedTuple):
    """A network in integers. Populations stand in the order in which a step updates them.

    outputs: for each label the population, and its state variable or None for what it sends.
    """

    format: Format
    dt: float
    inputs: dict[str, int]
    populations: tuple[Units, ...]
    projections: tuple[Connections, ...]
    outputs: dict[str, tuple[str, str | None]]


def program(net: Network, format: Format | None = None) -> Program:
    """The integers of a network.

    Args:
        net: populations of LIF, CuBaLIF and LI with decays of 1 - 2^-k (`trainable(x, positive="power_of_two")`), and
            projections whose weights are multiples of a power of two (`StraightThrough`).
        format: register widths; None: `Format()`.

    Raises:
        ChipError: the network holds what these integers cannot say exactly; the message names it and what to do.
    """
    widths = format or Format()
    for name, neuron in net.populations.items():
        if (kind := type(neuron)) not in (LIF, CuBaLIF, LI):
            raise ChipError(f"population {name!r}: a chip has units of LIF, CuBaLIF and LI, not of {kind.__name__}.")
    exponents = {name: _meeting(net, name) for name in net.populations}
    biases = {name: np.zeros(p.size, np.int64) for name, p in net.populations.items()}
    connections = []
    for name, p in net.projections.items():
        what, exponent = f"projection {name!r}", exponents[p.post]
        weight, bias = _arrays(net, p)
        own = _finest(weight)
        own = exponent if own is None else own
        levels = _whole(f"{what}: its weight", weight, own, widths.weight, _TRAIN)
        biases[p.post] += _whole(f"{what}: its bias", bias, exponent, widths.current, _FINE)
        # It fits its own unit; the finest of those it meets may leave no room for it.
        _whole(f"{what}: its weight", weight, exponent, widths.current, _FINE)
        connections.append(Connections(name, p.pre, p.post, p.delay or 0, own - exponent, levels))
    units = tuple(_units(name, net, exponents[name], biases[name], widths) for name in net.order)
    outputs = {o.label: (o.population, o.variable) for o in net.output_specs}
    return Program(widths, net.dt, net.inputs, units, tuple(connections), outputs)


_TRAIN = 'Train it as a StraightThrough projection (kind = "straight_through") of so few bits.'
_FINE = "Weights and biases of a StraightThrough projection share one unit; or give Format a wider current."


def _arrays(net: Network, p: Projection) -> tuple[np.ndarray, np.ndarray]:
    """What acts of a projection, in double precision, which holds single precision exactly."""
    if not p.matrix:
        raise ChipError(f"projection {p.name!r}: {type(p).__name__} has no weight matrix, which a chip holds.")
    if p.reverse:
        raise ChipError(f"projection {p.name!r}: a chip cannot read {p.pre!r} in reversed time.")
    if p.pre in net.populations and not net.populations[p.pre].spiking:
        raise ChipError(f"projection {p.name!r}: {p.pre!r} does not spike, and only events travel on a chip.")
    bias = p.effective_bias()
    weight = np.asarray(p.effective(), np.float64)
    return weight, np.zeros(len(weight)) if bias is None else np.asarray(bias, np.float64)


def _meeting(net: Network, name: str) -> int:
    """The finest unit of all that meets in a population's current, as an exponent of two."""
    found = [_finest(x) for p in net.projections.values() if p.post == name for x in _arrays(net, p)]
    return min([e for e in found if e is not None], default=0)


def _finest(x: np.ndarray) -> int | None:
    """The greatest e for which all of x are multiples of 2^e; None if all are zero."""
    mantissa, exponent = np.frexp(x[x != 0])
    if not len(mantissa):
        return None
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    odd = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int(np.min(exponent - 53 + odd))


def _whole(what: str, x: np.ndarray, exponent: int, bits: int, remedy: str) -> np.ndarray:
    """x as integers in units of 2^exponent, of which it holds multiples."""
    levels = np.ldexp(x, -exponent)
    low, high = float(levels.min(initial=0)), float(levels.max(initial=0))
    needed = 1 + max(int(np.ceil(np.log2(max(-low, high + 1, 1)))), 0)
    if needed > bits:
        raise ChipError(f"{what} needs {needed} bits in units of 2^{exponent}, and there are {bits}. {remedy}")
    return levels.astype(np.int64)


def _units(name: str, net: Network, exponent: int, bias: np.ndarray, widths: Format) -> Units:
    neuron: Any = resolve(net.populations[name])
    what, each = f"population {name!r}", lambda x: np.broadcast_to(np.asarray(x, np.float64), neuron.size)
    shift = _shift(f"{what}: tau", each(neuron.tau), net.dt)
    synapse = threshold = refractory = None
    if isinstance(neuron, CuBaLIF):
        synapse = _shift(f"{what}: tau_synapse", each(neuron.tau_synapse), net.dt)
    if isinstance(neuron, LIF):
        threshold = _threshold(f"{what}: its threshold", each(neuron.threshold), exponent - widths.fraction, widths)
        if neuron.refractory is not None:
            refractory = np.round(each(neuron.refractory) / net.dt).astype(np.int64)
    subtract = isinstance(neuron, LIF) and neuron.reset == "subtract"
    leak = neuron.input_scale == "leak"
    kind = type(neuron).__name__
    return Units(name, kind, neuron.size, leak, subtract, exponent, bias, shift, synapse, threshold, refractory)


def _shift(what: str, tau: np.ndarray, dt: float) -> np.ndarray:
    lost = -np.expm1(-dt / tau)
    shift = np.clip(np.round(-np.log2(lost)), 1, MOST_SHIFTS).astype(np.int64)
    # Single precision leaves a time constant 1e-7 of itself away from the one that is meant.
    wrong = np.abs(np.ldexp(lost, shift) - 1) > 1e-5
    if np.any(wrong):
        near = -dt / np.log1p(-np.ldexp(1.0, -shift[wrong][0]))
        raise ChipError(
            f"{what} = {tau[wrong][0]:g} ms decays by no shift; the nearest that does is {near:.9g} ms. Train it with "
            'positive="power_of_two".'
        )
    return shift


def _threshold(what: str, given: np.ndarray, exponent: int, widths: Format) -> np.ndarray:
    levels = np.ldexp(given, -exponent)
    wrong = levels != np.round(levels)
    if np.any(wrong):
        near = np.ldexp(max(float(np.round(levels[wrong][0])), 1.0), exponent)
        raise ChipError(
            f"{what} {given[wrong][0]:g} is no multiple of 2^{exponent}, the unit of its voltage; choose {near:.12g}."
        )
    return _whole(what, given, exponent, widths.state, "Give Format a wider state, or fewer places of fraction.")
