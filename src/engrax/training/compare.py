"""Several rules on one footing: the same network, data and budget, and only the rule changes."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from ..analysis import Alignment, Angle, Slope, alignment, check_escape, escape_slopes
from ..network import Network
from ..trial import Episodes, Trial
from .block import one_of
from .build import Built
from .run import Run


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One rule's part.

    Attributes:
        run: its training.
        alignments: its gradient beside the reference's, of the first seed's network: (step, alignment), along training.
        gradient_seconds: time of one loss and gradient of one network, the best of several, compilation apart.
        gradient_mb: memory that the compiled program of one loss and gradient needs beyond its inputs and results.
        expected: by projection, how the expected loss under escape noise rises along the rule's gradient, for the
            network that was best; None where it was not asked for.
    """

    run: Run
    alignments: list[tuple[int, Alignment]]
    gradient_seconds: float
    gradient_mb: float
    expected: dict[str, Slope] | None = None


def compare(
    built: Built, out: Path | None = None, resume: bool = False, progress: bool = True, escape: int = 0
) -> Comparison:
    """Train by one rule, and look at its gradient along the way.

    Args:
        built: the parts of a recipe.
        out, resume, progress: as for `fit`.
        escape: draws of spike trains for the gradient of the expected loss under escape noise; 0: do without.
    """
    if escape:
        check_escape(built.net)
    settings = built.training
    key = jax.random.key(settings.seed)
    # The same trials for every rule, and none that it trains on.
    trial = built.task.sample(jax.random.fold_in(key, 2**32 - 2), settings.batch, "validation")
    many = settings.seeds is not None

    def watch(step: int, nets: Network) -> dict[str, Any]:
        return {"alignment": as_dict(alignment(one_of(nets, 0, many), trial, built.rule, key))}

    run = built.fit(out=out, resume=resume, watch=watch, progress=progress)
    seconds, megabytes = _cost(run.network, built, trial)
    expected = escape_slopes(run.network, trial, built.rule, key, escape) if escape else None
    return Comparison(run, [(e["step"], from_dict(e["alignment"])) for e in run.history], seconds, megabytes, expected)


def as_dict(found: Alignment) -> dict[str, Any]:
    """An alignment as plain values."""
    projections = {name: angle._asdict() for name, angle in found.projections.items()}
    return {**found._asdict(), "projections": projections}


def from_dict(values: dict[str, Any]) -> Alignment:
    """The alignment that `as_dict` wrote, also after a journey through JSON, where NaN becomes None."""

    def number(x: float | None) -> float:
        return float("nan") if x is None else x

    angles = {n: Angle(*(number(a[f]) for f in Angle._fields)) for n, a in values["projections"].items()}
    return Alignment(values["reference"], angles, number(values["decrease"]), number(values["reference_decrease"]))


def _cost(net: Network, built: Built, trial: Trial | Episodes) -> tuple[float, float]:
    """Seconds and megabytes of one loss and gradient."""
    arrays, rest = eqx.partition((net, trial), eqx.is_array)

    def gradient(arrays: PyTree) -> tuple[Array, PyTree]:
        loss, grads = built.rule.value_and_grad(*eqx.combine(arrays, rest))
        return loss, eqx.filter(grads, eqx.is_array)

    compiled = jax.jit(gradient).lower(arrays).compile()
    jax.block_until_ready(compiled(arrays))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(compiled(arrays))
        times.append(time.perf_counter() - started)
    needs = compiled.memory_analysis()
    return min(times), float("nan") if needs is None else needs.temp_size_in_bytes / 2**20
