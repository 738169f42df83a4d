"""Candidates timed in turn: each in a process of its own, one step at a time, so that a slow minute hits all of them.

Before anything is timed, each candidate's spikes, loss and (by BPTT) gradient on a small network in double precision
must be those of the equations; a candidate that computes something else is not timed.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import EngraxError
from .candidate import Variant
from .candidates import CANDIDATES
from .reference import run
from .workload import WORKLOADS

# In double precision on the small network; spikes must all be equal.
TOLERANCE = 1e-9
# Of the loss at full size: there single precision moves a spike sooner or later, and trajectories part after it.
LOOSE = 1e-3


class BenchError(EngraxError):
    """A candidate could not be run, or computes something else."""


class Worker:
    """A candidate's process; see `worker`."""

    def __init__(self, name: str, variant: Variant, workload: str, threads: int, small: bool = False) -> None:
        self.name, self.variant = name, variant
        # Torch's threads spin for a while after their work, on the cores of whoever is next.
        environment = {"JAX_PLATFORMS": "cpu", **os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        # A file, not a pipe: nobody reads it while the candidate runs.
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engrax.bench.worker", name, *variant, workload, str(threads), *["--small"] * small],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, what: str) -> dict[str, Any]:
        """Send a line and wait for the answer.

        Raises:
            BenchError: the candidate failed.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(what + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in found:
            raise BenchError(f"{self.name} ({' '.join(self.variant)}): {found['error']}")
        return found

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().split("\n")
        return next((line for line in reversed(lines) if line.strip()), "its process ended without a word")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


def race(
    workload: str,
    entrants: list[tuple[str, Variant]],
    say: Callable[[str], None],
    repeats: int = 7,
    threads: int = 2,
    patience: float = 60.0,
    at_once: int = 1,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Time training steps of one workload.

    Args:
        workload: its name.
        entrants: candidates by name, and what of each.
        say: told of progress.
        repeats: timed steps of each.
        threads: cores that each may use.
        patience: seconds of steps after which a candidate is not asked for another. One whose first step took longer
            is judged by that, compilation included (repeats is 0 and compile_seconds None).
        at_once: candidates that are checked, and compile, at the same time.

    Returns:
        a row for each entrant, fastest first, and a sentence for each that could not be timed. A row has workload,
        candidate, rule, evaluation, path; seconds (median of a step), fastest, slowest; compile_seconds (what the first
        step took longer); peak_mb (what the process came to hold beyond program and data), step_mb (what a step holds
        beyond the process between steps); repeats, threads; loss (at
        the first step); differences (from the equations, on the small network).
    """
    failures: list[str] = []
    workers: dict[tuple[str, Variant], Worker] = {}
    first: dict[tuple[str, Variant], dict[str, Any]] = {}
    checks: dict[tuple[str, Variant], dict[str, float]] = {}
    times: dict[tuple[str, Variant], list[float]] = {}
    memory: dict[tuple[str, Variant], dict[str, Any]] = {}
    expected, _ = run(WORKLOADS[workload], WORKLOADS[workload].arrays())
    try:

        def ready(entrant: tuple[str, Variant]) -> None:
            label = " ".join((entrant[0], *entrant[1]))
            try:
                checks[entrant] = check(workload, *entrant)
                say(f"{workload}: {label}: computes the same; compiling")
                workers[entrant] = Worker(*entrant, workload, threads)
                first[entrant] = workers[entrant].ask("step")
                if not abs(first[entrant]["loss"] / expected - 1) < LOOSE:
                    raise BenchError(
                        f"{label} starts {workload} at a loss of {first[entrant]['loss']}, not {expected}."
                    )
                times[entrant] = []
                if first[entrant]["seconds"] > patience:
                    memory[entrant] = workers[entrant].ask("peak")
                    workers.pop(entrant).close()
            except BenchError as error:
                failures.append(str(error))
                say(f"{workload}: {error}")

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(ready, entrants))
        for turn in range(repeats):
            for entrant, worker in workers.items():
                if entrant in times and sum(times[entrant]) < patience:
                    try:
                        times[entrant].append(worker.ask("step")["seconds"])
                    except BenchError as error:
                        failures.append(str(error))
                        del times[entrant]
            say(f"{workload}: round {turn + 1} of {repeats}")
        memory |= {entrant: workers[entrant].ask("memory") for entrant in set(times) & set(workers)}
        rows = []
        for (name, variant), measured in times.items():
            started = first[name, variant]["seconds"]
            seconds = measured or [started]
            median = statistics.median(seconds)
            rows.append(
                {
                    "workload": workload,
                    "candidate": name,
                    **variant._asdict(),
                    "seconds": median,
                    "compile_seconds": max(started - median, 0.0) if measured else None,
                    **memory[name, variant],
                    "repeats": len(measured),
                    "threads": threads,
                    "fastest": min(seconds),
                    "slowest": max(seconds),
                    "loss": first[name, variant]["loss"],
                    "differences": checks[name, variant],
                }
            )
        return sorted(rows, key=lambda row: row["seconds"]), failures
    finally:
        for worker in workers.values():
            worker.close()


def check(workload: str, name: str, variant: Variant) -> dict[str, float]:
    """Hold a candidate's small network against the equations.

    Returns:
        relative differences of loss and gradient, and the share of spikes that differ.

    Raises:
        BenchError: it computes something else.
    """
    worker = Worker(name, variant, workload, threads=1, small=True)
    try:
        found: dict[str, float] = worker.ask("look")
    finally:
        worker.close()
    wrong = {what: value for what, value in found.items() if not value <= (0 if what == "spikes" else TOLERANCE)}
    if wrong:
        raise BenchError(f"{name} ({' '.join(variant)}) computes something else on {workload}: differences {wrong}.")
    return found


def entrants(
    names: list[str] | None = None, rules: list[str] | None = None, evaluations: list[str] | None = None
) -> tuple[list[tuple[str, Variant]], list[str]]:
    """Everything that can be timed here, and the packages that are not installed.

    Args:
        names: only these candidates.
        rules: only these rules.
        evaluations: only these; a rule that has one only ("-") takes part.
    """

    def asked(variant: Variant) -> bool:
        fits = evaluations is None or variant.evaluation in ("-", *evaluations)
        return fits and (rules is None or variant.rule in rules)

    chosen = [c for name, c in CANDIDATES.items() if names is None or name in names]
    ready = [(c.name, v) for c in chosen if c.installed() for v in c().variants() if asked(v)]
    return ready, [c.package for c in chosen if not c.installed()]
