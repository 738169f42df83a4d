"""What is wrong in a training: why a loss is no number (which weights, or which population from which time step on),
and which population is silent.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..events import dense
from ..network import Network
from ..neurons import variables
from ..parameter import resolve
from ..tasks import Task
from .block import one_of, step_keys


def diagnose(nets: Network, task: Task, keys: Array, batch: int, step: int, seed: int | None) -> str:
    """A sentence that names what is not finite in the network that gave the bad loss.

    Args:
        nets: the networks before the step, with a leading axis of seeds unless `seed` is None.
        task, batch: what it was trained on.
        keys: the run's key, or one a seed.
        step: the step whose loss is bad, counted from 0.
        seed: whose loss is bad.
    """
    net = one_of(nets, seed or 0, seed is not None)
    for path, leaf in jax.tree.leaves_with_path(eqx.filter(net, eqx.is_inexact_array)):
        if not bool(jnp.all(jnp.isfinite(leaf))):
            return f"The update of step {step} had made {_name(path)} not finite."
    key = keys if seed is None else keys[seed]
    trial = task.sample(step_keys(jax.random.fold_in(key, step))[0], batch)
    for name, x in net.check_inputs(trial.inputs).items():
        if not bool(jnp.all(jnp.isfinite(dense(x)))):
            return f"Input {name!r} of its trials is not finite."
    wrong = _wrong_class(net, trial.targets)
    if wrong:
        return wrong
    watched = [f"{n}.{v}" for n, p in net.populations.items() for v in ("current", *variables(resolve(p).init_state()))]
    record = net.run(trial.inputs, record=watched)
    first: list[tuple[int, Any]] = []
    for order, name in enumerate(watched):
        bad = ~np.isfinite(np.asarray(record[name]))
        if bad.any():
            first.append((int(np.argmax(bad.reshape(len(bad), -1).any(axis=1))), order))
    if not first:
        return "Weights, inputs, currents and states are finite: loss, gradient or optimiser overflowed."
    at, order = min(first)
    population, _, variable = watched[order].partition(".")
    return f"The {variable} of population {population!r} is not finite from time step {at} on."


def silence(net: Network, history: list[dict[str, Any]]) -> str | None:
    """A sentence about populations that sent nothing in the last validation, and did in the one before it, if there was
    one; None if there are none."""
    read = {spec.population for spec in net.output_specs if spec.variable is not None}
    sending = [name for name, p in net.populations.items() if p.sends_events]
    found = []
    for name in sending:
        key = "validation_firing_rate_hz" + (f".{name}" if len(sending) > 1 else "")
        rates = [min(entry.get(f"{key}_per_seed", [entry[key]])) for entry in history[-2:]]
        if name not in read and rates[-1] == 0 and (len(rates) == 1 or rates[0] > 0):
            found.append(repr(name))
    if not found:
        return None
    who = f"population {found[0]} sends" if len(found) == 1 else f"populations {', '.join(found)} send"
    return (
        f"{who} no spikes in any validation trial at step {history[-1]['step']}: nothing passes on, and where the "
        "surrogate derivative is zero nothing is learnt. Lower the threshold, draw larger weights onto it, widen the "
        "surrogate, or add a FiringRate regulariser."
    )


def _wrong_class(net: Network, targets: Any) -> str | None:
    """A sentence about classes that no output stands for; None if there are none."""
    if not net.single_output or not jnp.issubdtype(jnp.asarray(targets).dtype, jnp.integer):
        return None
    size = net.populations[net.output_specs[0].population].size
    low, high = int(jnp.min(targets)), int(jnp.max(targets))
    if low >= 0 and high < size:
        return None
    return f"Its targets are classes from {low} to {high}; the network has {size} outputs, for classes 0 to {size - 1}."


def _name(path: Any) -> str:
    kind, *middle = (jax.tree_util.keystr((key,), simple=True) for key in path)
    what = {"projections": "projection", "populations": "population", "feedback": "the feedback"}.get(kind, kind)
    owner, *fields = middle
    field = next((f for f in fields if f not in ("raw", "value")), "values")
    return f"{field} of {what} {owner!r}"
