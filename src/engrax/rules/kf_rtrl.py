"""RTRL with Kronecker factors: the influence of a population's weights as a random product of what was seen, and what
became of each current (Mujika et al. 2018), or the other way about.

A population sees s = (all that is presynaptic to it, 1), so that what a weight does at once is e_i s_j. Kept is

    KFRTRL          s-like vector x matrix:     M(t) ~ a_j B_ki,    B = (state, current)
    ReverseKFRTRL   current-like vector x matrix: M(t) ~ a_i B_kj,  B = (state, seen)

B is carried by the network itself, one linear step for each of its columns.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from . import traces
from .influence import Influence, Plan, groups
from .tangent import Step, nothing
from .uoro import alive, blend, draw, reach, scale, size_of, wide


class _Kronecker(Influence):
    """Influence by population as (vector, matrix)."""

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        found = {}
        for name, group in groups(plan).items():
            currents, heard = self._factors(influence[name][0], _told(errors, seen[name]))
            at = 0
            for s in group:
                width = plan.shape(s)[2]
                mine = jnp.stack([currents[:, c] for c in plan.columns(s)], axis=1)
                found[s.label] = jnp.einsum("bqi,bj->qij", mine, heard[:, at : at + width])
                at += width
        return found

    def sums(self, influence: Any) -> Any:
        return {name: b.sums for name, (_, b) in influence.items()}

    def _factors(self, vector: Array, told: Array) -> tuple[Array, Array]:
        """What there is of currents (batch, ports + parameters, units), and of what is heard (batch, seen)."""
        raise TypeError(f"{type(self).__name__} must define _factors(vector, told).")


class KFRTRL(_Kronecker):
    """RTRL with Kronecker factors: unbiased, with less noise than UORO's.

    For each population, with one random sign each for the past and the present of a trial's step,

        a <- s1 p0 a + s2 p1 seen,    B <- s1 J B / p0 + s2 D / p1,
        p0 = sqrt(|J B| / |a|),       p1 = sqrt(|D| / |seen|).

    Cost for n units: time n^3 a step and trial, memory n^2 a trial.

    Source: Mujika et al. 2018; Marschall et al. 2020.
    """

    draws: ClassVar[bool] = True

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        net = plan.net
        found = {
            name: (
                jnp.zeros((batch, sum(plan.shape(s)[2] for s in group)), net.dtype),
                nothing(net, batch, plan.sums, (plan.entries(name), net.populations[name].size)),
            )
            for name, group in groups(plan).items()
        }
        for s, column, place, moved in initial(plan, batch):
            a, b = found[s.population]
            own = moved[..., None] * jnp.eye(moved.shape[-1], dtype=moved.dtype)[None, None]
            states = {**b.states, s.population: b.states[s.population].at[..., column, :].add(own)}
            found[s.population] = (a.at[:, place].set(1), b._replace(states=states))
        return found

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        assert key is not None
        batch = next(iter(pre.values())).shape[0]
        after, seen = {}, {}
        for at, (name, group) in enumerate(groups(plan).items()):
            a, b = before[name]
            now = jnp.concatenate([pre[s.label] for s in group], axis=1)
            entries, units = plan.entries(name), plan.net.populations[name].size
            kept, outputs = step.push(b, {})
            each = jnp.eye(entries * units, dtype=plan.net.dtype).reshape(entries, 1, units, entries, units)
            each = jnp.broadcast_to(each, (entries, batch, units, entries, units))
            fresh, more = step.push(nothing(plan.net, batch, plan.sums, (entries, units)), {name: each})
            s1, s2 = jax.random.rademacher(jax.random.fold_in(key, at), (2, batch), plan.net.dtype)
            p0, p1 = scale(reach(kept), size_of(a)), scale(size_of(fresh), size_of(now))
            joined = wide(s1 * p0 * alive(kept), 2) * a + wide(s2 * p1, 2) * now
            after[name] = (joined, blend(s1 / p0, kept, s2 / p1, fresh))
            seen[name] = {n: wide(s1 / p0, y.ndim) * y + wide(s2 / p1, y.ndim) * more[n] for n, y in outputs.items()}
        return after, seen

    def _factors(self, vector: Array, told: Array) -> tuple[Array, Array]:
        return told, vector


class ReverseKFRTRL(_Kronecker):
    """RTRL with Kronecker factors the other way about: a random vector of currents and a matrix of what was seen.

        a <- p0 a + p1 nu,    B <- J B / p0 + D nu seen' / p1,
        p0 = sqrt(|J B| / |a|),    p1 = sqrt(|D nu seen'| / |nu|), nu random signs of a population's currents.

    Cost for n units: time n^3 a step and trial, memory n^2 a trial.

    Source: Marschall et al. 2020.
    """

    draws: ClassVar[bool] = True

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        net = plan.net
        found = {
            name: (
                jnp.zeros((batch, plan.entries(name), net.populations[name].size), net.dtype),
                nothing(net, batch, plan.sums, (sum(plan.shape(s)[2] for s in group),)),
            )
            for name, group in groups(plan).items()
        }
        assert key is not None
        signs = draw(plan, key, batch)
        for s, column, place, moved in initial(plan, batch):
            a, b = found[s.population]
            mine = signs[s.population][column]
            states = {**b.states, s.population: b.states[s.population].at[..., place].add(mine[None] * moved)}
            found[s.population] = (a.at[:, column].set(mine), b._replace(states=states))
        return found

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        batch = next(iter(pre.values())).shape[0]
        signs = draw(plan, key, batch)
        after, seen = {}, {}
        for name, group in groups(plan).items():
            a, b = before[name]
            now = jnp.concatenate([pre[s.label] for s in group], axis=1)
            mine = jnp.moveaxis(signs[name], 0, 1)
            kept, outputs = step.push(b, {})
            entering = {name: signs[name][..., None] * now[None, :, None, :]}
            fresh, more = step.push(nothing(plan.net, batch, plan.sums, (now.shape[1],)), entering)
            p0, p1 = scale(reach(kept), size_of(a)), scale(size_of(fresh), size_of(mine))
            after[name] = (wide(p0 * alive(kept), 3) * a + wide(p1, 3) * mine, blend(1 / p0, kept, 1 / p1, fresh))
            seen[name] = {n: y / wide(p0, y.ndim) + more[n] / wide(p1, y.ndim) for n, y in outputs.items()}
        return after, seen

    def _factors(self, vector: Array, told: Array) -> tuple[Array, Array]:
        return vector, told


def initial(plan: Plan, batch: int) -> list[tuple[Any, int, int, Array]]:
    """What parameters do to states before the first step: source, column, place in what is seen, (d, batch, units)."""
    found = []
    for group in groups(plan).values():
        at = 0
        for s in group:
            if s.kind == "parameter":
                found.append((s, plan.columns(s)[0], at, jnp.stack(traces.start(plan.net, s, batch, 1))[:, :, 0, :, 0]))
            at += plan.shape(s)[2]
    return found


def _told(errors: dict[str, Array], seen: dict[str, Array]) -> Any:
    """What errors say of each column of B: (batch, ...)."""
    total: Any = 0.0
    for label, error in errors.items():
        total = total + jnp.einsum("bk,bk...->b...", error, seen[label])
    return total
