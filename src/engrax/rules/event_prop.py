"""Exact gradients of spiking networks: spikes at the times when voltages reach their thresholds, and the adjoint that
jumps there.

    tau v' = -v + i          tau_s i' = -i          v(t) = threshold: a spike at t, v -> 0

    lambda_v(t-) = lambda_v(t+) - (1 / v'(t-)) dE/dt

where dE/dt is all that a spike a little later would change. delta is the adjoint of i at each arrival, a weight's
gradient the sum of its source's arrivals, and no surrogate is needed: between two spikes' comings and goings the loss
is smooth. What it can't see is a spike that is not there yet: silent units learn nothing.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import finite
from ..errors import RuleError
from ..network import Network, trainable_leaves
from ..network.event_driven import EventRecord, Spikes
from ..parameter import positive_integer
from ..trial import Trial
from .rule import Rule, by_label, total_loss


class EventProp(Rule):
    """Reverse mode through `net.run_events`: the exact gradient of what it computes, spike times included.

    Args:
        latency: for spiking outputs, ms: the classes' logits are -t / latency, t the time of the first spike, for a
            silent unit the trial's end. None: outputs are voltages, of `LI` readouts or "out.voltage".
        max_spikes, pending: room; see `Network.run_events`.
        loss, reduction, scale, dropout: see `Rule`.

    Networks: `CuBaLIF` units without refractory period and `LI` readouts, joined by matrices and by `Delayed` and
    `AxonDelayed` projections, whose delays are real numbers here. By net.run and `BPTT` the same network has a
    surrogate gradient. `fit` measures it from event to event; `engrax.evaluate` takes `rule=` for that.

    Memory: the state of all units before every event. A spike costs what an update of all units costs; a spike through
    a `Delayed` projection one for each unit it goes to. Room is taken for `max_spikes` and all their arrivals: keep it
    near what there is.

    Raises:
        RuleError: regularisers; spiking outputs without `latency`.
        NetworkError: no closed form; see `Network.run_events`.

    Source: Wunderlich & Pehle 2021 (EventProp); delays, Meszaros, Knight & Nowotny 2025; first spikes as logits,
        Mostafa 2018 and Goeltz et al. 2021.
    """

    reference: ClassVar[str | None] = None
    engine: ClassVar[str] = "events"

    latency: float | None = eqx.field(
        static=True, default=None, converter=lambda x: None if x is None else finite("latency", x, 0, exclusive=True)
    )
    max_spikes: int = eqx.field(static=True, default=1000, converter=positive_integer("max_spikes"))
    pending: int = eqx.field(static=True, default=64, converter=positive_integer("pending"))

    def perform(self, net: Network, trial: Trial, record: tuple[str, ...] = ()) -> EventRecord:
        """The network from event to event. With `latency` spiking outputs are 0 until the first spike and from then on
        what makes their mean over time (end - t) / latency."""
        ran = net.run_events(trial.inputs, record=record, max_spikes=self.max_spikes, pending=self.pending)
        if self.latency is None:
            return ran
        shown = dict(by_label(net, ran.outputs, "outputs"))
        for spec in net.output_specs:
            if spec.variable is None and spec.population in ran.spikes:
                shown[spec.label] = _since(ran.spikes[spec.population], trial.steps, net.dt, self.latency)
        outputs = next(iter(shown.values())) if net.single_output else shown
        return EventRecord(outputs, ran.spikes, ran.recorded)

    def compute(self, net: Network, trial: Trial, key: PRNGKeyArray | None) -> tuple[Array, Network]:
        if self.regularizers:
            raise RuleError("EventProp has no gradient of a rate or of an energy: use BPTT.")
        for spec in net.output_specs:
            if self.latency is None and spec.variable is None and net.populations[spec.population].spiking:
                raise RuleError(
                    f"output {spec.label!r}: a number of spikes has no gradient. Give latency= to learn when they "
                    "come, or a readout that does not spike."
                )
        moving, fixed = eqx.partition(net, trainable_leaves(net))
        losses = self.losses(net, trial)

        def loss(moving: Network) -> Array:
            whole: Any = eqx.combine(moving, fixed)
            return total_loss(losses, by_label(whole, self.perform(whole, trial).outputs, "outputs"), trial, whole)

        return jax.value_and_grad(loss)(moving)


def _since(spikes: Spikes, steps: int, dt: float, latency: float) -> Float[Array, "time batch units"]:
    """For each step the share of it that lies after a unit's first spike, in units of latency over the whole time."""
    first = jnp.minimum(spikes.first(), steps * dt)
    begins = dt * jnp.arange(steps).astype(first.dtype)
    return jnp.clip((begins[:, None, None] + dt - first[None]) / dt, 0, 1) * (steps * dt / latency)
