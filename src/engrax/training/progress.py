"""Progress on standard error: a bar with an estimate of the time left on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

import numpy as np


class Progress:
    """Use as a context: `advance` after each block of steps, `validated` after each validation, `say` for the rest.

    Args:
        steps: steps in all.
        metric: "accuracy", "loss" or "return", what validation gives.
        show: False is silent.
    """

    def __init__(self, steps: int, metric: str, show: bool) -> None:
        self.steps, self.metric, self.show = steps, metric, show
        self.started = time.perf_counter()
        self.compiled: tuple[int, float] | None = None  # steps made and time when the first block was back
        self.bar: Any = None
        self.measured = ""

    def __enter__(self) -> "Progress":
        if self.show and sys.stderr.isatty():
            self.bar, self.task = _bar(self.steps)
            self.bar.start()
        else:
            self.say("compiling")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def resumed(self, done: int) -> None:
        """A run goes on that had made `done` steps."""
        self.say(f"going on at step {done}" if done else "no checkpoint yet: starting at the beginning")
        if self.bar is not None:
            self.bar.update(self.task, completed=done)

    def advance(self, done: int, losses: np.ndarray) -> None:
        """`done` steps are made; `losses` are those of the last block."""
        self.compiled = self.compiled or (done, time.perf_counter())
        if self.bar is not None:
            self.bar.update(self.task, completed=done, figures=f"loss {np.mean(losses):.4g}{self.measured}")

    def validated(self, entry: dict[str, Any]) -> None:
        """A line of the history is there."""
        value = entry[f"validation_{self.metric}"]
        text = f"{value:.1%}" if self.metric == "accuracy" else f"{value:.4g}"
        self.measured = f"  validation {self.metric} {text}"
        if self.bar is None:
            done, now = entry["step"], time.perf_counter()
            line = f"step {done}/{self.steps}  loss {entry['loss']:.4g}{self.measured}  {now - self.started:.0f} s"
            # The first block includes compilation and says nothing about the rest.
            if self.compiled is not None and done > self.compiled[0]:
                left = (now - self.compiled[1]) / (done - self.compiled[0]) * (self.steps - done)
                line += f", about {left:.0f} s left"
            self.say(line)

    def say(self, text: str) -> None:
        """A line of words."""
        if not self.show:
            return
        if self.bar is not None:
            self.bar.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)


def _bar(steps: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True),
    )
    return bar, bar.add_task("", total=steps, figures="compiling")
