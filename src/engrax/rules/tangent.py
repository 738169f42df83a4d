"""One step of a network, linearised: what becomes of a small change of its state, and of what enters its units.

    ds(t) = J ds(t-1) + D du(t),    dy(t) = Y ds(t-1) + Z du(t)

J is never written down: a unit's own Jacobian is a block (`traces.jacobian`), and between units there are the weights.
Rules that carry influence forwards in time are made of this map, of many changes at once, and of its transpose.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import RuleError
from ..network import Network, NetworkState
from ..network.engine import seen_by
from ..network.tape import Tape
from ..synapses import Projection
from . import traces


class Change(NamedTuple):
    """A change of a network's state, or many: trailing axes after the given ones.

    states[population]: of each state variable that carries gradient, (d, batch, units).  history[population]: of past
    outputs, (depth, batch, units), oldest first.  sums[label]: of the weighted sums of outputs that terminal losses
    read, (batch, outputs).
    """

    states: dict[str, Array]
    history: dict[str, Array]
    sums: dict[str, Array]


# Where a change's arrays have their trials, and their first trailing axis, for `jax.vmap`.
TRIALS: Any = Change(*(1, 1, 0))  # type: ignore[arg-type]
TRAILING: Any = Change(*(3, 3, 2))  # type: ignore[arg-type]


class Step(NamedTuple):
    """A step of a network, linearised.

    blocks: each population's Jacobian, (d + 1, d + ports + parameters, batch, units).  matrices: effective weights of
    projections between populations.  weights: (batch,) of this step in each terminal sum, by label.  valid: (batch,) of
    1 where a trial is not over yet, else 0.  after: the network's state after the step.  tape: what happened in it.
    """

    net: Network
    blocks: dict[str, Array]
    matrices: dict[str, Array]
    weights: dict[str, Array]
    valid: Array
    after: NetworkState
    tape: Tape

    def push(self, before: Change, entering: dict[str, Array]) -> tuple[Change, dict[str, Array]]:
        """The change after the step, and that of the outputs by label.

        Args:
            before: the change before it.
            entering: by population, (ports + parameters, batch, units): of its currents, then of its parameters. One
                that is left out is zero.
        """
        net = self.net
        states, now = self.move(before, entering)
        history = {n: jnp.concatenate([h[1:], now[n][None]]) for n, h in before.history.items()}
        seen = {}
        for spec in net.output_specs:
            row = traces.output_row(net, spec.population, spec.variable)
            seen[spec.label] = now[spec.population] if spec.variable is None else states[spec.population][row]
        sums = {
            label: total + self.weights[label].reshape(-1, *[1] * (total.ndim - 1)) * seen[label]
            for label, total in before.sums.items()
        }
        return Change(states, history, sums), seen

    def move(self, before: Change, entering: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """The change of states after the step, and that of all populations' outputs, each by population."""
        net, tail = self.net, next(iter(before.states.values())).shape[3:]
        now: dict[str, Array] = {}
        states: dict[str, Array] = {}
        for name in net.order:
            block, own = self.blocks[name], before.states[name]
            depth = own.shape[0]
            shape = (block.shape[1] - depth, *block.shape[2:], *tail)
            extra = entering[name] if name in entering else jnp.zeros(shape, net.dtype)
            for key, matrix in self.matrices.items():
                projection = net.projections[key]
                if projection.post == name:
                    extra = _entered(net, projection, extra, matrix, _seen(projection, before.history, now))
            wide = block.reshape(*block.shape, *[1] * len(tail))
            # Two sums: of one over both side by side XLA 0.10 makes code for CPUs that gives NaN or crashes.
            moved = jnp.sum(wide[:, :depth] * own[None], axis=1) + jnp.sum(wide[:, depth:] * extra[None], axis=1)
            states[name], now[name] = moved[:depth], moved[depth]
        return states, now

    def local(self, name: str) -> Array:
        """A population's Jacobian as local rules have it, with its own reset held constant: shaped like its block."""
        state = jax.tree.map(lambda x: x[0], self.tape.states[name])
        return traces.jacobian(self.net, name, state, self.tape.currents[name][0])

    def pull(self, after: Change, outputs: dict[str, Array]) -> tuple[Change, dict[str, Array]]:
        """The transpose of `push`: what errors after the step are of the change before it, and of what entered.

        Args:
            after: dE by the state after the step, shaped like it.
            outputs: dE by the outputs of the step, (batch, outputs), by label; those left out are zero.
        """
        net, batch = self.net, next(iter(self.blocks.values())).shape[2]
        before = nothing(net, batch, tuple(after.sums))
        entering = {
            n: jnp.zeros((block.shape[1] - before.states[n].shape[0], *block.shape[2:]), net.dtype)
            for n, block in self.blocks.items()
        }
        transposed = jax.linear_transpose(lambda x: self.push(*x), (before, entering))
        given = {
            spec.label: outputs.get(spec.label, jnp.zeros((batch, net.populations[spec.population].size), net.dtype))
            for spec in net.output_specs
        }
        return transposed((after, given))[0]  # type: ignore[no-any-return]


def linearise(net: Network, tape: Tape, after: NetworkState, weights: dict[str, Array], valid: Array) -> Step:
    """A run of one step, linearised around what happened in it."""
    blocks = {
        n: traces.jacobian(net, n, jax.tree.map(lambda x: x[0], tape.states[n]), tape.currents[n][0], local=False)
        for n in net.populations
    }
    return Step(net, blocks, matrices(net), weights, valid, after, tape)


def matrices(net: Network) -> dict[str, Array]:
    """Effective weights (*ports, post, seen) of projections between populations.

    Raises:
        RuleError: one has no matrix, or reads its source in reversed time.
    """
    found = {}
    for name, projection in net.projections.items():
        if projection.reverse:
            raise RuleError(
                f"projection {name!r} reads its source in reversed time, which takes whole trials: use BPTT."
            )
        if not (projection.matrix or projection.reach) and (projection.trainable or projection.pre in net.populations):
            raise RuleError(
                f"projection {name!r} is a convolution, which has no matrix to carry influence by: use BPTT."
            )
        if projection.pre in net.populations:
            matrix = projection.unfold(projection.effective())
            assert matrix is not None
            found[name] = matrix
    return found


def nothing(
    net: Network, batch: int, sums: tuple[str, ...], tail: tuple[int, ...] = (), sizes: dict[str, int] | None = None
) -> Change:
    """No change, with given trailing axes and terminal sums; of some units only, where `sizes` says of how many."""
    size = sizes or {n: p.size for n, p in net.populations.items()}
    zero = lambda *shape: jnp.zeros((*shape, *tail), net.dtype)
    labels = {spec.label: spec.population for spec in net.output_specs}
    return Change(
        {n: zero(traces.depth(net, n), batch, size[n]) for n in net.populations},
        {n: zero(depth, batch, size[n]) for n, depth in net.depths().items() if n in size and depth},
        {label: zero(batch, size[labels[label]]) for label in sums},
    )


def _seen(projection: Projection, past: dict[str, Array], now: dict[str, Array]) -> Array:
    """What a projection reads: (batch, pre), or where it sees several steps these side by side, oldest first."""
    read = seen_by(projection, past, now)
    return jnp.concatenate(list(read), axis=1) if projection.reach else read


def _entered(net: Network, projection: Projection, entering: Array, matrix: Array, seen: Array) -> Array:
    """What enters a population, with what comes through one more projection."""
    ports = net.populations[projection.post].ports
    # Said in numbers, since there may be no units at all.
    flat = seen.reshape(*seen.shape[:2], math.prod(seen.shape[2:]))
    added: Any = jnp.einsum("...kj,bjx->...bkx", matrix, flat)
    added = added.reshape(*added.shape[:-1], *seen.shape[2:])
    if projection.port is not None:
        return entering.at[ports.index(projection.port)].add(added)
    # A weight with ports has one current for each; any other adds the same to all.
    count = max(len(ports), 1)
    return entering.at[:count].add(added)
