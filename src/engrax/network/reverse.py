"""The backward engine where loops are JAX's: one reverse scan per strongly connected component of paths."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..parameter import resolve
from ..synapses import transpose
from .cotangents import Adjoint, Cotangents, Path, Sent, local_step, split_parameters, split_state, variable_cotangent
from .network import Network
from .tape import Tape, port_delta


def scan_back(
    net: Network,
    group: tuple[str, ...],
    internal: list[Path],
    tape: Tape,
    arriving: dict[str, Array],
    narrow: dict[str, list[Sent]],
    cotangents: Cotangents,
    local: bool,
    *,
    per_trial: bool,
) -> Adjoint:
    order = [n for n in reversed(net.order) if n in group]
    split = {n: split_parameters(net.populations[n]) for n in group}
    batch = next(iter(tape.currents.values())).shape[1]
    floats, counters, extra, last = {}, {}, {}, {}
    for name in group:
        floats[name], counters[name] = split_state(tape.states[name])
        template = jax.tree.map(lambda x: x[0], floats[name])
        neuron = resolve(net.populations[name])
        given = cotangents.variables.get(name, {})
        if given:
            extra[name] = jax.vmap(partial(variable_cotangent, template, neuron))(given)
        last[name] = cotangents.states.get(name)
        if last[name] is None:
            last[name] = jax.tree.map(jnp.zeros_like, template)
    axes = 0 if per_trial else None
    spread = {n: _spread(split[n][0], (batch, net.populations[n].size)) if per_trial else split[n][0] for n in group}
    own = jax.tree.map(jnp.zeros_like, spread)
    depth: dict[str, int] = {}
    for path in internal:
        if path.projection.depth:
            depth[path.projection.pre] = max(depth.get(path.projection.pre, 0), path.projection.depth)
    pending = {n: jnp.zeros((d, batch, net.populations[n].size), net.dtype) for n, d in depth.items()}

    def back(carry: Any, xs: Any) -> Any:
        g_state, g_own, pending = carry
        outputs = {}
        for n in group:
            terms = [xs["arriving"][n]] if n in arriving else []
            terms += [transpose(sent.weight, felt) for sent, felt in zip(narrow[n], xs["narrow"][n], strict=True)]
            terms += [pending[n][0]] if n in pending else []
            outputs[n] = sum(terms[1:], terms[0]) if terms else jnp.zeros((batch, net.populations[n].size), net.dtype)
        pending = {n: jnp.concatenate([p[1:], jnp.zeros_like(p[:1])]) for n, p in pending.items()}
        g_state, g_own, deltas = dict(g_state), dict(g_own), {}
        for name in order:
            step = jax.vmap(
                lambda theta, counters, floats, current, n=name: local_step(
                    theta, split[n][1], counters, local, floats, current
                ),
                in_axes=(axes, 0, 0, 0),
            )
            counter = xs["counters"][name]
            _, vjp = jax.vjp(
                lambda theta, f, i, s=step, c=counter: s(theta, c, f, i),
                spread[name],
                xs["floats"][name],
                xs["currents"][name],
            )
            after = g_state[name]
            if name in xs["extra"]:
                after = jax.tree.map(jnp.add, after, xs["extra"][name])
            g_theta, g_state[name], deltas[name] = vjp((after, outputs[name]))
            g_own[name] = jax.tree.map(jnp.add, g_own[name], g_theta)
            for path in internal:
                if path.projection.post != name:
                    continue
                pre, delay = path.projection.pre, path.projection.delay or 0
                felt = port_delta(net, path.projection, deltas[name])
                if path.projection.reach:
                    # Latest first, as what is pending.
                    values = path.projection.transpose(path.weight, felt[None])[::-1]
                else:
                    values = path.projection.transpose(path.weight, felt)[None]
                if not delay:
                    outputs[pre] = outputs[pre] + values[0]
                if path.projection.depth:
                    late = values if delay else values[1:]
                    first = max(delay - 1, 0)
                    pending[pre] = pending[pre].at[first : first + late.shape[0]].add(late)
        return (g_state, g_own, pending), deltas

    xs = {
        "arriving": arriving,
        "narrow": {n: [sent.delta for sent in narrow[n]] for n in group},
        "floats": floats,
        "counters": counters,
        "currents": {n: tape.currents[n] for n in group},
        "extra": extra,
    }
    (states, parameters, pending), delta = jax.lax.scan(back, (last, own, pending), xs, reverse=True)
    return Adjoint(delta, parameters, states, pending, {}, {})


def _spread(parameters: PyTree, shape: tuple[int, int]) -> PyTree:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, shape), parameters)
