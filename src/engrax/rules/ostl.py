"""Online spatio-temporal learning (Bohnstingl et al. 2022): influence through time within each layer, errors of one
moment between layers."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..network import Network
from . import traces
from .influence import Influence, Plan, groups
from .rtrl import entering_of
from .snap import check_heard, part
from .tangent import Change, Step, nothing


class OSTL(Influence):
    """Online spatio-temporal learning: time within each population, space between them.

    Args:
        recurrent: True: a population's own recurrent synapses carry influence, too, as published. False: only a unit's
            state does, the form without H; a spiking unit's reset is then held constant, as in e-prop.
        loss, reduction, scale: see `Rule`.

    Exact for one recurrent layer that is its own readout, or whose readout keeps no state and hears it without delay.
    What one layer's past does to another's state is left out: readouts with a state lose what e-prop keeps by filtered
    traces.

    Cost for n units and p parameters a layer: with recurrence time n^2 p a step and trial, memory n p; without, p both.

    Source: Bohnstingl et al. 2022.
    """

    told: ClassVar[bool] = True

    recurrent: bool = eqx.field(static=True, default=True)

    def prepare(self, plan: Plan) -> None:
        check_heard(plan, 1, "another rule")

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        net = plan.net
        found: dict[str, Any] = {}
        for name, group in groups(plan).items():
            if not self.recurrent:
                found[name] = {s.label: traces.start(net, s, batch, plan.shape(s)[2]) for s in group}
                continue
            sizes = {n: p.size if n == name else 0 for n, p in net.populations.items()}
            change = nothing(net, batch, (), (sum(_length(plan, s) for s in group),), sizes)
            at, states = 0, change.states[name]
            for s in group:
                if s.kind == "parameter":
                    moved = jnp.stack(traces.start(net, s, batch, 1))[:, :, 0, :, 0]
                    own = moved[..., None] * jnp.eye(moved.shape[-1], dtype=moved.dtype)[None, None]
                    states = states.at[..., at : at + moved.shape[-1]].set(own)
                at += _length(plan, s)
            found[name] = change._replace(states={**change.states, name: states})
        return found

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        after: dict[str, Any] = {}
        moved: dict[str, Any] = {}
        for name, group in groups(plan).items():
            if self.recurrent:
                after[name], moved[name] = _within(plan, step, name, group, before[name], pre)
            else:
                after[name], moved[name] = _alone(plan, step, name, group, before[name], pre)
        return after, (step, moved)

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        step, moved = seen
        _, entering = step.pull(nothing(plan.net, step.valid.shape[0], ()), errors)
        found: dict[str, Array] = {}
        for name, group in groups(plan).items():
            # dE by each row of the population: its state variables, then its output.
            told = _told(plan.net, name, step, entering, errors)
            if not self.recurrent:
                found |= {s.label: jnp.einsum("rbi,rbqij->qij", told, moved[name][s.label]) for s in group}
                continue
            total, at = jnp.einsum("rbi,rbip->p", told, moved[name]), 0
            for s in group:
                found[s.label] = total[at : at + _length(plan, s)].reshape(plan.shape(s))
                at += _length(plan, s)
        return found


def _length(plan: Plan, source: traces.Source) -> int:
    ports, units, pre = plan.shape(source)
    return ports * units * pre


def _within(
    plan: Plan, step: Step, name: str, group: list[traces.Source], before: Change, pre: dict[str, Array]
) -> tuple[Change, Array]:
    """A step of a population's influence on itself: after it, and rows (d + 1, batch, units, parameters)."""
    net = plan.net
    index = {n: jnp.arange(p.size if n == name else 0) for n, p in net.populations.items()}
    alone = part(step, index, {n: jnp.ones(len(x), net.dtype) for n, x in index.items()})
    entering = entering_of(plan, group, pre)
    states, now = alone.move(before, entering)
    history = {n: jnp.concatenate([h[1:], now[n][None]]) for n, h in before.history.items()}
    return Change(states, history, {}), jnp.concatenate([states[name], now[name][None]])


def _alone(
    plan: Plan, step: Step, name: str, group: list[traces.Source], before: Any, pre: dict[str, Array]
) -> tuple[Any, dict[str, Array]]:
    """A step of each unit's influence on itself: after it, and rows (d + 1, batch, port, unit, pre) by source."""
    net, block = plan.net, step.local(name)
    after: dict[str, Any] = {}
    rows: dict[str, Array] = {}
    for s in group:
        columns = traces.columns_of(net, s)
        eps, trace = traces.advance(block, before[s.label], columns, pre[s.label], traces.depth(net, name))
        after[s.label] = eps
        rows[s.label] = jnp.stack([*(jnp.broadcast_to(x, trace.shape) for x in eps), trace])
    return after, rows


def _told(net: Network, name: str, step: Step, entering: dict[str, Array], errors: dict[str, Array]) -> Array:
    """dE by a population's state variables and output, at this moment: (d + 1, batch, units)."""
    depth, units = traces.depth(net, name), net.populations[name].size
    told = jnp.zeros((depth + 1, step.valid.shape[0], units), net.dtype)
    for spec in net.output_specs:
        if spec.population == name and spec.label in errors:
            told = told.at[traces.output_row(net, name, spec.variable)].add(errors[spec.label])
    for key, matrix in step.matrices.items():
        projection = net.projections[key]
        if projection.pre != name or projection.delay:
            continue
        ports = net.populations[projection.post].ports
        first = ports.index(projection.port) if projection.port else 0
        currents = entering[projection.post][first : first + (1 if projection.port else max(len(ports), 1))]
        # Of steps side by side the newest, which is this one, is the last; one weight may be for all currents.
        weights = matrix.reshape(-1, *matrix.shape[-2:])[..., -units:]
        weights = jnp.broadcast_to(weights, (len(currents), *weights.shape[1:]))
        told = told.at[depth].add(jnp.einsum("qbk,qki->bi", currents, weights))
    return told
