"""Mackey and Glass's equation: what comes next in a chaotic series, and how long a network can go on by itself.

    dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t)

Samples, lengths and the score are those of the NeuroBench task; the series is integrated here.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Network
from ..trial import Trial
from .settings import check_batch, check_split, integer, number
from .task import Split, Task

# Of each delay: Lyapunov time and the constant past, as NeuroBench has them (huggingface.co/datasets/NeuroBench).
SYSTEMS = {17: (197.0, 0.72066), 18: (138.0, 0.774431), 19: (315.0, 0.778347), 20: (131.0, 0.922599)}
SYSTEMS |= {21: (191.0, 0.947943), 22: (119.0, 0.545596), 23: (106.0, 0.862225), 24: (97.0, 0.325966)}
SYSTEMS |= {25: (98.0, 0.829783), 26: (104.0, 1.003349), 27: (112.0, 0.649141), 28: (119.0, 1.09575)}
SYSTEMS |= {29: (131.0, 0.925618), 30: (139.0, 0.271364)}
SAMPLES, TRAINED, TESTED, BEGINNING, ORDER = 75, 10, 10, 25, 7


class MackeyGlass(Task):
    """The next sample of a Mackey-Glass series. Metric: loss, the mean squared error.

    Settings:
        tau: the equation's delay, 17 to 30; larger ones are more chaotic.
        offset: Lyapunov times after which the trial begins.
        fine: steps a sample; between samples the series is a spline through those that are shown.

    Trials: the one there is, of 10 Lyapunov times, 75 samples each: inputs (750 fine, batch, 1), the series; targets
    the same, a step later; the first third of a Lyapunov time, in which a network has little to go by, does not
    count. Validation is its last tenth; test trials are the 10 Lyapunov times that follow. dt is in the equation's own
    time.

    `forecast` is what is compared: the network goes on from what it predicted, without seeing the series again.

    Source: Mackey & Glass 1977; Yik et al. 2025 (NeuroBench).

    Raises:
        TaskError: a setting has an impossible value.
    """

    name: ClassVar[str] = "mackey_glass"
    metric: ClassVar[Literal["accuracy", "loss"]] = "loss"

    series: Float[Array, " samples"]
    shown: dict[str, Float[Array, " steps"]]
    tau: int = eqx.field(static=True)
    fine: int = eqx.field(static=True)

    def __init__(self, tau: int = 17, offset: float = 0.0, fine: int = 1) -> None:
        self.tau, self.fine = integer("tau", 17, 30)(tau), integer("fine", 1)(fine)
        offset = number("offset", 0, 100)(offset)
        span = SYSTEMS[self.tau][0]
        samples = SAMPLES * (TRAINED + TESTED) + 1
        times = (offset + np.arange(samples) / SAMPLES) * span
        series = solution(self.tau, SYSTEMS[self.tau][1], times)
        self.series = jnp.asarray(series, jnp.result_type(float))
        middle = SAMPLES * TRAINED
        parts = {"train": series[: middle + 1], "test": series[middle:]}
        self.shown = {n: jnp.asarray(self._between(x), jnp.result_type(float)) for n, x in parts.items()}

    def _between(self, samples: np.ndarray) -> np.ndarray:
        from scipy.interpolate import make_interp_spline

        places = np.arange((len(samples) - 1) * self.fine + 1) / self.fine
        return np.asarray(make_interp_spline(np.arange(len(samples)), samples, k=ORDER)(places))

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    @property
    def dt(self) -> float:
        return SYSTEMS[self.tau][0] / SAMPLES / self.fine

    def sample(self, key: PRNGKeyArray, batch: int, split: Split = "train") -> Trial:
        """The trial, as often as asked: nothing is drawn."""
        trial = self._trial(check_split(split))
        many = lambda x: jnp.broadcast_to(x, (x.shape[0], check_batch(batch), *x.shape[2:]))
        return Trial(many(trial.inputs), many(trial.targets), None if trial.mask is None else many(trial.mask))

    def batches(self, split: Split, batch: int) -> Iterator[Trial]:
        check_batch(batch)
        yield self._trial(check_split(split))

    def _trial(self, split: Split) -> Trial:
        x = self.shown["test" if split == "test" else "train"][:, None, None]
        inputs, targets = x[:-1], x[1:]
        step = jnp.arange(len(inputs)) // self.fine
        held = step >= SAMPLES * (TRAINED - 1)
        mask = {"test": None, "validation": held, "train": ~held & (step >= BEGINNING)}[split]
        return Trial(inputs, targets, None if mask is None else mask[:, None].astype(x.dtype))

    def score(self, outputs: Float[Array, "time batch outputs"], trial: Trial) -> Float[Array, ""]:
        """Mean squared error over the steps that count."""
        weight = jnp.ones(outputs.shape[:2], outputs.dtype) if trial.mask is None else trial.mask
        away = jnp.square(outputs - trial.targets)[..., 0]
        return jnp.sum(weight * away) / jnp.sum(weight)

    def forecast(self, net: Network, lead: int = 0) -> tuple[Float[Array, " samples"], Float[Array, " samples"]]:
        """Ten Lyapunov times that a network makes by itself after having seen the ten before, and those that were.

        Args:
            net: the network.
            lead: samples at the end that it is not shown: it is by itself from there on. A spline is least sure at its
                end, and a network may know better what lies between the last samples.

        Returns:
            predictions and truth, (750,).
        """
        seen = self._trial("train")
        lead = integer("lead", 0, SAMPLES * TRAINED - 1)(lead)
        ran = net.run(seen.inputs[: len(seen.inputs) - lead * self.fine])

        def on(carry: Any, _: None) -> tuple[Any, Array]:
            state, x = carry
            state, y = net.step(state, x)
            return (state, y), x[0, 0]

        first = (ran.state, ran.outputs[-1])
        steps = (SAMPLES * TESTED + lead) * self.fine
        found = jax.jit(lambda first: jax.lax.scan(on, first, None, steps)[1])(first)[:: self.fine][lead:]
        return found, self.series[SAMPLES * TRAINED : SAMPLES * (TRAINED + TESTED)].astype(found.dtype)


def smape(predictions: Float[Array, " samples"], truth: Float[Array, " samples"]) -> float:
    """Symmetric mean absolute percentage error: 200 times the mean of |p - t| / (|p| + |t|)."""
    away = jnp.abs(predictions - truth) / (jnp.abs(predictions) + jnp.abs(truth))
    return float(200 * jnp.mean(away))


def solution(tau: float, past: float, times: np.ndarray, steps: int = 170) -> np.ndarray:
    """The equation's solution at increasing times from a constant past, by Runge and Kutta's steps of fourth order, so
    many in a delay; what lies between them is read off cubic Hermite curves of the same order."""
    h = tau / steps
    count = int(np.ceil(times[-1] / h)) + 2
    x, slope = np.empty(count + 1), np.empty(count + 1)
    feed = lambda late: 0.2 * late / (1 + late**10)
    x[0] = past

    def between(k: int, part: float) -> float:
        if k < 0:
            return past
        a, b = x[k], x[k + 1]
        if part == 0.5:
            return (a + b) / 2 + h * (slope[k] - slope[k + 1]) / 8
        return a if part == 0 else b

    for k in range(count):
        late = k - steps
        begin, middle, end = between(late, 0.0), between(late, 0.5), between(late, 1.0)
        slope[k] = first = feed(begin) - 0.1 * x[k]
        second = feed(middle) - 0.1 * (x[k] + h / 2 * first)
        third = feed(middle) - 0.1 * (x[k] + h / 2 * second)
        fourth = feed(end) - 0.1 * (x[k] + h * third)
        x[k + 1] = x[k] + h / 6 * (first + 2 * second + 2 * third + fourth)
    slope[count] = feed(between(count - steps, 0.0)) - 0.1 * x[count]
    k = np.minimum((times / h).astype(int), count - 1)
    s = times / h - k
    a = (1 + 2 * s) * (1 - s) ** 2 * x[k] + s**2 * (3 - 2 * s) * x[k + 1]
    return a + h * (s * (1 - s) ** 2 * slope[k] - s**2 * (1 - s) * slope[k + 1])
