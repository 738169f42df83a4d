"""What a rule would take before it runs: memory from the compiled program, time from a few of its steps."""

import os
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ..errors import ArgumentError
from ..network import Network
from ..rules import Rule
from ..trial import Trial

# Longer trials are timed by as many of their steps: by both numbers, or where the first takes long by that alone.
STEPS = (5, 50)
LONG = 1.0  # seconds
SHORT = 0.1


class Planned(NamedTuple):
    """Of one gradient on one batch: bytes held at its worst, and seconds; `timed` of its `steps` were run for it.

    seconds is None where the machine has not the memory to try.
    """

    memory: int
    seconds: float | None
    steps: int
    timed: int


def plan(net: Network, rule: Rule, trial: Any, key: PRNGKeyArray | None = None) -> Planned:
    """What `rule.value_and_grad(net, trial)` would take.

    Memory is what XLA plans for the program: inputs, results, and the most that it holds between them; the process
    itself and compilation come on top. Time is on a line through those of a trial's first `STEPS` steps.

    Args:
        net: the network; the rule is bound here.
        rule: any rule.
        trial: a batch, a `Trial`.
        key: for rules that draw random numbers; None: `jax.random.key(0)`.

    Raises:
        ArgumentError: there are no trials but an environment's episodes.
        RuleError, LossError, MemoryBudgetError: the rule cannot do this on this network.
    """
    if not isinstance(trial, Trial):
        raise ArgumentError(
            "plan is for tasks of trials: an environment's episodes are as long as the agent makes them."
        )
    key = jax.random.key(0) if key is None else key
    bound = rule.bind(net, key)
    whole, _ = compiled(bound, rule, trial, key)
    memory = _held(whole)
    times: dict[int, float] = {}
    for timed in sorted({min(trial.steps, most) for most in STEPS}):
        program = whole if timed == trial.steps else compiled(bound, rule, _first(trial, timed), key)[0]
        if _held(program) > _there():
            return Planned(memory, None, trial.steps, 0)
        times[timed] = _timed(program, (bound, _first(trial, timed), key))
        if times[timed] > LONG:
            break
    first, last = min(times), max(times)
    each = max(times[last] - times[first], 0.0) / (last - first) if last > first else times[last] / last
    return Planned(memory, times[last] + each * (trial.steps - last), trial.steps, last)


def compiled(net: Network, rule: Rule, trial: Trial, key: PRNGKeyArray) -> tuple[Any, Any]:
    """The program of a gradient, and what it is called with."""
    arrays, rest = eqx.partition((net, trial, key), eqx.is_array)
    return jax.jit(lambda a: rule.value_and_grad(*eqx.combine(a, rest))).lower(arrays).compile(), arrays


def _held(program: Any) -> int:
    found = program.memory_analysis()
    return int(found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes)


def _there() -> float:
    """Bytes of memory that the machine has free, as far as it says."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float("inf")


def _timed(program: Any, given: Any) -> float:
    """Seconds of a run, the best of three if they are short."""
    arrays = eqx.filter(given, eqx.is_array)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        jax.block_until_ready(program(arrays))
        best = min(best, time.perf_counter() - started)
        if best > SHORT:
            break
    return best


def _first(trial: Trial, steps: int) -> Trial:
    """The first steps of trials."""

    def cut(x: Any) -> Any:
        return x[:steps] if eqx.is_array(x) and x.ndim > 1 and x.shape[:2] == (trial.steps, trial.batch) else x

    lengths = None if trial.lengths is None else jnp.minimum(trial.lengths, steps)
    inputs, targets, mask = (jax.tree.map(cut, x) for x in (trial.inputs, trial.targets, trial.mask))
    return Trial(inputs, targets, mask=mask, lengths=lengths)
