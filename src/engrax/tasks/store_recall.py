"""Store and recall: keep a symbol that came with the command to store, say it at the command to recall.

Bellec et al. 2018 (LSNN), with the settings of the authors' program; a test of working memory over seconds.
"""

from collections.abc import Iterator
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..errors import TaskError
from ..trial import Trial
from .scoring import Decisions, step_decisions, step_weights
from .settings import boolean, check_batch, check_split, integer, number
from .task import SPLITS, Split, Task


class StoreRecall(Task):
    """Store-recall. Metric: accuracy, of the largest output on average over each slot of recall.

    A trial is a row of slots. While nothing is stored, a slot is one of storing with `probability`: the store group
    and a random symbol's group fire. While something is, a slot is one of recall with the same probability: the recall
    group fires, the symbol is asked, and the memory is free again. In all other slots inputs are silent.

    Settings:
        symbols: number of symbols.
        slots, slot: slots of a trial, and their duration in ms (whole).
        group: input units a group; there are `symbols` + 2 groups: symbols, store, recall.
        rate: firing rate in Hz of a group that is on.
        probability: of a command in a slot where one may come.
        distractors: whether random symbols are shown in the slots without a command, too, to be ignored.
        trials, validation_trials: trials in a pass of `batches`, over "train" or "test" and over "validation".
        seed: fixes those trials.

    Trials: inputs (time, batch, (symbols + 2) group), spikes 0 or 1; targets (time, batch), the symbol asked in slots
    of recall, 0 elsewhere; mask (time, batch), 1 in slots of recall. `sample` draws new trials at every key.

    Raises:
        TaskError: a setting has an impossible value.
    """

    name: ClassVar[str] = "store_recall"

    symbols: int = eqx.field(static=True, default=2, converter=integer("symbols", 2))
    slots: int = eqx.field(static=True, default=12, converter=integer("slots", 2))
    slot: int = eqx.field(static=True, default=200, converter=integer("slot", 1))
    group: int = eqx.field(static=True, default=25, converter=integer("group", 1))
    rate: float = eqx.field(static=True, default=50.0, converter=number("rate", 0.0, 1000.0, exclusive=True))
    probability: float = eqx.field(
        static=True, default=1 / 7, converter=number("probability", 0.0, 1.0, exclusive=True)
    )
    distractors: bool = eqx.field(static=True, default=False, converter=boolean("distractors"))
    trials: int = eqx.field(static=True, default=1000, converter=integer("trials", 1))
    validation_trials: int = eqx.field(static=True, default=320, converter=integer("validation_trials", 1))
    seed: int = eqx.field(static=True, default=0, converter=integer("seed", 0))

    @property
    def input_size(self) -> int:
        return (self.symbols + 2) * self.group

    @property
    def output_size(self) -> int:
        return self.symbols

    @property
    def dt(self) -> float:
        return 1.0

    @property
    def steps(self) -> int:
        """Steps of a trial."""
        return self.slots * self.slot

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """`batch` new trials; the same key gives other trials for another split. Pure.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        key = jax.random.fold_in(key, SPLITS.index(check_split(split)))
        return _draw(self, jax.random.split(key, check_batch(batch)))

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        """The fixed trials of `split`; trial i is the same whatever the size of the batch.

        Raises:
            TaskError: `batch` is not a positive integer or `split` is unknown.
        """
        batch = check_batch(batch)
        count = self.validation_trials if check_split(split) == "validation" else self.trials
        key = jax.random.fold_in(jax.random.key(self.seed), SPLITS.index(split))
        starts = range(0, count, batch)
        return (_pass(self, key, jnp.arange(start, min(start + batch, count))) for start in starts)

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Share of recalls answered rightly."""
        decided, wanted, weights = self.decisions(outputs, trial)
        known = ~jnp.any(jnp.isnan(self._by_slot(outputs)), axis=-1)
        right = ((decided == wanted) & known).astype(weights.dtype)
        total = jnp.sum(weights)
        return jnp.sum(right * weights) / jnp.where(total > 0, total, 1)

    def weight(self, trial: Trial) -> Float[Array, ""]:
        """Number of recalls."""
        return jnp.sum(self._by_slot(step_weights(trial)[..., None])[..., 0])

    def decisions(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Decisions:
        """One decision a slot; only those of recall count."""
        weights = self._by_slot(step_weights(trial)[..., None])[..., 0]
        return step_decisions(self._by_slot(outputs), trial.targets[:: self.slot], weights)

    def _by_slot(self, x: Float[Array, "time batch n"]) -> Float[Array, "slots batch n"]:
        if x.shape[0] != self.steps:
            raise TaskError(f"store_recall: trials have {self.steps} steps, got {x.shape[0]}.")
        return jnp.mean(x.reshape(self.slots, self.slot, *x.shape[1:]), axis=1)

    def _commands(
        self, chances: Float[Array, "slots batch"], shown: Int[Array, "slots batch"]
    ) -> tuple[Array, Array, Array]:
        """Whether each slot is one of storing and one of recall, and the symbol in memory: (slots, batch) each."""

        def slot(memory: tuple[Array, Array], xs: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
            full, kept = memory
            command, symbol = xs
            store, recall = command & ~full, command & full
            kept = jnp.where(store, symbol, kept)
            return (full ^ command, kept), (store, recall, kept)

        empty = jnp.zeros(shown.shape[1], bool), jnp.zeros(shown.shape[1], shown.dtype)
        store, recall, kept = jax.lax.scan(slot, empty, (chances < self.probability, shown))[1]
        return store, recall, kept


@eqx.filter_jit
def _draw(task: StoreRecall, keys: Array) -> Trial:
    """A trial for each key."""
    # All of a trial's random numbers in one call, because the generator's code is what takes long to compile.
    size = 2 * task.slots + task.steps * 2 * task.group
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (size,)))(keys)
    chances, symbols, rest = jnp.split(uniform, [task.slots, 2 * task.slots], axis=1)
    # A number just below 1 may round up to the one after the last symbol.
    shown = jnp.minimum((symbols.T * task.symbols).astype(jnp.int32), task.symbols - 1)
    store, recall, kept = task._commands(chances.T, shown)
    visible = ~recall if task.distractors else store
    on = jnp.concatenate(
        [
            jax.nn.one_hot(shown, task.symbols, dtype=bool) & visible[..., None],
            store[..., None],
            recall[..., None],
        ],
        axis=-1,
    )
    # One symbol and one command at most are on at a step, so two streams of spikes serve all groups.
    rest = jnp.swapaxes(rest.reshape(-1, task.steps, 2, task.group), 0, 1) < task.rate / 1000.0
    stream = jnp.concatenate(
        [jnp.repeat(rest[:, :, :1], task.symbols, axis=2), jnp.repeat(rest[:, :, 1:], 2, axis=2)], axis=2
    )
    spikes = (jnp.repeat(on, task.slot, axis=0)[..., None] & stream).reshape(task.steps, keys.shape[0], task.input_size)
    asked = jnp.repeat(recall, task.slot, axis=0)
    targets = jnp.where(asked, jnp.repeat(kept, task.slot, axis=0), 0).astype(jnp.int32)
    dtype = jnp.result_type(float)
    return Trial(spikes.astype(dtype), targets, asked.astype(dtype))


@eqx.filter_jit
def _pass(task: StoreRecall, key: PRNGKeyArray, index: Int[Array, " batch"]) -> Trial:
    return _draw(task, jax.vmap(lambda i: jax.random.fold_in(key, i))(index))
