"""Backpropagation through time: delta is the full adjoint, through a unit's own state and through every synapse.

Exact for smooth networks; for spiking ones it is a surrogate gradient. `checkpoint` trades one more forward pass for
memory, `truncation` cuts the adjoint at block borders (Williams & Peng 1990 with blocks).
"""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..errors import ArgumentError, RuleError
from ..network import Network
from ..network.adjoint import backward
from ..network.cotangents import Adjoint, Cotangents, Path, split_parameters, split_state
from ..network.engine import forward
from ..trial import Trial
from .chunks import cut, padded
from .footprint import chunk_within
from .rates import count, counted, no_activity, penalty, rate_cotangents
from .rule import Rule, add, enter, gradient_tree, parameter_gradients, total_loss


def _block(name: str) -> Any:
    def convert(x: Any) -> Any:
        if x is None or (x is True and name == "checkpoint"):
            return x
        if isinstance(x, bool) or not isinstance(x, int) or x < 1:
            raise ArgumentError(f"BPTT: {name} must be a number of steps of at least 1, got {x!r}.")
        return x

    return convert


class BPTT(Rule):
    """Backpropagation through time.

    Args:
        checkpoint: steps a chunk; states are stored at chunk borders only and chunks are run again on the way back.
            True: about the square root of the number of steps. None: keep everything.
        memory_budget: bytes that states, outputs and errors may take, in place of `checkpoint`: the longest chunks that
            fit are chosen. None: no limit. Inputs, weights and the readout's outputs come on top.
        truncation: steps a block; no error crosses a block's border. None: no truncation.
        loss, reduction, scale, regularizers: see `Rule`.

    Cost: time of about two forward passes (three with checkpoints); memory T x (states + currents), with checkpoints
    chunk + T / chunk times that.

    Source: Werbos 1990; surrogate gradients, Neftci et al. 2019.
    """

    reference: ClassVar[str | None] = "full"

    checkpoint: int | bool | None = eqx.field(static=True, default=None, converter=_block("checkpoint"))
    truncation: int | None = eqx.field(static=True, default=None, converter=_block("truncation"))
    memory_budget: float | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.memory_budget is not None:
            budget = self.memory_budget
            if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
                raise ArgumentError(f"BPTT: memory_budget must be a number of bytes, got {budget!r}.")
            if self.checkpoint is not None:
                raise ArgumentError("BPTT: memory_budget chooses the chunks, so checkpoint must be left out.")
        if self.truncation is None or self.checkpoint is None or self.checkpoint is True:
            return
        if self.truncation % self.checkpoint:
            raise ArgumentError(
                f"BPTT: truncation ({self.truncation}) must be a multiple of checkpoint ({self.checkpoint})."
            )

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        size = self._chunk(net, trial)
        if size is not None and (backwards := net.reversed()):
            raise RuleError(
                f"projection {backwards[0]!r} reads its source in reversed time, which takes whole trials: leave out "
                "checkpoint, truncation and memory_budget."
            )
        return self._whole(net, trial) if size is None else self._chunked(net, trial, size)

    def _chunk(self, net: Network, trial: Trial) -> int | None:
        steps = trial.steps
        if self.memory_budget is not None:
            inputs = net.check_inputs(trial.inputs)
            return chunk_within(net, inputs, steps, trial.batch, self.memory_budget, self.truncation)
        if self.checkpoint is True:
            root = math.isqrt(steps - 1) + 1
            return root if self.truncation is None else math.gcd(self.truncation, root)
        size = self.checkpoint or self.truncation
        return None if size is None or (size >= steps) else size

    def _whole(self, net: Network, trial: Trial) -> tuple[Array, Network]:
        inputs = net.check_inputs(trial.inputs)
        names = counted(self.regularizers, net)
        losses = self.losses(net, trial)
        valid = trial.valid()
        outputs, _, _, tape = forward(net, inputs, net.init_state(trial.batch), tape="lean", parameters=True)
        loss, gradients = jax.value_and_grad(lambda y: total_loss(losses, y, trial, net))(outputs)
        entering, variables = enter(net, gradients)
        spikes = {n: tape.outputs[n] for n in names}
        start = no_activity(net, trial.batch)
        total = count(start, spikes, valid, names)
        entering = add(entering, rate_cotangents(self.regularizers, net, spikes, valid, total, start))
        cotangents = Cotangents(entering, variables, {}, {})
        adjoint = backward(net, tape, cotangents, self._paths(net), local=False, gradients=True)
        gradient = self._tree(net, adjoint)
        return loss + penalty(self.regularizers, net, total), gradient

    def _chunked(self, net: Network, trial: Trial, size: int) -> tuple[Array, Network]:
        names = counted(self.regularizers, net)
        losses = self.losses(net, trial)
        inputs = padded(net.check_inputs(trial.inputs), size)
        valid = padded(trial.valid(), size)
        start = (net.init_state(trial.batch), no_activity(net, trial.batch))

        def ahead(carry: Any, xs: Any) -> Any:
            state, activity = carry
            x, valid = xs
            outputs, after, recorded, _ = forward(net, x, state, record=names)
            return (after, count(activity, recorded, valid, names)), (outputs, state, activity)

        chunks = (cut(inputs, size), cut(valid, size))
        (_, total), (outputs, states, before) = jax.lax.scan(ahead, start, chunks)
        outputs = jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[: trial.steps], outputs)
        loss, gradients = jax.value_and_grad(lambda y: total_loss(losses, y, trial, net))(outputs)
        paths = self._paths(net)

        def back(carry: Any, xs: Any) -> Any:
            g_states, g_history, sums = carry
            index, (x, valid), state, activity, gradients = xs
            _, _, _, tape = forward(net, x, state, tape="lean", parameters=True)
            entering, variables = enter(net, gradients)
            spikes = {n: tape.outputs[n] for n in names}
            entering = add(entering, rate_cotangents(self.regularizers, net, spikes, valid, total, activity))
            cotangents = Cotangents(entering, variables, g_states, g_history)
            adjoint = backward(net, tape, cotangents, paths, local=False, gradients=True)
            found = (adjoint.weights, adjoint.biases, adjoint.parameters)
            keep = jnp.asarray(1.0, net.dtype)
            if self.truncation is not None:
                keep = jnp.where((index * size) % self.truncation == 0, 0, 1).astype(net.dtype)
            first = jnp.where(index == 0, 1, keep).astype(net.dtype)
            g_states = jax.tree.map(lambda g: g * first, adjoint.states)
            g_history = jax.tree.map(lambda g: g * first, adjoint.history)
            return (g_states, g_history, jax.tree.map(jnp.add, sums, found)), None

        count_chunks = inputs[next(iter(inputs))].shape[0] // size
        xs = (jnp.arange(count_chunks), chunks, states, before, cut(padded(gradients, size), size))
        zero = (float_zeros(start[0].neurons), jax.tree.map(jnp.zeros_like, start[0].history), zero_sums(net))
        (g_states, g_history, (weights, biases, parameters)), _ = jax.lax.scan(back, zero, xs, reverse=True)
        adjoint = Adjoint({}, parameters, g_states, g_history, weights, biases)
        return loss + penalty(self.regularizers, net, total), self._tree(net, adjoint)

    def _tree(self, net: Network, adjoint: Adjoint) -> Network:
        return gradient_tree(net, adjoint.weights, adjoint.biases, parameter_gradients(net, adjoint))

    def _paths(self, net: Network) -> list[Path]:
        """The ways that errors go."""
        return all_paths(net)


def all_paths(net: Network) -> list[Path]:
    """A path for every projection between populations, with its own weight."""
    return [Path(p, p.effective()) for p in net.projections.values() if p.pre in net.populations]


def float_zeros(states: dict[str, Any]) -> dict[str, Any]:
    """Zeros for the float leaves of every population's state."""
    return {n: jax.tree.map(jnp.zeros_like, split_state(s)[0]) for n, s in states.items()}


def zero_sums(net: Network) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
    """Where gradients are summed chunk by chunk: by effective weight, bias and parameter value."""
    moved = {n: p for n, p in net.projections.items() if p.trainable}
    weights = {n: jax.tree.map(jnp.zeros_like, p.effective()) for n, p in moved.items()}
    biases = {n: jnp.zeros_like(b) for n, p in moved.items() if (b := p.effective_bias()) is not None}
    own = {n: jax.tree.map(jnp.zeros_like, split_parameters(p)[0]) for n, p in net.populations.items()}
    return weights, biases, own
