"""Store and recall: keep a symbol that came with the command to store, say it at the command to recall.

Bellec et al. 2018 (LSNN), with the settings of the authors' program; a test of working memory over seconds.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..errors import TaskError
from ..trial import Trial
from .drawn import DrawnTask
from .scoring import Decisions, step_decisions, step_weights
from .settings import boolean, integer, number


class StoreRecall(DrawnTask):
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
        trials, validation_trials, seed: see `DrawnTask`.

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

    def draw(self, keys: Array) -> Trial:
        """A trial for each key."""
        # All of a trial's random numbers in one call, because the generator's code is what takes long to compile.
        size = 2 * self.slots + self.steps * 2 * self.group
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (size,)))(keys)
        chances, symbols, rest = jnp.split(uniform, [self.slots, 2 * self.slots], axis=1)
        # A number just below 1 may round up to the one after the last symbol.
        shown = jnp.minimum((symbols.T * self.symbols).astype(jnp.int32), self.symbols - 1)
        store, recall, kept = self._commands(chances.T, shown)
        visible = ~recall if self.distractors else store
        on = jnp.concatenate(
            [
                jax.nn.one_hot(shown, self.symbols, dtype=bool) & visible[..., None],
                store[..., None],
                recall[..., None],
            ],
            axis=-1,
        )
        # One symbol and one command at most are on at a step, so two streams of spikes serve all groups.
        rest = jnp.swapaxes(rest.reshape(-1, self.steps, 2, self.group), 0, 1) < self.rate / 1000.0
        stream = jnp.concatenate(
            [jnp.repeat(rest[:, :, :1], self.symbols, axis=2), jnp.repeat(rest[:, :, 1:], 2, axis=2)], axis=2
        )
        spikes = (jnp.repeat(on, self.slot, axis=0)[..., None] & stream).reshape(
            self.steps, keys.shape[0], self.input_size
        )
        asked = jnp.repeat(recall, self.slot, axis=0)
        targets = jnp.where(asked, jnp.repeat(kept, self.slot, axis=0), 0).astype(jnp.int32)
        dtype = jnp.result_type(float)
        return Trial(spikes.astype(dtype), targets, asked.astype(dtype))

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
