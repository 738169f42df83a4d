"""Eligibility traces of a population, as e-prop defines them, along a run.

    eps_ji(t) = ds_j(t)/ds_j(t-1) eps_ji(t-1) + ds_j(t)/dI_j(t) z_i(t - d)         e_ji(t) = dz_j(t)/ds_j(t) eps_ji(t)

Bellec et al. 2020, Eqs. 13-14, found by forward-mode products along the unit's own step: the recurrent path is cut.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..errors import ArgumentError, unknown
from ..network import Network
from ..network.engine import forward
from ..network.tape import Tape
from ..parameter import resolve
from ..synapses import Projection
from ..trial import Trial


def eligibility_traces(
    net: Network, trial: Trial, projection: str, unit: int
) -> Float[Array, "time batch *ports post"]:
    """Traces e_ji(t) of the synapses from one presynaptic unit onto all units of a population.

    Args:
        net: the network.
        trial: what it is shown.
        projection: name of the projection, such as "hidden->hidden".
        unit: the presynaptic unit i.

    Returns:
        (time, batch, post): one trace for each postsynaptic unit j, whether or not there is a connection; for a
        projection onto all ports of a population (time, batch, ports, post).

    Raises:
        ArgumentError: no such projection, or no such unit.
    """
    if projection not in net.projections:
        raise unknown("projection", projection, net.projections)
    pre = net.projections[projection].pre
    size = (net.inputs | {n: p.size for n, p in net.populations.items()})[pre]
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < size:
        raise ArgumentError(f"unit must be one of the {size} of {pre!r}, counted from 0, got {unit!r}.")
    return _traces(net, net.check_inputs(trial.inputs), projection, unit)


@eqx.filter_jit
def _traces(net: Network, inputs: dict[str, Any], name: str, unit: int) -> Array:
    projection = net.projections[name]
    batch = next(iter(inputs.values())).shape[1]
    _, _, _, tape = forward(net, inputs, net.init_state(batch), tape=True)
    seen = _seen(projection, tape, unit)
    neuron = resolve(net.populations[projection.post])
    if neuron.ports and seen.ndim == 3:
        seen = seen[:, :, None]
    states, currents = tape.states[projection.post], tape.currents[projection.post]

    def traces(door: Array) -> Array:
        """Traces of the synapses that push the current along `door`: everything, or one port of several."""

        def step(moves: PyTree, now: tuple[PyTree, Array, Array]) -> tuple[PyTree, Array]:
            state, current, z = now
            push = jnp.broadcast_to(z * door[None], current.shape)
            smooth, rest = eqx.partition(state, eqx.is_inexact_array)

            def after(s: PyTree, i: Array) -> tuple[PyTree, Array]:
                new, output = jax.vmap(neuron.local_step)(eqx.combine(s, rest), i)
                return eqx.filter(new, eqx.is_inexact_array), output

            _, (moves, trace) = jax.jvp(after, (smooth, current), (moves, push))
            return moves, trace

        smooth = eqx.filter(states, eqx.is_inexact_array)
        start = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), smooth)
        return jax.lax.scan(step, start, (states, currents, seen))[1]

    if not neuron.ports:
        return traces(jnp.ones(1, net.dtype))
    doors = jnp.eye(len(neuron.ports), dtype=net.dtype)[..., None]
    if projection.port is not None:
        return traces(doors[neuron.ports.index(projection.port)])
    return jnp.moveaxis(jax.vmap(traces)(doors), 0, 2)


def _seen(projection: Projection, tape: Tape, unit: int) -> Array:
    """What the synapses from one unit see: (time, batch, 1), or by synapse where each has a delay of its own."""
    if not projection.reach:
        return tape.presynaptic(projection)[..., unit, None]
    assert projection.weight is not None
    alone = projection.replace(weight=jnp.zeros_like(projection.weight).at[..., unit].set(1))
    return alone.drive(alone.fan_out(alone.effective()), tape.seen(projection))
