"""Eligibility traces of any neuron model, carried forward in time.

A unit's Jacobian is a block of (d + 1) rows (d state variables, then the output) by (d + P + p) columns (state, P
currents, p trainable parameters), found by d + P + p forward-mode products over all units at once. With it

    eps(t) = J_hh eps(t-1) + J_hI pre(t)            eligibility vector of each synapse
    e(t)   = J_zh eps(t-1) + J_zI pre(t)            eligibility trace
    r(t)   = R_hh r(t-1) + R_hI e(t)                the trace, filtered by the readout's own dynamics R
    y(t)   = R_yh r(t-1) + R_yI e(t)                what the synapse did to the readout, per feedback weight

(Bellec et al. 2020, Eqs. 13-14 and 23-25, for any readout instead of the leaky one). A parameter of a unit is a source
like a synapse, with pre = 1 and its own column. Axes: (state, batch, port, unit, pre); an axis of units has length 1
where all units share the number.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..errors import RuleError
from ..network import Network
from ..network.cotangents import Path, split_parameters, split_state
from ..network.tape import Tape
from ..neurons.base import Neuron, slots
from ..parameter import resolve
from .feedback import readouts
from .rule import has_parameters


class Source(NamedTuple):
    """Something that trains: a projection's weight or bias, or a unit's parameter, and the current ports it reaches."""

    label: str
    kind: str
    population: str
    key: str
    ports: tuple[int, ...]


def sources(net: Network) -> list[Source]:
    """Everything that trains in `net`, feedback weights excepted."""
    found = []
    for name, projection in net.projections.items():
        if not projection.trainable:
            continue
        ports = net.populations[projection.post].ports
        chosen = (ports.index(projection.port),) if projection.port else tuple(range(max(len(ports), 1)))
        found.append(Source(f"weight {name}", "weight", projection.post, name, chosen))
        if projection.bias is not None:
            found.append(Source(f"bias {name}", "bias", projection.post, name, chosen))
    for name, neuron in net.populations.items():
        if has_parameters(neuron):
            for index in range(len(jax.tree.leaves(split_parameters(neuron)[0]))):
                found.append(Source(f"parameter {name} {index}", "parameter", name, str(index), (0,)))
    return found


def presynaptic(net: Network, source: Source, tape: Tape) -> Array:
    """The source's drive, (time, batch, pre): what it saw of presynaptic outputs, or 1 for a bias or parameter."""
    if source.kind == "weight":
        return tape.presynaptic(net.projections[source.key])
    steps, batch = tape.outputs[source.population].shape[:2]
    return jnp.ones((steps, batch, 1), net.dtype)


def as_gradient(net: Network, source: Source, gradient: Array) -> Any:
    """(port, unit, pre) in the shape of the effective weight, bias or parameter that it belongs to."""
    if source.kind == "weight":
        projection = net.projections[source.key]
        matrix, pull = jax.vjp(projection.unfold, projection.effective())
        assert matrix is not None
        return pull(gradient.reshape(matrix.shape))[0]
    if source.kind == "bias":
        bias = net.projections[source.key].bias
        assert bias is not None
        return gradient.reshape(bias.shape)
    value = jax.tree.leaves(split_parameters(net.populations[source.population])[0])[int(source.key)]
    units = gradient[0, :, 0]
    return units if value.ndim else jnp.sum(units)


def depth(net: Network, name: str) -> int:
    """d: how many state variables of a population carry gradient."""
    return len(jax.tree.leaves(split_state(resolve(net.populations[name]).init_state())[0]))


def shared(net: Network, name: str) -> list[bool]:
    """Of each state variable that carries gradient: whether its eligibility vectors are the same for all units."""
    neuron = resolve(net.populations[name])
    state = neuron.init_state()
    leaves = jax.tree.leaves(split_state(state)[0], is_leaf=lambda x: x is None)
    return [n in neuron.uniform() for n, x in zip(slots(state), leaves, strict=True) if x is not None]


def output_row(net: Network, name: str, variable: str | None) -> int:
    """Row of a Jacobian block that belongs to an output of the network.

    Raises:
        RuleError: the variable is a counter, which carries no gradient.
    """
    if variable is None:
        return depth(net, name)
    state = resolve(net.populations[name]).init_state()
    leaves = jax.tree.leaves(split_state(state)[0], is_leaf=lambda x: x is None)
    index = slots(state).index(variable)
    if leaves[index] is None:
        raise RuleError(f"{name}.{variable} is a counter and carries no gradient.")
    return sum(x is not None for x in leaves[:index])


def jacobian(net: Network, name: str, state: PyTree, current: Array, local: bool = True) -> Array:
    """The block of every unit: (d + 1, d + P + p, batch, units).

    Args:
        state: before the step, leaves (batch, units).
        current: (batch, units) or (batch, ports, units).
        local: of `local_step`, else of `step`.
    """
    neuron = net.populations[name]
    own, rest = split_parameters(neuron)
    floats, counters = split_state(state)
    leaves, treedef = jax.tree.flatten(floats)
    theta, theta_def = jax.tree.flatten(own)
    batch = current.shape[0]
    columns = jnp.moveaxis(current, 1, 0) if neuron.ports else current[None]
    d, ports = len(leaves), columns.shape[0]
    spread = [jnp.broadcast_to(x, (batch, neuron.size)) for x in theta]
    point = jnp.stack([*leaves, *columns, *spread])

    def rows(point: Array) -> Array:
        def one(point: Array, counters: PyTree) -> Array:
            model = eqx.combine(jax.tree.unflatten(theta_def, list(point[d + ports :])), rest)
            before = eqx.combine(jax.tree.unflatten(treedef, list(point[:d])), counters)
            take = model.local_step if local else model.step
            after, output = take(before, point[d : d + ports] if neuron.ports else point[d])
            return jnp.stack([*jax.tree.leaves(split_state(after)[0]), output])

        return jax.vmap(one, in_axes=(1, 0), out_axes=1)(point, counters)

    basis = jnp.broadcast_to(jnp.eye(len(point), dtype=net.dtype)[:, :, None, None], (len(point), *point.shape))
    return jnp.moveaxis(jax.vmap(lambda t: jax.jvp(rows, (point,), (t,))[1])(basis), 0, 1)


def columns_of(net: Network, source: Source) -> list[int]:
    """Columns of a Jacobian block through which a source acts."""
    d = depth(net, source.population)
    ports = max(len(net.populations[source.population].ports), 1)
    return [d + ports + int(source.key)] if source.kind == "parameter" else [d + p for p in source.ports]


def start(net: Network, source: Source, batch: int, pre: int) -> list[Array]:
    """Eligibility vector before the first step: zero, or what a parameter does to the initial state."""
    neuron = net.populations[source.population]
    if source.kind != "parameter":
        ports = len(source.ports)
        units = [1 if alike else neuron.size for alike in shared(net, source.population)]
        return [jnp.zeros((batch, ports, n, pre), net.dtype) for n in units]

    def initial(neuron: Neuron) -> list[Array]:
        floats = jax.tree.leaves(split_state(neuron.init_state())[0])
        return [jnp.broadcast_to(x, (neuron.size,)).astype(net.dtype) for x in floats]

    moved = _by_parameter(net, source, initial)
    return [jnp.broadcast_to(x[None, None, :, None], (batch, 1, neuron.size, 1)) for x in moved]


def _by_parameter(net: Network, source: Source, make: Callable[[Neuron], Any]) -> Any:
    """The derivative of what `make` finds of a source's population by the source's parameter, unit by unit."""
    neuron = net.populations[source.population]
    own, rest = split_parameters(neuron)
    leaves, treedef = jax.tree.flatten(own)
    wide = [jnp.broadcast_to(x, (neuron.size,)) for x in leaves]
    tangents = [jnp.ones_like(x) if i == int(source.key) else jnp.zeros_like(x) for i, x in enumerate(wide)]
    made = lambda *values: make(eqx.combine(jax.tree.unflatten(treedef, list(values)), rest))
    return jax.jvp(made, tuple(wide), tuple(tangents))[1]


def sets_first_output(net: Network, source: Source) -> bool:
    """Whether a source is a parameter that sets outputs before the first step."""
    with jax.ensure_compile_time_eval():
        ones = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype) if eqx.is_array(x) else x, net)
        return source.kind == "parameter" and bool(jnp.any(start_output(ones, source) != 0))


def start_output(net: Network, source: Source) -> Array:
    """What a parameter does to the outputs of its units before the first step: (size,)."""
    neuron = net.populations[source.population]
    if type(neuron).init_output is Neuron.init_output:
        return jnp.zeros(neuron.size, net.dtype)
    first = lambda neuron: jnp.broadcast_to(neuron.init_output(), (neuron.size,)).astype(net.dtype)
    return _by_parameter(net, source, first)  # type: ignore[no-any-return]


def advance(block: Array, eps: list[Array], columns: list[int], pre: Array, row: int) -> tuple[list[Array], Array]:
    """One step of a source's trace in its own population.

    Args:
        block: the population's Jacobian, (rows, columns, batch, units).
        eps: (batch, port, unit or 1, pre) of each of the d state variables.
        columns: the source's columns, one a port.
        pre: (batch, pre).
        row: which row is the output.

    Returns:
        The next eligibility vector, and the trace of `row`: (batch, port, unit, pre).
    """
    entry = jnp.stack([block[:, c] for c in columns], axis=2)

    def moved(r: int, units: int) -> Array:
        total = entry[r, :, :, :units, None] * pre[:, None, None, :]
        for c, x in enumerate(eps):
            if x.shape[2] <= units:  # what is the same for all units depends on nothing else
                total = total + block[r, c, :, None, :units, None] * x
        return total

    return [moved(r, x.shape[2]) for r, x in enumerate(eps)], moved(row, block.shape[-1])


def filter_trace(block: Array, filtered: list[Array], column: int, trace: Array, row: int) -> tuple[list[Array], Array]:
    """One step of a trace through a readout's own dynamics.

    Args:
        block: the readout's Jacobian, (rows, columns, batch, outputs).
        filtered: (batch, outputs or 1, port, unit, pre) of each of its d state variables.
        column: the current the trace enters by.
        trace: (batch, port, unit, pre).
        row: which row is the output.
    """
    units = filtered[0].shape[1] if filtered else block.shape[-1]
    block = block[..., :units, None, None, None]

    def moved(r: int) -> Array:
        total = block[r, column] * trace[:, None]
        for c, x in enumerate(filtered):
            total = total + block[r, c] * x
        return total

    return [moved(r) for r in range(len(filtered))], moved(row)


def check_direct(net: Network, paths: list[Path]) -> None:
    """Raise a RuleError unless every path goes straight from a learner to a readout, without delay, and all synapses
    that learn have weights of their own.

    Online and chunked evaluation carry a trace of each synapse through one current of a readout; longer or forked
    routes, and shared weights, need the offline evaluation.
    """
    carrying = {path.projection.name for path in paths if not path.projection.matrix}
    for name, projection in net.projections.items():
        if projection.reach and name in carrying:
            raise RuleError(
                f"projection {name!r} onto a readout carries errors back through delays that learn: use "
                "evaluation='offline', random feedback, or a Dense projection there."
            )
        if name in carrying or (projection.trainable and not (projection.matrix or projection.reach)):
            raise RuleError(
                f"projection {name!r} is a convolution, whose synapses share weights and have no traces of their own: "
                "use evaluation='offline'."
            )
    if backwards := net.reversed():
        raise RuleError(
            f"projection {backwards[0]!r} reads its source in reversed time, which takes whole trials: use "
            "evaluation='offline'."
        )
    entered: dict[tuple[str, str], int] = {}
    for path in paths:
        name, projection = path.projection.name, path.projection
        if projection.post not in readouts(net):
            raise RuleError(
                f"projection {name!r} passes errors through the stateless population {projection.post!r}: only "
                "evaluation='offline' can do that."
            )
        if projection.delay:
            raise RuleError(
                f"projection {name!r} onto a readout has a delay of {projection.delay}: online and chunked evaluation "
                "need 0 "
                "there (give delay=0, and a delay to what comes back from the readout), or use evaluation='offline'."
            )
        port = path_port(net, path)
        if entered.setdefault((projection.pre, projection.post), port) != port:
            raise RuleError(
                f"projections from {projection.pre!r} reach several currents of the readout {projection.post!r}: use "
                "evaluation='offline'."
            )


def path_port(net: Network, path: Path) -> int:
    """Index of the readout's current that a path enters by."""
    projection = path.projection
    ports = net.populations[projection.post].ports
    if ports and projection.port is None:
        raise RuleError(
            f"projection {projection.name!r} reaches several currents of a readout: use evaluation='offline'."
        )
    return ports.index(projection.port) if projection.port else 0
