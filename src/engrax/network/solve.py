"""Continuous time: a network of models with a `derivative`, integrated by Diffrax.

Nothing is stepped here: a recurrent projection acts at once, and `dt` plays no part. Delays have no place: Diffrax has
no delay equations; `net.run` has them on its grid.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PyTree

from .._checks import as_array, finite
from ..errors import ArgumentError, NetworkError, unknown
from ..events import dense
from ..neurons import Neuron, variable
from ..parameter import resolve
from .network import Network
from .state import NetworkState, Record
from .tape import add_current, zero_current

SOLVERS = {"euler": "Euler", "heun": "Heun", "bosh3": "Bosh3", "tsit5": "Tsit5", "dopri8": "Dopri8"}
SOLVERS |= {"implicit": "Kvaerno5"}
ADJOINTS = {"checkpointed": "RecursiveCheckpointAdjoint", "forward": "ForwardMode", "backsolve": "BacksolveAdjoint"}
# Run backwards a leak grows by e in a time constant: after more of them rounding errors are all that is left.
HORIZON = 10.0


class Sampled(eqx.Module):
    """Inputs as functions of time: straight lines between samples, or held until the next."""

    times: Float[Array, " time"]
    values: dict[str, Float[Array, "time batch _"]]
    interpolation: str = eqx.field(static=True)

    def __call__(self, t: Float[Array, ""]) -> dict[str, Array]:
        """Every input (batch, units) at a time; beyond the first and last sample these."""
        last = len(self.times) - 1
        after = jnp.clip(jnp.searchsorted(self.times, t, side="right"), 1, last)
        if self.interpolation == "hold":
            # Steps do not add up to a sample's time exactly: what is this near counts as there.
            near = t >= self.times[after] - 1e-3 * (self.times[after] - self.times[after - 1])
            at = after - 1 + near.astype(after.dtype)
            return {n: x[at] for n, x in self.values.items()}
        start, end = self.times[after - 1], self.times[after]
        share = jnp.clip((t - start) / (end - start), 0, 1)
        return {n: (1 - share) * x[after - 1] + share * x[after] for n, x in self.values.items()}


def solve(
    net: Network,
    inputs: PyTree[Num[Array, "time batch _"]],
    times: Float[Array, " time"],
    save: Float[Array, " saved"] | None,
    state: NetworkState | None,
    record: Iterable[str],
    *,
    solver: str,
    adjoint: str,
    interpolation: str,
    step: float | None,
    rtol: float,
    atol: float,
    max_steps: int,
) -> Record:
    """See `Network.solve`."""
    check_continuous(net)
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("solver", solver, SOLVERS),
        ("adjoint", adjoint, ADJOINTS),
        ("interpolation", interpolation, ("linear", "hold")),
    )
    for name, value, known in choices:
        if value not in known:
            raise unknown(name, value, known)
    given = net.check_inputs(inputs)
    steps, batch = next(iter(given.values())).shape[:2]
    times = _increasing("times", times, net)
    if times.shape != (steps,) or steps < 2:
        raise ArgumentError(
            f"times must have shape ({steps},), one for each of two or more samples, got {times.shape}."
        )
    save = times if save is None else _increasing("save", save, net)
    concrete = not isinstance(save, jax.core.Tracer) and not isinstance(times, jax.core.Tracer)
    if concrete and np.asarray(save)[0] < np.asarray(times)[0]:
        raise ArgumentError(f"save must not begin before the first of times, {np.asarray(times)[0]:g}.")
    names = tuple(record)
    for name in names:
        if name.partition(".")[0] not in net.populations:
            raise unknown("population", name.partition(".")[0], net.populations)
    if adjoint == "backsolve":
        times = _within_horizon(net, times)
    held = Sampled(times, {n: dense(x, net.dtype).astype(net.dtype) for n, x in given.items()}, interpolation)
    start = net.init_state(batch) if state is None else state
    options = (
        solver,
        adjoint,
        None if step is None else finite("step", step, 0, exclusive=True),
        rtol,
        atol,
        max_steps,
    )
    states, outputs = _solved(net, held, start.neurons, save, options)
    shown = {
        o.label: outputs[o.population] if o.variable is None else variable(states[o.population], o.variable)
        for o in net.output_specs
    }
    kept = {n: variable(states[n.partition(".")[0]], n.partition(".")[2]) if "." in n else outputs[n] for n in names}
    now = {**jax.tree.map(lambda x: x[-1], outputs), **held(save[-1])}
    history = {n: jnp.broadcast_to(now[n], (depth, *now[n].shape)) for n, depth in net.depths().items()}
    last = NetworkState(jax.tree.map(lambda x: x[-1], states), history)
    return Record(shown[net.output_specs[0].label] if net.single_output else shown, last, kept)


def check_continuous(net: Network) -> None:
    """Refuse what has no continuous time.

    Raises:
        NetworkError: a population has no derivative, or a projection a delay of its own; the message names it.
    """
    for name, neuron in net.populations.items():
        if jax.tree.leaves(resolve(neuron).init_state()) and type(neuron).derivative is Neuron.derivative:
            raise NetworkError(
                f"population {name!r}: {type(neuron).__name__} has no derivative, which net.solve needs."
            )
    for name, p in net.projections.items():
        if p.reach or (p.delay or 0) > 1 or p.reverse:
            raise NetworkError(
                f"projection {name!r} has delays or reads time backwards: net.solve cannot; use net.run."
            )


def field(net: Network, states: dict[str, Any], x: Mapping[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Derivatives of all states (batch, size), and outputs, by population, at one moment."""
    batch = next(iter(x.values())).shape[0]
    neurons = {n: resolve(p) for n, p in net.populations.items()}
    sent = {**x, **{n: jax.vmap(p.output)(states[n]) for n, p in neurons.items() if jax.tree.leaves(states[n])}}
    moved: dict[str, Any] = {}
    for name in net.order:
        current = zero_current(net, name, (batch,))
        for p in net.projections.values():
            if p.post == name:
                if p.pre not in sent:
                    raise NetworkError(f"projection {p.name!r} closes a loop of populations without state.")
                bias = p.effective_bias()
                added = p.drive(p.fan_out(p.effective()), sent[p.pre])
                current = add_current(
                    net, p, current, added if bias is None else added + jnp.broadcast_to(bias, added.shape)
                )
        if name in sent:
            moved[name] = jax.vmap(neurons[name].derivative)(states[name], current)
        else:
            moved[name], sent[name] = jax.vmap(neurons[name].step)(states[name], current)
    return moved, {n: sent[n] for n in neurons}


@eqx.filter_jit
def _solved(
    net: Network, held: Sampled, start: dict[str, Any], save: Array, options: tuple[Any, ...]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """States and outputs at the times to save."""
    diffrax = _diffrax()
    solver, adjoint, step, rtol, atol, max_steps = options
    control = diffrax.ConstantStepSize() if step else diffrax.PIDController(rtol=rtol, atol=atol)
    if held.interpolation == "hold" and not step:
        control = diffrax.ClipStepSizeController(control, jump_ts=held.times)
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, states, given: field(given[0], states, given[1](t))[0]),
        getattr(diffrax, SOLVERS[solver])(),
        held.times[0],
        save[-1],
        step,
        start,
        (net, held),
        saveat=diffrax.SaveAt(ts=save),
        stepsize_controller=control,
        adjoint=getattr(diffrax, ADJOINTS[adjoint])(),
        max_steps=max_steps,
    )
    outputs = jax.vmap(lambda t, states: field(net, states, held(t))[1])(save, found.ys)
    return found.ys, outputs


def _within_horizon(net: Network, times: Array) -> Array:
    """`times`, if a state can be brought back over them."""
    taus = [jnp.min(p.tau) for p in map(resolve, net.populations.values()) if hasattr(p, "tau")]
    over = (times[-1] - times[0]) / jnp.min(jnp.stack(taus)) if taus else jnp.zeros(())
    message = (
        f"adjoint='backsolve' over more than {HORIZON:g} time constants runs the network backwards for so long that "
        "errors grow by e in each. Use 'checkpointed'."
    )
    if not isinstance(over, jax.core.Tracer):
        if float(over) > HORIZON:
            raise ArgumentError(message)
        return times
    return eqx.error_if(times, over > HORIZON, message)


def _increasing(name: str, x: Any, net: Network) -> Array:
    x = as_array(name, x).astype(net.dtype)
    if x.ndim != 1 or (not isinstance(x, jax.core.Tracer) and np.any(np.diff(np.asarray(x)) <= 0)):
        raise ArgumentError(f"{name} must be one list of increasing times.")
    return x


def _diffrax() -> Any:
    try:
        import diffrax
    except ImportError as error:
        raise NetworkError("net.solve needs Diffrax: pip install 'engrax[continuous]'") from error
    return diffrax
