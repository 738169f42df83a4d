"""Accumulation of evidence for a reward: the cues of `evidence`, one answer at the end, right or wrong."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ...errors import TaskError
from ...tasks.evidence import Evidence
from ...tasks.settings import integer, number
from ..actions import Discrete
from ..environment import Environment


class CueState(NamedTuple):
    """What will be shown, how much of it was, and the right answer."""

    spikes: Float[Array, "windows hold inputs"]
    shown: Int[Array, ""]
    answer: Int[Array, ""]


class RewardEvidence(Environment):
    """Seven cues left or right, a long silence, then an answer: 1 for the side that had more cues, -1 for the other.

    Time goes by in windows of `hold` ms. The critic speaks at the end of each, the answer is the action at the end of
    the last; actions before it do nothing, and no credit is given for them. Observation: the input units' spikes in the
    coming window, (hold, inputs).

    Settings:
        hold: of a window, ms; the trial must consist of whole ones.
        cues, cue, gap, delay, recall, group, rate, noise, probability: see `engrax.tasks.Evidence`.

    `metrics` gives "accuracy" beside the return.

    Source: the task, Bellec et al. 2020, Fig. 3; by rewards, their section on reward-based e-prop, which gives no
    settings: these are the supervised task's.
    """

    name: ClassVar[str] = "reward_evidence"

    hold: int = eqx.field(static=True, default=150, converter=integer("hold", 1))
    cues: int = eqx.field(static=True, default=7, converter=integer("cues", 1))
    cue: int = eqx.field(static=True, default=100, converter=integer("cue", 1))
    gap: int = eqx.field(static=True, default=50, converter=integer("gap", 0))
    delay: int = eqx.field(static=True, default=1050, converter=integer("delay", 0))
    recall: int = eqx.field(static=True, default=150, converter=integer("recall", 1))
    group: int = eqx.field(static=True, default=10, converter=integer("group", 1))
    rate: float = eqx.field(static=True, default=40.0, converter=number("rate", 0.0, 1000.0, exclusive=True))
    noise: float = eqx.field(static=True, default=10.0, converter=number("noise", 0.0, 1000.0))
    probability: float = eqx.field(static=True, default=0.3, converter=number("probability", 0.0, 0.5))

    def __check_init__(self) -> None:
        steps = self._task().steps
        if steps % self.hold:
            raise TaskError(f"hold must divide the trial of {steps} ms into whole windows, got {self.hold}.")

    def _task(self) -> Evidence:
        names = ("cues", "cue", "gap", "delay", "recall", "group", "rate", "noise", "probability")
        return Evidence(**{name: getattr(self, name) for name in names})

    @property
    def dt(self) -> float:
        """1 ms."""
        return 1.0

    @property
    def input_size(self) -> int:
        """Four groups: left, right, recall, noise."""
        return 4 * self.group

    @property
    def actions(self) -> Discrete:
        """Left, right."""
        return Discrete(2)

    @property
    def length(self) -> int:
        """Windows of a trial."""
        return self._task().steps // self.hold

    def reset(self, key: PRNGKeyArray) -> tuple[CueState, Float[Array, "hold inputs"]]:
        trial = self._task().draw(key[None])
        spikes = trial.inputs.reshape(self.length, self.hold, self.input_size)
        return CueState(spikes, jnp.zeros((), jnp.int32), trial.targets[-1, 0]), spikes[0]

    def step(
        self, state: CueState, action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[CueState, Float[Array, "hold inputs"], Float[Array, ""], Bool[Array, ""]]:
        new = state._replace(shown=state.shown + 1)
        over = new.shown == self.length
        reward = jnp.where(over, jnp.where(action.astype(jnp.int32) == state.answer, 1.0, -1.0), 0.0)
        return new, new.spikes[jnp.minimum(new.shown, self.length - 1)], reward, over

    def asks(self, state: CueState) -> Bool[Array, ""]:
        """At the end of the last window."""
        return state.shown == self.length - 1

    def draw(self, axis: Any, state: Any, observation: Any) -> None:
        """The input spikes of the window to come."""
        at, unit = observation.nonzero()
        axis.plot(at, unit, linestyle="none", marker="|", color="black")
        axis.set(xlim=(0, self.hold), ylim=(-1, self.input_size), xlabel="time (ms)", ylabel="input unit")

    def encode(self, observation: Float[Array, "hold inputs"], key: PRNGKeyArray) -> Float[Array, "hold inputs"]:
        """The spikes as they are."""
        return observation

    def metrics(self, outputs: Any, trial: Any) -> dict[str, Array | tuple[Array, Array]]:
        return {"accuracy": jnp.mean((jnp.sum(trial.rewards, axis=0) + 1) / 2)}
