"""NeuroBench's metrics of a network, by NeuroBench's own definitions (Yik et al. 2025; its package, version 2.3).

They count another thing than the bill: an operation is effective where neither the value nor the weight is zero. What
arrives at a step counts, so an event whose delay takes it past the trial's end does not.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..events import Events
from ..network import Network, Record
from ..network.event_driven import EventRecord
from ..neurons import variables
from ..parameter import Parameter, resolve
from ..synapses import AveragePool, Quantised
from ..trial import Trial


class Workload(NamedTuple):
    """Counts over some trials, padding left out. Sums of workloads are workloads.

    trials, steps: how many trials, and how many time steps in all of them together.
    arrived: for each projection, steps in which what arrived from each presynaptic unit was not zero, (pre,).
    graded: for each projection, how many of the values that arrived were none of -1, 0 and 1.
    active: for each population with activations, how many of its outputs were not zero.
    moved: for each spiking population, how many updates left a unit with another membrane state.
    """

    trials: Array | np.ndarray
    steps: Array | np.ndarray
    arrived: dict[str, Array | np.ndarray]
    graded: dict[str, Array | np.ndarray]
    active: dict[str, Array | np.ndarray]
    moved: dict[str, Array | np.ndarray]


class NeuroBench(NamedTuple):
    """NeuroBench's metrics.

    footprint: bytes of weights, biases and the models' parameters.
    held: these by kind, and "states": what one trial's run has to keep from step to step, delays included.
    connection_sparsity: share of weights that are zero.
    activation_sparsity: share of activations that are zero; None where no population has any.
    dense, macs, acs: mean synaptic operations of a trial: as if nothing were zero, and those in which neither the
        value nor the weight is, of graded values (MACs) and of events (ACs).
    membrane_updates: mean updates of a trial that left a spiking unit with another membrane state.
    steps: mean number of time steps of a trial.
    """

    footprint: float
    held: dict[str, float]
    connection_sparsity: float
    activation_sparsity: float | None
    dense: float
    macs: float
    acs: float
    membrane_updates: float
    steps: float


def watched(net: Network) -> tuple[str, ...]:
    """What `net.run` must record for `workload`: activations, and the membranes of spiking populations."""
    membranes = (f"{name}.{_membrane(net, name)}" for name, p in net.populations.items() if p.spiking)
    return (*_activations(net), *membranes)


def workload(net: Network, trial: Trial, record: Record | EventRecord) -> Workload:
    """The workload of one batch. Pure.

    Args:
        net: the network.
        trial: what it was shown.
        record: what `net.run(trial.inputs, record=watched(net))` gave.
    """
    valid = trial.valid()
    sources = {**net.check_inputs(trial.inputs), **{n: record[n] for n in _activations(net)}}
    arrived: dict[str, Array | np.ndarray] = {}
    graded: dict[str, Array | np.ndarray] = {}
    for name, p in _weighted(net).items():
        assert p.delay is not None
        # Seen from the source: the steps whose value arrives within the trial.
        heard = _later(valid[::-1] if p.reverse else valid, p.delay)
        arrived[name] = _count(sources[p.pre], heard, lambda x: x != 0, net.dtype)
        graded[name] = jnp.sum(_count(sources[p.pre], heard, lambda x: x != jnp.round(jnp.clip(x, -1, 1)), net.dtype))
    moved: dict[str, Array | np.ndarray] = {}
    for name, p in net.populations.items():
        if p.spiking:
            membrane = record[f"{name}.{_membrane(net, name)}"]
            changes = jnp.concatenate([jnp.ones_like(membrane[:1], bool), membrane[1:] != membrane[:-1]])
            moved[name] = jnp.sum(_count(changes, valid, lambda x: x, net.dtype))
    return Workload(
        trials=jnp.asarray(trial.batch, net.dtype),
        steps=jnp.sum(valid).astype(net.dtype),
        arrived=arrived,
        graded=graded,
        active={n: jnp.sum(_count(record[n], valid, lambda x: x != 0, net.dtype)) for n in _activations(net)},
        moved=moved,
    )


def neurobench(net: Network, work: Workload) -> NeuroBench:
    """The metrics for a workload of a network.

    Args:
        net: the network that worked; which of its weights are zero is read from it.
        work: counts over any number of trials.

    Source: Yik et al. 2025, "The neurobench framework for benchmarking neuromorphic computing algorithms and systems".
    """
    trials, steps = float(work.trials), float(work.steps)
    dense = macs = acs = 0.0
    for name, p in _weighted(net).items():
        effective = float(np.asarray(work.arrived[name], np.float64) @ np.asarray(_nonzero(p), np.float64))
        if float(work.graded[name]) > 0:
            macs += effective
        else:
            acs += effective
        assert p.weight is not None
        dense += steps * (p.weight.size if p.matrix else float(np.sum(np.asarray(p.connections(), np.float64))))
    outputs = steps * sum(net.populations[n].size for n in work.active)
    active = sum(float(x) for x in work.active.values())
    weights = [np.asarray(_acting(p)) for p in _weighted(net).values()]
    held = _held(net)
    return NeuroBench(
        footprint=sum(size for kind, size in held.items() if kind != "states"),
        held=held,
        connection_sparsity=sum(int(np.sum(w == 0)) for w in weights) / max(sum(w.size for w in weights), 1),
        activation_sparsity=1 - active / outputs if outputs else None,
        dense=dense / trials,
        macs=macs / trials,
        acs=acs / trials,
        membrane_updates=sum(float(x) for x in work.moved.values()) / trials,
        steps=steps / trials,
    )


def _weighted(net: Network) -> dict[str, Any]:
    """Projections with weights of their own; pooling has none."""
    return {name: p for name, p in net.projections.items() if not isinstance(p, AveragePool)}


def _activations(net: Network) -> tuple[str, ...]:
    """Populations whose outputs are activations: those that spike or are heard by another. Graded readouts are not."""
    heard = {p.pre for p in net.projections.values()}
    return tuple(name for name, p in net.populations.items() if p.spiking or name in heard)


def _membrane(net: Network, name: str) -> str:
    """The state variable that stands for a model's membrane: its first."""
    return variables(resolve(net.populations[name]).init_state())[0]


def _acting(projection: Any) -> Array:
    """Every weight once: of a matrix what acts, of a convolution its kernel."""
    return projection.effective() if projection.matrix else projection.weight


def _nonzero(projection: Any) -> Array:
    """How many connections whose weight is not zero leave each presynaptic unit, (pre,)."""
    links = (_acting(projection) != 0).astype(projection.weight.dtype)
    if projection.matrix:
        return jnp.sum(links.reshape(-1, links.shape[-1]), axis=0)
    return projection.transpose(links, jnp.ones(math.prod(projection.output_shape), links.dtype))


def _later(valid: Array, delay: int) -> Array:
    """1 where the step `delay` steps on is valid, (time, batch)."""
    return jnp.concatenate([valid[delay:], jnp.zeros_like(valid[:delay])])


def _count(x: Array | Events, valid: Array, which: Callable[[Array], Array], dtype: Any) -> Array:
    """In how many valid steps each unit's value is such, (units,); events are looked at a step at a time."""

    def step(total: Array, xs: tuple[Any, Array]) -> tuple[Array, None]:
        value = xs[0].dense(dtype) if isinstance(x, Events) else xs[0]
        found = which(value) & (xs[1][:, None] > 0)
        return total + jnp.sum(found.astype(dtype), axis=0), None

    return jax.lax.scan(step, jnp.zeros(x.shape[-1], dtype), (x, valid))[0]


def _held(net: Network) -> dict[str, float]:
    """Bytes by kind."""
    word = net.dtype.itemsize
    held = {"weights": 0.0, "biases": 0.0, "parameters": 0.0}
    for p in _weighted(net).values():
        bits = p.bits if isinstance(p, Quantised) else 8 * word
        held["weights"] += p.weight.size * bits / 8 + (word if isinstance(p, Quantised) else 0)
        held["biases"] += 0 if p.bias is None else p.bias.size * word
    for neuron in net.populations.values():
        for field in neuron.__dataclass_fields__.values():
            value = getattr(neuron, field.name) if "parameter" in field.metadata else None
            array: Any = value.raw if isinstance(value, Parameter) else value
            held["parameters"] += 0 if array is None else array.size * array.dtype.itemsize
    kept = jax.eval_shape(lambda: net.init_state(1))
    held["states"] = float(sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(kept)))
    return held
