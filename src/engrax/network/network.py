"""A network: named populations joined by named projections. It validates when it is made and says what is wrong.

It is a pytree. `run` steps it over whole sequences; rules differentiate it; `trainable_leaves` tells what may move.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from .._checks import as_array, check_key, finite
from ..errors import ArgumentError, NetworkError
from ..neurons import Neuron
from ..parameter import resolve
from ..synapses import Projection
from .arguments import check_state, checked_inputs
from .build import built, common_dtype, drawn, typed
from .graph import Edge, order_within_step
from .state import Feedback, NetworkState, Record
from .validate import (
    Output,
    check_input_sizes,
    check_outputs,
    check_populations,
    check_projections,
    edges_of,
    split_variable,
)

if TYPE_CHECKING:
    from .event_driven import EventRecord


class Network(eqx.Module):
    """Populations joined by projections.

    Args:
        populations: neuron models by name.
        projections: the connections, e.g. `[Dense("input", "hidden"), Dense("hidden", "hidden")]`.
        inputs: sizes of the external inputs by name.
        outputs: "readout" (a population's output), "readout.voltage" (one of its state variables), or a dict of
            labels to these.
        dt: time step, ms.
        key: draws the weights that were not given.

    Attributes:
        populations, projections, feedback: ordered dicts by name; projections by "pre->post" or their own name.
        inputs: dict of input sizes.  dt: time step, ms.

    Raises:
        NetworkError: unknown or repeated names (with the nearest spelling), a cycle within a step, wrong shapes, a
            time constant shorter than dt, missing weights.
    """

    populations: "OrderedDict[str, Neuron]"
    projections: "OrderedDict[str, Projection]"
    feedback: "OrderedDict[str, Feedback]"
    input_sizes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    output_specs: tuple[Output, ...] = eqx.field(static=True)
    single_output: bool = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    edges: tuple[Edge, ...] = eqx.field(static=True)
    order: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        populations: Mapping[str, Neuron],
        projections: Sequence[Projection],
        *,
        inputs: Mapping[str, int],
        outputs: str | Mapping[str, str],
        dt: float = 1.0,
        key: PRNGKeyArray | None = None,
    ) -> None:
        if key is not None:
            check_key(key)
        self.dt = finite("dt", dt, 0, exclusive=True, error=NetworkError)
        self.input_sizes = check_input_sizes(inputs)
        self.populations = check_populations(populations, self.dt, dict(self.input_sizes))
        named = check_projections(projections, self.populations, dict(self.input_sizes))
        self.edges = edges_of(named, tuple(self.populations))
        self.order = order_within_step(tuple(self.populations), self.edges)
        delays = {edge.key: edge.delay for edge in self.edges}
        self.projections = OrderedDict(
            (name, projection.replace(name=name, delay=delays[name])) for name, projection in named.items()
        )
        self.single_output, self.output_specs = check_outputs(outputs, self.populations)
        self.feedback = OrderedDict()
        self.projections = built(self.projections, self.populations, self.inputs, key)
        self.populations = OrderedDict((n, typed(p, self.dtype)) for n, p in drawn(self.populations, key).items())

    @property
    def dtype(self) -> Any:
        """Floating-point type of the weights and of everything the network computes."""
        return common_dtype(self.projections)

    @property
    def inputs(self) -> dict[str, int]:
        """Sizes of the external inputs by name."""
        return dict(self.input_sizes)

    def initialize(self, key: PRNGKeyArray) -> "Network":
        """A copy with every weight that was not given and every parameter with a spread drawn anew (feedback weights
        are a rule's: see `rule.bind`)."""
        check_key(key)
        return self.replace(
            projections=built(self.projections, self.populations, self.inputs, key),
            populations=drawn(self.populations, key),
        )

    def constrain(self, key: PRNGKeyArray | None = None) -> "Network":
        """A copy with what projections forbid put right after an update: no autapses, no masked connections, no wrong
        signs. With a key, connections that died are born elsewhere (`Rewired`)."""
        keys = [None if key is None else jax.random.fold_in(key, i) for i in range(len(self.projections))]
        put = zip(self.projections.items(), keys, strict=True)
        return self.replace(projections=OrderedDict((n, p.constrain(k)) for (n, p), k in put))

    def round(self) -> "Network":
        """A copy with delays that were learned as a chip holds them, in whole steps."""
        return self.replace(projections=OrderedDict((n, p.round()) for n, p in self.projections.items()))

    def replace(self, **changes: Any) -> "Network":
        """A copy with some fields changed, unchecked."""
        copy = object.__new__(type(self))
        for name in self.__dataclass_fields__:
            object.__setattr__(copy, name, changes.get(name, getattr(self, name)))
        return copy

    def init_state(self, batch: int) -> NetworkState:
        """The state before the first step, for `batch` trials."""
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise ArgumentError(f"batch must be an integer of at least 1, got {batch!r}.")
        neurons = {
            name: jax.tree.map(
                lambda x: jnp.broadcast_to(x, (batch, *x.shape)), typed(resolve(p).init_state(), self.dtype)
            )
            for name, p in self.populations.items()
        }
        sizes = self.inputs | {n: p.size for n, p in self.populations.items()}
        history = {name: jnp.zeros((depth, batch, sizes[name]), self.dtype) for name, depth in self.depths().items()}
        for name, p in self.populations.items():
            if type(p).init_output is not Neuron.init_output and history[name].size:
                before = resolve(p).init_output().astype(self.dtype)
                history[name] = jnp.broadcast_to(before, history[name].shape)
        return NetworkState(neurons, history)

    def reversed(self) -> list[str]:
        """Names of projections that read their source in reversed time."""
        return [name for name, p in self.projections.items() if p.reverse]

    def depths(self) -> dict[str, int]:
        """How many past outputs of each input and population its projections need."""
        names = (*self.inputs, *self.populations)
        return {n: max((p.depth for p in self.projections.values() if p.pre == n), default=0) for n in names}

    def run(
        self,
        inputs: PyTree[Num[Array, "time batch _"]],
        state: NetworkState | None = None,
        key: PRNGKeyArray | None = None,
        record: Iterable[str] = (),
    ) -> Record:
        """Run over whole sequences.

        Args:
            inputs: (time, batch, units), an array or `Events`, or a dict of these by input name.
            state: where to start; None: `init_state`. A network with projections in reversed time has none to give: it
                needs the whole run at once.
            key: for stochastic models (none of the present ones is).
            record: what to keep at every step: "hidden" (output), "hidden.current", or a state variable such as
                "hidden.voltage".

        Returns:
            Record(outputs, state, recorded).
        """
        from .engine import run

        if not isinstance(record, Iterable):
            raise ArgumentError(f"record must hold names such as 'hidden.voltage', got {record!r}.")
        names = (record,) if isinstance(record, str) else tuple(record)
        if key is not None:
            check_key(key)
        arrays = self.check_inputs(inputs)
        for name in names:
            split_variable(name, self.populations, ArgumentError, "record: ")
        batch = next(iter(arrays.values())).shape[1]
        if state is None:
            state = self.init_state(batch)
        elif backwards := self.reversed():
            raise ArgumentError(
                f"projection {backwards[0]!r} reads a run from its end: it cannot go on from a state, or by steps."
            )
        self.check_state(state, batch)
        return run(self, arrays, state, names)

    def solve(
        self,
        inputs: PyTree[Num[Array, "time batch _"]],
        times: Float[Array, " time"],
        *,
        save: Float[Array, " saved"] | None = None,
        solver: str = "tsit5",
        adjoint: str = "checkpointed",
        interpolation: str = "linear",
        step: float | None = None,
        rtol: float = 1e-6,
        atol: float = 1e-8,
        max_steps: int = 4096,
        state: NetworkState | None = None,
        record: Iterable[str] = (),
    ) -> Record:
        """Integrate a network of models of continuous time (`CTRNN`, `LI`, `Rate`; stateless ones between them).

        Args:
            inputs: samples (time, batch, units), or a dict of these by input name.
            times: when they were taken, increasing, at any distances; in the unit of time constants.
            save: when outputs are wanted; None: at `times`. The run begins with the first of `times`.
            solver: "euler", "heun", "bosh3", "tsit5", "dopri8", or "implicit" (Kvaerno's, for stiff networks).
            adjoint: how gradients come back through it. "checkpointed": through the steps that were made, from
                checkpoints. "forward": for forward mode. "backsolve": the continuous adjoint, with the network run
                backwards; for at most ten of its shortest time constants.
            interpolation: inputs between samples: "linear", or "hold" until the next.
            step: of constant length; None: adapted to `rtol` and `atol`.
            max_steps: solver steps at the most.
            state: where to start; None: `init_state`.
            record: "hidden" (output) or "hidden.rate" (a state variable), at the times to save.

        Returns:
            Record(outputs, state, recorded), all (saved, batch, units).

        Raises:
            NetworkError: a population has no derivative, a projection delays, or Diffrax is missing.
            ArgumentError: an argument is impossible; "backsolve" over too long a time.
        """
        from .solve import solve

        options: dict[str, Any] = {"solver": solver, "adjoint": adjoint, "interpolation": interpolation}
        limits: dict[str, Any] = {"step": step, "rtol": rtol, "atol": atol, "max_steps": max_steps}
        return solve(self, inputs, times, save, state, record, **options, **limits)

    def run_events(
        self,
        inputs: PyTree[Num[Array, "time batch _"]],
        *,
        record: Iterable[str] = (),
        max_spikes: int = 1000,
        pending: int = 64,
    ) -> "EventRecord":
        """Run from event to event, in closed form between them: spikes come at exact times (`CuBaLIF`, `LI`).

        Differentiable in reverse mode, exactly, spike times too, by weights, delays, time constants and thresholds.

        Args:
            inputs: (time, batch, units), or a dict of these; step k arrives at time k dt, and biases with it.
            record: "hidden", spikes in each step, or "hidden.voltage", the mean of each step (of `LI` the same).
            max_spikes: room for spikes, of all units of a trial together.
            pending: room for spikes of a trial whose arrival is still to come, in networks with delays.

        Returns:
            EventRecord(outputs, spikes, recorded); from zero state. An event costs what all units cost.

        Raises:
            NetworkError: a population has no closed form, or a projection cannot be had; the message names it.
            ArgumentError: an argument is impossible.
            EquinoxRuntimeError: there were more spikes than room.
        """
        from .event_driven import run_events

        return run_events(self, inputs, record, max_spikes, pending)

    def step(self, state: NetworkState, x: PyTree[Num[Array, "batch _"]]) -> tuple[NetworkState, PyTree[Array]]:
        """One step: the next state, and the outputs (batch, units) of this step."""
        if state is None:
            raise ArgumentError("state must be what init_state(batch) or the last step gave, got None.")
        x = {n: as_array("x", a)[None] for n, a in x.items()} if isinstance(x, Mapping) else as_array("x", x)[None]
        record = self.run(x, state)
        return record.state, jax.tree.map(lambda y: y[0], record.outputs)

    def check_inputs(self, inputs: PyTree[Array]) -> dict[str, Any]:
        """Inputs as a dict of (time, batch, units) arrays, or events, of the network's dtype.

        Raises:
            ArgumentError: unknown or missing names, wrong rank or width, unequal lengths.
        """
        return checked_inputs(self, inputs)

    def check_state(self, state: Any, batch: int) -> None:
        """Raise an ArgumentError unless `state` is one of this network, for `batch` trials."""
        check_state(self, state, batch)

    def check_variable(self, name: str) -> tuple[str, str | None]:
        """Split "population.variable" and check both.

        Raises:
            ArgumentError: either does not exist; the message gives the nearest spelling.
        """
        return split_variable(name, self.populations, ArgumentError)

    def summary(self) -> str:
        """A table of populations, projections and outputs, with sizes and numbers of trainable parameters."""
        from .summary import summary

        return summary(self)
