"""What a network's description must satisfy. Every error names the population or projection and what to do."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import NetworkError, unknown
from ..neurons import Neuron, variables
from ..parameter import resolve
from ..synapses import Projection
from .graph import Edge, components


class Output(NamedTuple):
    """One output of the network: its label, its population, and a state variable of it (None: its output)."""

    label: str
    population: str
    variable: str | None


def check_input_sizes(inputs: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Names and sizes of the inputs."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise NetworkError(f"inputs must be a dict of input names and sizes, got {inputs!r}.")
    for name, size in inputs.items():
        if not isinstance(name, str) or "." in name or "->" in name or not name:
            raise NetworkError(f"an input's name must be a word without '.' or '->', got {name!r}.")
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise NetworkError(f"input {name!r}: size must be an integer of at least 1, got {size!r}.")
    return tuple((name, int(size)) for name, size in inputs.items())


def check_populations(populations: Any, dt: float, inputs: dict[str, int]) -> "OrderedDict[str, Neuron]":
    """Populations by name, set to the network's time step."""
    if not isinstance(populations, Mapping) or not populations:
        raise NetworkError(f"populations must be a dict of names and neuron models, got {populations!r}.")
    checked: OrderedDict[str, Neuron] = OrderedDict()
    for name, neuron in populations.items():
        if not isinstance(name, str) or "." in name or "->" in name or not name:
            raise NetworkError(f"a population's name must be a word without '.' or '->', got {name!r}.")
        if name in inputs:
            raise NetworkError(f"{name!r} is both an input and a population.")
        if not isinstance(neuron, Neuron):
            raise NetworkError(f"population {name!r} must be a neuron model (ex.Neuron), got {neuron!r}.")
        checked[name] = neuron.with_dt(dt)
        for field in neuron.__dataclass_fields__:
            value = resolve(getattr(checked[name], field))
            concrete = field.startswith("tau") and not isinstance(value, jax.core.Tracer)
            if concrete and bool(jnp.any(jnp.asarray(value) < dt * (1 - 1e-6))):
                raise NetworkError(
                    f"population {name!r}: {field} = {value} ms is shorter than the time step dt = {dt:g} ms. "
                    "Times are in milliseconds; choose a smaller dt or a longer time constant."
                )
    return checked


def check_projections(
    projections: Any, populations: Mapping[str, Neuron], inputs: dict[str, int]
) -> dict[str, Projection]:
    """Projections by their keys."""
    if isinstance(projections, Mapping | str) or not isinstance(projections, Iterable):
        raise NetworkError(f"projections must be a list such as [Dense('input', 'hidden')], got {projections!r}.")
    named: dict[str, Projection] = {}
    for projection in projections:
        if not isinstance(projection, Projection):
            raise NetworkError(f"projections must hold Dense, Masked, ..., got {projection!r}.")
        name = projection.name
        if name in named:
            raise NetworkError(f"two projections are called {name!r}: give one of them name=.")
        if projection.pre not in populations and projection.pre not in inputs:
            raise _named(name, unknown("population or input", projection.pre, (*inputs, *populations), NetworkError))
        if projection.post in inputs:
            raise NetworkError(f"projection {name!r} ends at {projection.post!r}, which is an input.")
        if projection.post not in populations:
            raise _named(name, unknown("population", projection.post, populations, NetworkError))
        ports = populations[projection.post].ports
        if projection.port is not None and projection.port not in ports:
            raise _named(name, unknown(f"port of {projection.post!r}", projection.port, ports, NetworkError))
        named[name] = projection
    return named


def edges_of(named: Mapping[str, Projection], populations: tuple[str, ...]) -> tuple[Edge, ...]:
    """The graph, with every delay decided: 1 inside a strongly connected component, 0 elsewhere, unless given."""
    groups = components(populations, [(p.pre, p.post) for p in named.values()])
    group = {n: i for i, names in enumerate(groups) for n in names}
    for name, p in named.items():
        if p.reverse and group.get(p.pre, -1) == group[p.post]:
            raise NetworkError(
                f"projection {name!r}: it is part of a loop, so it cannot read {p.pre!r} in reversed time. "
                "reverse=True is for projections between parts of a network that run one after the other."
            )
        if p.reverse and p.delay:
            raise NetworkError(f"projection {name!r}: give it a delay or reverse=True, not both.")
    return tuple(
        Edge(name, p.pre, p.post, int(group.get(p.pre, -1) == group[p.post]) if p.delay is None else p.delay)
        for name, p in named.items()
    )


def check_outputs(outputs: Any, populations: Mapping[str, Neuron]) -> tuple[bool, tuple[Output, ...]]:
    """Whether there is a single output, and where each is read."""
    single = isinstance(outputs, str)
    if not single and not (isinstance(outputs, Mapping) and outputs):
        raise NetworkError(f"outputs must be a population's name or a dict of labels to names, got {outputs!r}.")
    pairs = {outputs: outputs} if single else outputs
    if any(str(name).endswith(".current") for name in pairs.values()):
        raise NetworkError("an output must be a population's output or state variable, not its current.")
    for label in pairs:
        if not isinstance(label, str):
            raise NetworkError(f"labels of outputs must be words, got {label!r}.")
    return single, tuple(
        Output(label, *split_variable(name, populations, NetworkError, "outputs: ")) for label, name in pairs.items()
    )


def split_variable(name: str, populations: Mapping[str, Neuron], error: Any, where: str = "") -> tuple[str, str | None]:
    """Population and state variable of "population.variable"."""
    population, _, variable = str(name).partition(".")
    if population not in populations:
        raise unknown(f"{where}population", population, populations, error)
    if not variable:
        return population, None
    known = variables(resolve(populations[population]).init_state())
    if variable not in (*known, "current"):
        raise unknown(f"{where}variable of {population!r}", variable, (*known, "current"), error)
    return population, variable


def _named(projection: str, error: Exception) -> NetworkError:
    return NetworkError(f"projection {projection!r}: {error}")
