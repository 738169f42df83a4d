"""The forward engine: one compiled scan per strongly connected component, everything else hoisted out of time.

Input currents of a component are one product over the whole sequence; only projections inside the component are
multiplied step by step. A `Tape` keeps what a rule needs afterwards.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..events import Events, dense
from ..kernels.library import differentiable
from ..neurons import variable
from ..parameter import resolve
from ..synapses import Projection
from . import loop_parameters, loops
from .graph import components
from .loops import Inner, Kept
from .network import Network
from .state import NetworkState, Record
from .tape import Tape, add_current, delayed, zero_current


def _contribution(fan: Any, projection: Projection, pre: Any) -> Array:
    current, bias = projection.drive(fan, pre), projection.effective_bias()
    return current if bias is None else current + jnp.broadcast_to(bias, current.shape)


def _external(fan: Any, projection: Projection, source: Any, history: Array) -> Array:
    """The current that a sequence causes."""
    delay = projection.delay or 0
    if projection.reverse:
        source = source[::-1]
    if projection.reach:
        source = dense(source, history.dtype)
    if not isinstance(source, Events):
        source, delay = delayed(source, history, delay, projection.reach), 0
    if not delay:
        return _contribution(fan, projection, source)
    late, first = _contribution(fan, projection, source), history.shape[0] - delay
    steps = late.shape[0]
    early = _contribution(fan, projection, history[first : first + min(delay, steps)])
    return jnp.concatenate([early, late[: max(steps - delay, 0)]])


class _Ran(NamedTuple):
    """What a component's run gives: final states, then by step outputs and recorded variables, and its tape."""

    last: dict[str, PyTree]
    outputs: dict[str, Array]
    recorded: dict[str, Array]
    states: dict[str, PyTree]
    currents: dict[str, Array]
    kept: dict[str, Kept]


class _Component(NamedTuple):
    """A strongly connected component, its models' values and weights, and what is wanted of it."""

    net: Network
    group: tuple[str, ...]
    neurons: dict[str, Any]
    weights: dict[str, Any]
    steps: int
    batch: int
    wanted: set[str]
    tape: bool
    parameters: bool

    @property
    def internal(self) -> list[Projection]:
        return [p for p in self.net.projections.values() if p.post in self.group and p.pre in self.group]

    @property
    def external(self) -> list[Projection]:
        return [p for p in self.net.projections.values() if p.post in self.group and p.pre not in self.group]


def forward(
    net: Network,
    inputs: dict[str, Any],
    state: NetworkState,
    *,
    tape: bool | Literal["lean"] = False,
    parameters: bool = False,
    record: tuple[str, ...] = (),
) -> tuple[dict[str, Array], NetworkState, dict[str, Array], Tape]:
    """Run the network; differentiable by JAX in both modes, but for a lean tape.

    Args:
        inputs: arrays or events. A full tape makes rasters of these.
        tape: True keeps every state and current; "lean" no more than `adjoint.backward` needs; False nothing.
        parameters: with a lean tape, whether `adjoint.backward` is to carry errors to time constants that train through
            native loops, too; otherwise such units are run by JAX.

    Returns:
        outputs by label, the final state, what was recorded, and the tape.
    """
    if tape is True:
        inputs = {name: dense(x, net.dtype) for name, x in inputs.items()}
    if tape or not loops.available(net.dtype):
        return _forward(net, inputs, state, record, tape=bool(tape), native=tape == "lean", parameters=parameters)

    def through(arguments: Any) -> Any:
        net, inputs, state = arguments
        *ran, _ = _forward(net, inputs, state, record, tape=False, native=True)
        return tuple(ran)

    return *differentiable(through, (net, inputs, state)), Tape({}, {}, {}, {}, {})


def _forward(
    net: Network,
    inputs: dict[str, Any],
    state: NetworkState,
    record: tuple[str, ...],
    *,
    tape: bool,
    native: bool,
    parameters: bool = False,
) -> tuple[dict[str, Array], NetworkState, dict[str, Array], Tape]:
    steps, batch = next(iter(inputs.values())).shape[:2]
    sources = dict(inputs)
    kept: dict[str, Kept] = {}
    wanted = {*record, *(f"{o.population}.{o.variable}" for o in net.output_specs if o.variable)}
    weights = {name: p.effective() for name, p in net.projections.items()}
    ran: list[_Ran] = []
    for group in components(net.order, [(e.pre, e.post) for e in net.edges]):
        own = {w for w in wanted if w.partition(".")[0] in group and "." in w}
        neurons = {n: resolve(net.populations[n]) for n in group}
        component = _Component(net, group, neurons, weights, steps, batch, own, tape, parameters)
        units = loops.units(net, group, own, tape, parameters) if native else None
        if units is None:
            ran.append(_scan(component, sources, state))
        else:
            kept.update(_listed(component, inputs, kept))
            ran.append(_loop(component, units, sources, kept, state))
        sources.update(ran[-1].outputs)
        kept.update(ran[-1].kept)
    merged = _Ran(*({name: x for r in ran for name, x in getattr(r, field).items()} for field in _Ran._fields))
    history = {name: _latest(source, state.history[name]) for name, source in sources.items()}
    recorded = merged.recorded | {name: sources[name] for name in record if "." not in name}
    outputs = {
        o.label: sources[o.population] if o.variable is None else recorded[f"{o.population}.{o.variable}"]
        for o in net.output_specs
    }
    held = Tape(sources, state.history, merged.states, merged.currents, kept)
    return outputs, NetworkState(merged.last, history), {n: recorded[n] for n in record}, held


def _loop(
    component: _Component,
    units: dict[str, Any],
    sources: dict[str, Any],
    kept: dict[str, Kept],
    state: NetworkState,
) -> _Ran:
    biases: dict[str, Array] = {}
    inner = []
    for p in component.internal + component.external:
        delay, outside = p.delay or 0, p.pre not in component.group
        source = loops.signal(p, sources, kept, state.history) if outside else None
        inner.append(Inner(p.pre, p.post, delay, component.weights[p.name], source))
        if (bias := p.effective_bias()) is not None:
            biases[p.post] = biases[p.post] + bias if p.post in biases else bias
    order = tuple(n for n in component.net.order if n in component.group)
    states, histories = _held(component, state)
    learn = {n for n in order if component.parameters and loop_parameters.trained(component.net.populations[n])}
    found = loops.ahead(
        order, units, states, histories, biases, inner, component.steps, component.wanted, component.tape, learn
    )
    last, outputs, recorded, made = found
    return _Ran(last, outputs, recorded, {}, {}, made)


def _listed(component: _Component, inputs: dict[str, Any], kept: dict[str, Kept]) -> dict[str, Kept]:
    """Rasters that a component is given and errors will meet again, looked through but once."""
    read = {p.pre for p in component.external if p.pre in inputs and p.pre not in kept} if component.tape else set()
    return {name: Kept(loops.listed(inputs[name]), {}) for name in read if not isinstance(inputs[name], Events)}


def _held(component: _Component, state: NetworkState) -> tuple[dict[str, PyTree], dict[str, Array]]:
    """States of a component's populations, and as much of their past outputs as it looks back at itself."""
    depths = component.net.depths()
    internal = _internal_depths(component.internal)
    histories = {n: state.history[n][depths[n] - d :] for n, d in internal.items()}
    return {n: state.neurons[n] for n in component.group}, histories


def _scan(component: _Component, sources: dict[str, Any], state: NetworkState) -> _Ran:
    net, group, neurons, weights, steps, batch, wanted, tape, _ = component
    fans = {p.name: p.fan_out(weights[p.name]) for p in component.internal + component.external}
    external: dict[str, Array] = {}
    for p in component.external:
        added = _external(fans[p.name], p, sources[p.pre], state.history[p.pre])
        if p.post not in external and p.port is None:
            external[p.post] = added
        else:
            current = external[p.post] if p.post in external else zero_current(net, p.post, (steps, batch))
            external[p.post] = add_current(net, p, current, added)
    body = _component_step(net, group, component.internal, neurons, fans, wanted, tape)
    zeros = {n: zero_current(net, n, (batch,)) for n in group if n not in external}
    (last, _), ys = jax.lax.scan(partial(body, zeros), _held(component, state), external, length=steps)
    return _Ran(last, ys["output"], ys["kept"], ys["state"], ys["current"], {})


def _latest(outputs: Any, history: Array) -> Array:
    depth, steps = history.shape[0], outputs.shape[0]
    if depth == 0:
        return history
    late = dense(outputs[max(steps - depth, 0) :], history.dtype)
    return late if depth <= steps else jnp.concatenate([history[steps:], late])


def _internal_depths(internal: list[Projection]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for projection in internal:
        if projection.depth:
            depths[projection.pre] = max(depths.get(projection.pre, 0), projection.depth)
    return depths


def seen_by(projection: Projection, past: dict[str, Array], now: dict[str, Array]) -> Array:
    """What a projection reads at a step: (batch, pre), or all that it sees, (reach + 1, batch, pre)."""
    name, delay, reach = projection.pre, projection.delay or 0, projection.reach
    if not reach:
        return past[name][-delay] if delay else now[name]
    sent = past[name] if delay else jnp.concatenate([past[name], now[name][None]])
    newest = sent.shape[0] - max(delay, 1)
    return sent[newest - reach : newest + 1]


def shift(buffer: Array, newest: Array) -> Array:
    """A history buffer, oldest first, moved on by one step."""
    return newest[None] if buffer.shape[0] == 1 else jnp.concatenate([buffer[1:], newest[None]])


def _component_step(
    net: Network,
    group: tuple[str, ...],
    internal: list[Projection],
    neurons: dict[str, Any],
    fans: dict[str, Any],
    wanted: set[str],
    tape: bool,
) -> Callable[[dict[str, Array], Any, dict[str, Array]], Any]:
    order = [n for n in net.order if n in group]

    def body(zeros: dict[str, Array], carry: Any, external: dict[str, Array]) -> Any:
        states, buffers = carry
        after: dict[str, Any] = {}
        outputs: dict[str, Array] = {}
        seen: dict[str, Array] = {}
        for name in order:
            current = external[name] if name in external else zeros[name]
            for projection in internal:
                if projection.post == name:
                    pre = seen_by(projection, buffers, outputs)
                    added = _contribution(fans[projection.name], projection, pre)
                    current = add_current(net, projection, current, added[0] if projection.reach else added)
            after[name], outputs[name] = jax.vmap(neurons[name].step)(states[name], current)
            seen[name] = current
        kept = {}
        for item in wanted:
            population, _, name = item.partition(".")
            kept[item] = seen[population] if name == "current" else variable(after[population], name)
        buffers = {n: shift(b, outputs[n]) for n, b in buffers.items()}
        ys = {
            "output": outputs,
            "kept": kept,
            "state": {n: states[n] for n in group} if tape else {},
            "current": seen if tape else {},
        }
        return (after, buffers), ys

    return body


@eqx.filter_jit
def run(net: Network, inputs: dict[str, Any], state: NetworkState, record: tuple[str, ...]) -> Record:
    """`Network.run`, compiled."""
    outputs, final, recorded, _ = forward(net, inputs, state, record=record)
    return Record(outputs[net.output_specs[0].label] if net.single_output else outputs, final, recorded)
