"""The reference of a chip: a program stepped in integers, every register watched. Made to be right, not fast.

I(t) = bias + sum over projections of (sum of the weights of those that spiked) << left
i(t) = F(i(t-1), I(t) << fraction, k_s)                    CuBaLIF alone; elsewhere i(t) = I(t) << fraction
v(t) = F(v(t-1), i(t), k)                                  v(t-1) is 0 after a spike, if the reset is to zero
z(t) = v(t) > threshold, and nothing is left of a refractory period
F(x, d, k) = x + R(d - x, k), or x - R(x, k) + d           with input_scale "leak", or "one"
R(x, k) = (x + 2^(k-1)) >> k, or x >> k                    rounding "nearest", or "floor"
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Num, PyTree

from ..errors import ArgumentError, ChipError, RegisterOverflow, unknown
from ..events import dense
from ..network import Network
from .program import Connections, Format, Program, Units, program


@dataclasses.dataclass(frozen=True)
class Emulation:
    """What every register held, after every step.

    Attributes:
        program: the integers that ran.
        recorded: (time, batch, units) integers by name: "input" and "hidden" are events, "hidden.current",
            "hidden.voltage", "hidden.synaptic" and "hidden.refractory" registers, where there are such.
    """

    program: Program
    recorded: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.recorded:
            raise unknown("register", name, self.recorded)
        return self.recorded[name]

    def real(self, name: str) -> np.ndarray:
        """What a register stands for, in the units of the network: `net.run(..., record=[name])[name]`, rounded."""
        return np.ldexp(self[name].astype(np.float64), exponent(self.program, name))

    @property
    def outputs(self) -> Any:
        """The network's outputs as real numbers (time, batch, units); a dict by label if it has several."""
        found = {}
        for label, (population, variable) in self.program.outputs.items():
            quiet = population not in self.recorded
            variable = "voltage" if variable is None and quiet else variable
            found[label] = self.real(population if variable is None else f"{population}.{variable}")
        return next(iter(found.values())) if len(found) == 1 else found


def exponent(made: Program, name: str) -> int:
    """A register's unit, as an exponent of two."""
    population, _, variable = name.partition(".")
    if variable not in ("current", "voltage", "synaptic"):
        return 0
    unit = next(u.exponent for u in made.populations if u.name == population)
    return unit if variable == "current" else unit - made.format.fraction


def emulate(net: Network, inputs: PyTree[Num[Array, "time batch _"]], format: Format | None = None) -> Emulation:
    """Run a network over whole sequences as a chip would, to the bit, from zero states.

    Args:
        net: a network that is a chip's already; see `program`.
        inputs: (time, batch, units) of 0 and 1, an array or `Events`, or a dict of these by input name.
        format: register widths; None: `Format()`.

    Raises:
        ChipError: the network, or an input, is not made of a chip's numbers.
        RegisterOverflow: a number outgrew its register.
    """
    made = program(net, format)
    return run(made, {name: _events(name, x) for name, x in net.check_inputs(inputs).items()})


def run(made: Program, inputs: dict[str, np.ndarray]) -> Emulation:
    """Step a program over events, (time, batch, units) integers by input name."""
    steps, batch, _ = next(iter(inputs.values())).shape
    recorded = dict(inputs)
    for units in made.populations:
        for name in registers(units):
            recorded[name] = np.zeros((steps, batch, units.size), np.int64)
    onto = {u.name: [c for c in made.projections if c.post == u.name] for u in made.populations}
    for t in range(steps):
        for units in made.populations:
            current = _current(units, onto[units.name], recorded, t, batch)
            for name, value in _step(units, current, recorded, t, made.format).items():
                _check(name, value, t, made.format)
                recorded[name][t] = value
    return Emulation(made, recorded)


def registers(units: Units) -> tuple[str, ...]:
    """Names of what an emulation records of a population."""
    there = {
        "": units.threshold is not None,
        ".current": True,
        ".synaptic": units.shift_synapse is not None,
        ".voltage": True,
        ".refractory": units.refractory is not None,
    }
    return tuple(units.name + suffix for suffix, has in there.items() if has)


def _current(units: Units, onto: list[Connections], recorded: dict[str, np.ndarray], t: int, batch: int) -> np.ndarray:
    current = np.tile(units.bias, (batch, 1))
    for c in onto:
        if t >= c.delay:
            current += (recorded[c.pre][t - c.delay] @ c.weight.T) << c.left
    return current


def _step(
    units: Units, current: np.ndarray, recorded: dict[str, np.ndarray], t: int, widths: Format
) -> dict[str, np.ndarray]:
    """All registers of a population after one step, by name."""
    name, zero = units.name, np.zeros_like(current)
    before = {r: recorded[r][t - 1] if t else zero for r in registers(units)}
    drive, after = current << widths.fraction, {f"{name}.current": current}
    if units.shift_synapse is not None:
        drive = _filtered(before[f"{name}.synaptic"], drive, units.shift_synapse, units.leak, widths)
        after[f"{name}.synaptic"] = drive
    if units.threshold is None:
        after[f"{name}.voltage"] = _filtered(before[f"{name}.voltage"], drive, units.shift, units.leak, widths)
        return after
    spiked, kept = before[name], before[f"{name}.voltage"]
    kept = kept if units.subtract else kept * (1 - spiked)
    voltage = _filtered(kept, drive, units.shift, units.leak, widths)
    voltage = voltage - units.threshold * spiked if units.subtract else voltage
    spikes = voltage > units.threshold
    if units.refractory is not None:
        left = before[f"{name}.refractory"] + units.refractory * spiked - 1
        after[f"{name}.refractory"] = np.clip(left, 0, units.refractory)
        spikes &= after[f"{name}.refractory"] == 0
    return {**after, f"{name}.voltage": voltage, name: spikes.astype(np.int64)}


def _filtered(content: np.ndarray, drive: np.ndarray, shift: np.ndarray, leak: bool, widths: Format) -> np.ndarray:
    return (
        content + _shifted(drive - content, shift, widths)
        if leak
        else content - _shifted(content, shift, widths) + drive
    )


def _shifted(x: np.ndarray, shift: np.ndarray, widths: Format) -> np.ndarray:
    return (x + (1 << (shift - 1)) if widths.rounding == "nearest" else x) >> shift


def _check(name: str, value: np.ndarray, t: int, widths: Format) -> None:
    variable = name.partition(".")[2]
    if variable not in ("current", "voltage", "synaptic"):
        return
    bits = widths.current if variable == "current" else widths.state
    beyond = (value < -(1 << (bits - 1))) | (value >= 1 << (bits - 1))
    if np.any(beyond):
        trial, unit = np.argwhere(beyond)[0]
        field = "current" if variable == "current" else "state"
        raise RegisterOverflow(
            f"{name} of unit {unit} is {value[trial, unit]} at step {t} of trial {trial}, and its {bits} bits hold "
            f"{-(1 << (bits - 1))} to {(1 << (bits - 1)) - 1}. Give Format a wider {field}"
            + (", or fewer places of fraction." if field == "state" else ".")
        )


def _events(name: str, x: Any) -> np.ndarray:
    raster = np.asarray(dense(x))
    if not np.all((raster == 0) | (raster == 1)):
        wrong = raster[(raster != 0) & (raster != 1)].ravel()[0]
        raise ChipError(f"input {name!r}: only events reach a chip, 0 or 1, and it holds {wrong:g}. Encode it first.")
    if raster.shape[0] == 0:
        raise ArgumentError(f"input {name!r} has no steps.")
    return raster.astype(np.int64)
