"""Sparse n-step approximation of RTRL (Menick et al. 2021): influence is kept where it gets within n steps.

Every unit that learns has a list of the units that it reaches so soon, and a network of its own made of them: RTRL's
step is taken in each of these, all of one size. Entries of the list beyond a unit's own reach are dead: their Jacobian
is zero.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..errors import ArgumentError, MemoryBudgetError, RuleError
from ..network import Network
from . import traces
from .influence import Influence, InfluenceState, Plan, groups
from .tangent import TRAILING, Change, Step, nothing


class Reach(NamedTuple):
    """Of each unit of a population that learns: which units (units, kept) of every population it reaches, and whether
    an entry counts (units, kept)."""

    places: dict[str, Array]
    alive: dict[str, Array]


def _order(x: Any) -> int:
    if isinstance(x, bool) or not isinstance(x, int) or x < 1:
        raise ArgumentError(f"SnAp: order must be a number of steps of at least 1, got {x!r}.")
    return x


def _capacity(x: Any) -> int | None:
    if x is not None and (isinstance(x, bool) or not isinstance(x, int) or x < 1):
        raise ArgumentError(f"SnAp: capacity must be a number of units of at least 1 or None, got {x!r}.")
    return x


class SnAp(Influence):
    """Sparse n-step approximation of RTRL.

    Args:
        order: n. 1: what a synapse does to its own unit, and within the step to others. Each more step adds the units
            that those reach by synapses with a delay, whatever its length. RTRL, once all are reached.
        capacity: units of a population that are kept for each unit; None: all that a population has, of which those
            out of reach cost as much as others. A number pays where synapses are few (`Masked`, `Rewired`).
            `SnAp.capacity_for(net, order)` says the least that will do.
        memory_budget: bytes that the influence may take before the rule refuses.
        loss, reduction, scale: see `Rule`.

    Units of populations from which nothing leads on, such as readouts, are always kept. A unit's own weight, which
    e-prop and RFLO cut, is part of its Jacobian.

    Cost for n units, p parameters and k units kept for each: time k^2 p a step and trial, memory k p; with order 1,
    both p.

    Raises (when called):
        RuleError: more than `capacity` units are reached; inside a compiled function gradients are NaN instead.
        MemoryBudgetError: the influence is larger than `memory_budget`.

    Source: Menick et al. 2021.
    """

    order: int = eqx.field(static=True, default=1, converter=_order)
    capacity: int | None = eqx.field(static=True, default=None, converter=_capacity)
    memory_budget: float = eqx.field(static=True, default=4 * 2.0**30)

    reference: ClassVar[str | None] = None

    @staticmethod
    def capacity_for(net: Network, order: int) -> int:
        """The largest number of units of one population that a unit reaches in `order` steps, readouts excepted."""
        ends = _ends(net)
        most = [
            int(np.asarray(jnp.sum(reached, axis=0)).max())
            for name in net.populations
            for post, reached in _pattern(net, name, order).items()
            if post not in ends
        ]
        return max(1, *most)

    def prepare(self, plan: Plan) -> dict[str, Reach]:
        net, ends = plan.net, _ends(plan.net)
        check_heard(plan, self.order, "a higher order")
        found = {}
        for name in groups(plan):
            index, alive = {}, {}
            for post, reached in _pattern(net, name, self.order).items():
                kept = _kept(net, name, post, self.order, None if post in ends else self.capacity)
                count = jnp.sum(reached, axis=0)
                places = _first(reached.T, kept)
                index[post] = places
                fits = jnp.where(jnp.all(count <= kept), 1.0, jnp.nan).astype(net.dtype)
                alive[post] = fits * jnp.take_along_axis(reached.T, places, axis=1).astype(net.dtype)
            found[name] = Reach(index, alive)
        return found

    def value_and_grad(self, net: Network, trial: Any, key: PRNGKeyArray | None = None) -> tuple[Array, Network]:
        """Loss and gradient on a batch of trials. Arguments: `Rule.value_and_grad`."""
        self._check_capacity(net)
        return super().value_and_grad(net, trial, key)

    def init(self, net: Network, batch: int, key: PRNGKeyArray | None = None) -> InfluenceState:
        """What the rule carries from step to step, before the first one. Arguments: `Influence.init`."""
        self._check_capacity(net)
        return super().init(net, batch, key)

    def _check_capacity(self, net: Any) -> None:
        if self.capacity is None or not isinstance(net, Network):
            return
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(net)):
            return  # while this is compiled, nobody knows: gradients that are no numbers will tell
        if (least := self.capacity_for(net, self.order)) > self.capacity:
            raise RuleError(
                f"SnAp: a unit reaches {least} units of a population in {self.order} steps, more than capacity = "
                f"{self.capacity}: give a larger one."
            )

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        def make() -> dict[str, Change]:
            return {
                name: nothing(
                    plan.net,
                    batch,
                    plan.sums,
                    (plan.net.populations[name].size, _width(plan, group)),
                    {post: index.shape[1] for post, index in plan.prepared[name].places.items()},
                )
                for name, group in groups(plan).items()
            }

        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(jax.eval_shape(make)))
        if size > self.memory_budget:
            raise MemoryBudgetError(
                f"the influence of {batch} trials needs {size / 2**30:.2f} GiB, more than memory_budget = "
                f"{self.memory_budget / 2**30:.2f} GiB. Use a smaller batch, a lower order, or a capacity."
            )
        found = make()
        for name, group in groups(plan).items():
            at, states = 0, dict(found[name].states)
            for s in group:
                if s.kind == "parameter":
                    # What a parameter does to its unit's state before the first step.
                    moved = jnp.stack(traces.start(plan.net, s, batch, 1))[:, :, 0, :, 0]
                    own = _own(plan.prepared[name], name)
                    states[name] = states[name].at[..., at].add(moved[:, :, None, :] * own.T[None, None])
                at += len(s.ports) * plan.shape(s)[2]
            found[name] = found[name]._replace(states=states)
        return found

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        after, seen = {}, {}
        for name, group in groups(plan).items():
            reach = plan.prepared[name]
            at_once = _entering(plan, group, pre)

            def one(change: Change, index: Any, alive: Any, own: Array, u: Array = at_once, n: str = name) -> Any:
                return part(step, index, alive).push(change, {n: u[:, :, None, :] * own[None, None, :, None]})

            step_all = jax.vmap(one, in_axes=(TRAILING, 0, 0, 0), out_axes=(TRAILING, 2))
            after[name], seen[name] = step_all(before[name], reach.places, reach.alive, _own(reach, name))
        return after, seen

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        populations = {spec.label: spec.population for spec in plan.net.output_specs}
        found = {}
        for name, group in groups(plan).items():
            total = jnp.zeros((plan.net.populations[name].size, _width(plan, group)), plan.net.dtype)
            for label, error in errors.items():
                told = error[:, plan.prepared[name].places[populations[label]]]
                total = total + jnp.einsum("bik,bkiw->iw", told, seen[name][label])
            at = 0
            for s in group:
                ports, units, width = plan.shape(s)
                mine = total[:, at : at + ports * width].reshape(units, ports, width)
                found[s.label] = jnp.moveaxis(mine, 1, 0)
                at += ports * width
        return found

    def sums(self, influence: Any) -> Any:
        return {name: change.sums for name, change in influence.items()}


def check_heard(plan: Plan, order: int, remedy: str) -> None:
    """Raise a RuleError where a population learns from which no output is reached in so many steps."""
    net = plan.net
    for name in groups(plan):
        if not any(_kept(net, name, spec.population, order, None) for spec in net.output_specs):
            raise RuleError(
                f"{name!r} leads to no output in {order} step{'s' if order > 1 else ''}, so that nothing in it would "
                f"learn: take {remedy}, or give delay=0 to the projections that lead there."
            )


def _ends(net: Network) -> set[str]:
    """Populations from which nothing leads on."""
    return set(net.populations) - {p.pre for p in net.projections.values()}


def _width(plan: Plan, group: list[traces.Source]) -> int:
    return sum(len(s.ports) * plan.shape(s)[2] for s in group)


def _own(reach: Reach, name: str) -> Array:
    """Where a unit's own place in its list is: (units, kept)."""
    units = jnp.arange(reach.places[name].shape[0], dtype=jnp.int32)
    return (reach.places[name] == units[:, None]).astype(reach.alive[name].dtype) * reach.alive[name]


def _entering(plan: Plan, group: list[traces.Source], pre: dict[str, Array]) -> Array:
    """What a unit's weights do to its currents at once: (ports + parameters, batch, width)."""
    name, at = group[0].population, 0
    batch = pre[group[0].label].shape[0]
    found = jnp.zeros((plan.entries(name), batch, _width(plan, group)), plan.net.dtype)
    for s in group:
        for column in plan.columns(s):
            width = plan.shape(s)[2]
            found = found.at[column, :, at : at + width].set(pre[s.label])
            at += width
    return found


def part(step: Step, index: dict[str, Array], alive: dict[str, Array]) -> Step:
    """A step of some units of every population alone."""
    net = step.net
    blocks = {n: block[..., index[n]] * alive[n][None, None, None] for n, block in step.blocks.items()}
    matrices = {}
    for key, matrix in step.matrices.items():
        projection = net.projections[key]
        columns = index[projection.pre]
        if projection.reach:
            size = net.populations[projection.pre].size
            columns = (jnp.arange(projection.reach + 1)[:, None] * size + columns[None]).reshape(-1)
        matrices[key] = matrix[..., index[projection.post][:, None], columns]
    return step._replace(blocks=blocks, matrices=matrices)


def _first(reached: Array, kept: int) -> Array:
    """Places (own, kept) of the first units that each reaches, (own, units), and after them of others."""
    own, units = reached.shape
    if kept == units:
        return jnp.broadcast_to(jnp.arange(units, dtype=jnp.int32), (own, units))
    # A sort takes most of a step's time where one unit is kept of many.
    if kept == 1:
        return jnp.argmax(reached, axis=1)[:, None].astype(jnp.int32)
    return jax.lax.top_k(reached.astype(jnp.int32), kept)[1]


def _links(net: Network, late: bool) -> dict[tuple[str, str], Array]:
    """By (post, pre) population, where synapses with a delay, or without one, lead: (post, pre) of 0 and 1."""
    found: dict[tuple[str, str], Array] = {}
    for projection in net.projections.values():
        if projection.pre not in net.populations:
            continue
        if late != bool(projection.depth) and not (projection.reach and not projection.delay):
            continue
        if projection.reach:
            size = (net.populations[projection.post].size, net.populations[projection.pre].size)
            there = jnp.ones(size, bool)
        else:
            there = projection.links()
            there = jnp.any(there.reshape(-1, *there.shape[-2:]), axis=0)
        pair = (projection.post, projection.pre)
        found[pair] = found[pair] | there if pair in found else there
    return found


def _pattern(net: Network, name: str, order: int) -> dict[str, Array]:
    """Which units of every population (units, own) those of one population reach."""
    size = {n: p.size for n, p in net.populations.items()}
    now, late = _links(net, False), _links(net, True)
    reached = {n: jnp.eye(size[n], dtype=bool) if n == name else jnp.zeros((size[n], size[name]), bool) for n in size}

    def spread(reached: dict[str, Array], links: dict[tuple[str, str], Array], grow: bool) -> dict[str, Array]:
        after = dict(reached)
        for post in net.order:
            for (to, pre), there in links.items():
                if to == post:
                    source = after[pre] if grow else reached[pre]
                    after[post] = after[post] | (there.astype(net.dtype) @ source.astype(net.dtype) > 0)
        return after

    reached = spread(reached, now, True)
    for _ in range(order - 1):
        reached = spread(spread(reached, late, False), now, True)
    return {n: jnp.ones_like(x) if n in _ends(net) else x for n, x in reached.items()}


def _kept(net: Network, name: str, post: str, order: int, capacity: int | None) -> int:
    """Units of a population that a unit's list has places for: as populations are joined, and no more than capacity."""
    joined = {n: 1 if n == name else 0 for n in net.populations}

    def spread(joined: dict[str, int], late: bool) -> dict[str, int]:
        after = dict(joined)
        for to in net.order:
            for p in net.projections.values():
                there = bool(p.depth) if late else not p.depth or (p.reach and not p.delay)
                if p.post == to and p.pre in net.populations and there and (joined if late else after)[p.pre]:
                    after[to] = net.populations[to].size
        return after

    joined = spread(joined, False)
    for _ in range(order - 1):
        joined = spread(spread(joined, True), False)
    kept = net.populations[post].size if post in _ends(net) else joined[post]
    return kept if capacity is None else min(kept, capacity)
