"""The forward engine: one compiled scan per strongly connected component, everything else hoisted out of time.

Input currents of a component are one product over the whole sequence; only projections inside the component are
multiplied step by step. A `Tape` keeps what a rule needs afterwards.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..neurons import variable
from ..parameter import resolve
from ..synapses import Projection, drive, fan_out
from .graph import components
from .network import Network, NetworkState, Record


class Tape(NamedTuple):
    """A run as rules read it.

    outputs: of inputs and populations, (time, batch, units).
    history: outputs before the run, (depth, batch, units), oldest first.
    states: each population's state before each step, leaves (time, batch, units).
    currents: (time, batch, units) or (time, batch, ports, units).
    """

    outputs: dict[str, Array]
    history: dict[str, Array]
    states: dict[str, PyTree]
    currents: dict[str, Array]

    def presynaptic(self, projection: Projection) -> Array:
        """What `projection` saw at each step, its delay applied: (time, batch, pre)."""
        return delayed(self.outputs[projection.pre], self.history[projection.pre], projection.delay or 0)


def delayed(outputs: Array, history: Array, delay: int) -> Array:
    """A sequence (time, batch, units) as it was `delay` steps ago, what came before it taken from its history."""
    if not delay:
        return outputs
    steps, depth = outputs.shape[0], history.shape[0]
    past = history[depth - delay : depth - delay + min(delay, steps)]
    return jnp.concatenate([past, outputs[: steps - delay]]) if delay < steps else past


def zero_current(net: Network, name: str, leading: tuple[int, ...]) -> Array:
    """A current of zeros for a population, with the given leading axes."""
    neuron = net.populations[name]
    ports = (len(neuron.ports),) if neuron.ports else ()
    return jnp.zeros((*leading, *ports, neuron.size), net.dtype)


def add_current(net: Network, projection: Projection, current: Array, added: Array) -> Array:
    """`current` plus what one projection contributes, at its port if it has one."""
    if projection.port is None:
        return current + added
    port = net.populations[projection.post].ports.index(projection.port)
    return current.at[..., port, :].add(added)


def port_delta(net: Network, projection: Projection, delta: Array) -> Array:
    """The part of a population's delta that belongs to one projection's port."""
    if projection.port is None:
        return delta
    return delta[..., net.populations[projection.post].ports.index(projection.port), :]


def _contribution(projection: Projection, fan: Array, pre: Array) -> Array:
    current = drive(fan, pre)
    if projection.bias is None:
        return current
    return current + jnp.broadcast_to(projection.bias, current.shape)


def forward(
    net: Network,
    inputs: dict[str, Array],
    state: NetworkState,
    *,
    tape: bool = False,
    record: tuple[str, ...] = (),
) -> tuple[dict[str, Array], NetworkState, dict[str, Array], Tape]:
    """Run the network; differentiable by JAX in both modes.

    Returns:
        outputs by label, the final state, what was recorded, and the tape (its states are empty unless asked for).
    """
    depths = net.depths()
    steps = next(iter(inputs.values())).shape[0]
    sources = dict(inputs)
    wanted = {*record, *(f"{o.population}.{o.variable}" for o in net.output_specs if o.variable)}
    fans = {name: fan_out(p.effective()) for name, p in net.projections.items()}
    neurons = {name: resolve(p) for name, p in net.populations.items()}
    final: dict[str, PyTree] = {}
    kept: dict[str, Array] = {}
    states: dict[str, PyTree] = {}
    currents: dict[str, Array] = {}
    batch = next(iter(inputs.values())).shape[1]
    groups = components(net.order, [(e.pre, e.post) for e in net.edges])
    for group in groups:
        external, internal = {}, []
        for name in group:
            current = None
            for key, projection in net.projections.items():
                if projection.post != name:
                    continue
                if projection.pre in group:
                    internal.append(projection)
                    continue
                pre = delayed(sources[projection.pre], state.history[projection.pre], projection.delay or 0)
                zero = zero_current(net, name, (steps, batch)) if current is None else current
                added = _contribution(projection, fans[key], pre)
                current = (
                    added if current is None and projection.port is None else add_current(net, projection, zero, added)
                )
            if current is not None:
                external[name] = current
        body = _component_step(net, group, internal, neurons, fans, wanted, tape)
        carry = (
            {n: state.neurons[n] for n in group},
            {n: state.history[n][depths[n] - d :] for n, d in _internal_depths(internal).items()},
        )
        zeros = {n: zero_current(net, n, (batch,)) for n in group if n not in external}
        (last, _), ys = jax.lax.scan(partial(body, zeros), carry, external, length=steps)
        final.update(last)
        sources.update(ys["output"])
        kept.update(ys["kept"])
        states.update(ys["state"])
        currents.update(ys["current"])
    history = {name: _latest(source, state.history[name]) for name, source in sources.items()}
    kept.update({name: sources[name] for name in record if "." not in name})
    outputs = {
        o.label: sources[o.population] if o.variable is None else kept[f"{o.population}.{o.variable}"]
        for o in net.output_specs
    }
    recorded = {n: kept[n] for n in record}
    return outputs, NetworkState(final, history), recorded, Tape(sources, state.history, states, currents)


def _latest(outputs: Array, history: Array) -> Array:
    depth, steps = history.shape[0], outputs.shape[0]
    return outputs[steps - depth :] if depth <= steps else jnp.concatenate([history[steps:], outputs])


def _internal_depths(internal: list[Projection]) -> dict[str, int]:
    depths: dict[str, int] = {}
    for projection in internal:
        if projection.delay:
            depths[projection.pre] = max(depths.get(projection.pre, 0), projection.delay)
    return depths


def shift(buffer: Array, newest: Array) -> Array:
    """A history buffer, oldest first, moved on by one step."""
    return newest[None] if buffer.shape[0] == 1 else jnp.concatenate([buffer[1:], newest[None]])


def _component_step(
    net: Network,
    group: tuple[str, ...],
    internal: list[Projection],
    neurons: dict[str, Any],
    fans: dict[str, Array],
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
                    delay = projection.delay or 0
                    pre = buffers[projection.pre][-delay] if delay else outputs[projection.pre]
                    current = add_current(
                        net, projection, current, _contribution(projection, fans[projection.name], pre)
                    )
            after[name], outputs[name] = jax.vmap(neurons[name].step)(states[name], current)
            seen[name] = current
        kept = {}
        for item in wanted:
            population, _, name = item.partition(".")
            if population in group and name:
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
def run(net: Network, inputs: dict[str, Array], state: NetworkState, record: tuple[str, ...]) -> Record:
    """`Network.run`, compiled."""
    outputs, final, recorded, _ = forward(net, inputs, state, record=record)
    return Record(outputs[net.output_specs[0].label] if net.single_output else outputs, final, recorded)
