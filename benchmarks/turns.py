"""Two forms of a training step timed in turn: each in a process of its own, one step at a time."""

import os
import statistics
from typing import Any

from engrax.bench.candidate import Variant
from engrax.bench.race import Worker


def compare(workload: str, variant: Variant, settings: dict[str, dict[str, str]], repeats: int) -> dict[str, Any]:
    """Medians, compilation apart, and how many times as fast the second form is.

    Args:
        workload, variant: what is timed, as `engrax bench` names it.
        settings: of each of two forms by its name, what the environment of its process says.
        repeats: timed steps of each.
    """
    workers = {}
    for name, environment in settings.items():
        os.environ |= environment
        workers[name] = Worker("engrax", variant, workload, threads=os.cpu_count() or 1)
    losses = {name: w.ask("step")["loss"] for name, w in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(repeats):
        for name, w in workers.items():
            times[name].append(w.ask("step")["seconds"])
    peaks = {name: w.ask("memory")["peak_mb"] for name, w in workers.items()}
    for w in workers.values():
        w.close()
    first, second = (statistics.median(x) for x in times.values())
    return {
        "ratio": round(first / second, 2),
        "seconds": {name: round(statistics.median(x), 3) for name, x in times.items()},
        "fastest": {name: round(min(x), 3) for name, x in times.items()},
        "peak_mb": peaks,
        "first_loss": losses,
        "repeats": repeats,
    }
