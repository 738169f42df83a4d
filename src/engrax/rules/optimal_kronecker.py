"""RTRL with the best sum of r Kronecker products (Benzing et al. 2019): of all that are right on average, the one with
the least noise.

A step turns r products into r + 1: those before it, moved on, and what entered. In orthonormal bases of the vectors and
of the matrices these are an (r + 1) x (r + 1) matrix, whose singular values above a bound stay as they are while the
others are mixed by random signs into what is left of r.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..parameter import positive_integer
from .influence import Influence, Plan, groups
from .kf_rtrl import initial
from .tangent import TRIALS, Change, Step, nothing


class OptimalKronecker(Influence):
    """RTRL with the best sum of `rank` Kronecker products: unbiased, with the least noise for its size.

    Args:
        rank: r, how many products are kept for each population.
        loss, reduction, scale: see `Rule`.

    Cost for n units: time r n^3 a step and trial, memory r n^2 a trial.

    Source: Benzing et al. 2019, Algorithm 1 and Theorem 1 (r-OK).
    """

    draws: ClassVar[bool] = True

    rank: int = eqx.field(static=True, default=4, converter=positive_integer("OptimalKronecker: rank"))

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        net = plan.net
        found = {
            name: (
                jnp.zeros((batch, self.rank, sum(plan.shape(s)[2] for s in group)), net.dtype),
                nothing(net, batch, plan.sums, (self.rank, plan.entries(name), net.populations[name].size)),
            )
            for name, group in groups(plan).items()
        }
        for s, column, place, moved in initial(plan, batch):
            a, b = found[s.population]
            own = moved[..., None] * jnp.eye(moved.shape[-1], dtype=moved.dtype)[None, None]
            states = {**b.states, s.population: b.states[s.population].at[:, :, :, 0, column].add(own)}
            found[s.population] = (a.at[:, 0, place].set(1), b._replace(states=states))
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
            vectors = jnp.concatenate([a, now[:, None]], axis=1)
            both = Change(
                {n: jnp.concatenate([x, fresh.states[n][..., None, :, :]], axis=3) for n, x in kept.states.items()},
                {n: jnp.concatenate([x, fresh.history[n][..., None, :, :]], axis=3) for n, x in kept.history.items()},
                {n: jnp.concatenate([x, fresh.sums[n][..., None, :, :]], axis=2) for n, x in kept.sums.items()},
            )
            keys = jax.random.split(jax.random.fold_in(key, at), batch)
            reduced = jax.vmap(self._reduced, in_axes=(0, TRIALS, 0), out_axes=(0, TRIALS))
            after[name] = reduced(vectors, both, keys)
            seen[name] = (
                vectors,
                {n: jnp.concatenate([y, more[n][..., None, :, :]], axis=2) for n, y in outputs.items()},
            )
        return after, seen

    def _reduced(self, vectors: Array, matrices: Change, key: PRNGKeyArray) -> tuple[Array, Change]:
        """A trial's r + 1 products as r with the same mean."""
        leaves = [jnp.moveaxis(x, -3, 0).reshape(self.rank + 1, -1) for x in jax.tree.leaves(matrices)]
        flat = jnp.concatenate(leaves, axis=1)
        first, back = _root(vectors @ vectors.T)
        second, again = _root(flat @ flat.T)
        u, s, v = jacobi_svd(first @ second.T)
        mix = reduce(s, self.rank, key)
        left, right = back @ u @ mix, again @ v @ mix
        mixed = lambda x: jnp.moveaxis(jnp.tensordot(right, jnp.moveaxis(x, -3, 0), ((0,), (0,))), 0, -3)
        return left.T @ vectors, jax.tree.map(mixed, matrices)

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        found = {}
        for name, group in groups(plan).items():
            vectors, outputs = seen[name]
            told: Any = 0.0
            for label, error in errors.items():
                told = told + jnp.einsum("bk,bkrci->brci", error, outputs[label])
            at = 0
            for s in group:
                width = plan.shape(s)[2]
                mine = jnp.stack([told[:, :, c] for c in plan.columns(s)], axis=2)
                found[s.label] = jnp.einsum("brqi,brj->qij", mine, vectors[:, :, at : at + width])
                at += width
        return found

    def sums(self, influence: Any) -> Any:
        return {name: (a, b.sums) for name, (a, b) in influence.items()}


def reduce(values: Array, rank: int, key: PRNGKeyArray) -> Array:
    """A random L (values, rank) with <L L'> = diag(values), of the least variance (Benzing et al. 2019, Theorem 1).

    Args:
        values: singular values, from large to small, at most rank + 1 of them.
    """
    count = values.shape[0]
    if count <= rank:
        return jnp.sqrt(values)[:, None] * jnp.eye(count, rank, dtype=values.dtype)
    # The first m stay as they are, m the least with (rank - m) s_m <= s_m + s_(m+1) + ..., counted from zero.
    places = jnp.arange(count)
    tails = jnp.cumsum(values[::-1])[::-1]
    m = jnp.argmax((rank - places).astype(values.dtype) * values <= tails)
    late, left, tail = places >= m, (rank - m).astype(values.dtype), tails[m]
    some = tail > 0
    share = jnp.where(some, values * left / jnp.where(some, tail, 1), left / (left + 1))
    z = jnp.where(late, jnp.sqrt(jnp.maximum(1 - share, 0)), 0)
    # A reflection that sends the last axis to z: its other columns are an orthonormal basis of what is at right angles.
    u = z - (places == count - 1).astype(z.dtype)
    size = jnp.sum(u**2)
    reflection = jnp.eye(count, dtype=values.dtype) - jnp.outer(u, u) * (2 / jnp.where(size > 0, size, 1))
    signs = jax.random.rademacher(key, (count,), values.dtype)
    scale = jnp.where(late, signs * jnp.sqrt(tail / left), jnp.sqrt(values))
    return scale[:, None] * reflection[:, :rank]


def _root(gram: Array) -> tuple[Array, Array]:
    """R with R' R = gram, and its inverse. Directions that hardly exist are made a little larger: the mean of what is
    made of the products does not depend on it."""
    _, values, vectors = jacobi_svd(gram)
    least = jnp.finfo(gram.dtype).eps * values[0] + jnp.finfo(gram.dtype).tiny
    root = jnp.sqrt(jnp.maximum(values, least))
    return root[:, None] * vectors.T, vectors / root[None]


def jacobi_svd(matrix: Array, sweeps: int = 8) -> tuple[Array, Array, Array]:
    """Singular values of a small square matrix, from large to small: u, s, v with matrix = u diag(s) v'.

    By rotations of pairs of columns (one-sided Jacobi), those of disjoint pairs at once: many small matrices take no
    more calls than one, as those of a linear-algebra library would.
    """
    count = matrix.shape[0]
    size = count + count % 2
    # Everybody meets everybody once a sweep: one column stays, the others go round.
    table = [[0, *((np.arange(size - 1) + turn) % (size - 1) + 1)] for turn in range(size - 1)]
    pairs = np.array([[sorted((row[i], row[size - 1 - i])) for i in range(size // 2)] for row in table])
    first, second = jnp.asarray(pairs[..., 0]), jnp.asarray(pairs[..., 1])
    wide = jnp.pad(matrix, ((0, 0), (0, size - count)))

    def turn(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        p, q = first[i % (size - 1)], second[i % (size - 1)]
        w = carry[0]
        a, b, both = (jnp.sum(x * y, axis=0) for x, y in ((w[:, p], w[:, p]), (w[:, q], w[:, q]), (w[:, p], w[:, q])))
        some = both != 0
        zeta = (b - a) / jnp.where(some, 2 * both, 1)
        tangent = jnp.where(zeta >= 0, 1.0, -1.0).astype(w.dtype) / (jnp.abs(zeta) + jnp.sqrt(1 + zeta**2))
        tangent = jnp.where(some, tangent, 0)
        cosine = 1 / jnp.sqrt(1 + tangent**2)
        sine = (cosine * tangent)[None]

        def rotated(x: Array) -> Array:
            one, two = x[:, p], x[:, q]
            return x.at[:, p].set(cosine[None] * one - sine * two).at[:, q].set(sine * one + cosine[None] * two)

        return rotated(w), rotated(carry[1])

    moved, v = jax.lax.fori_loop(0, sweeps * (size - 1), turn, (wide, jnp.eye(size, dtype=matrix.dtype)))
    # The column that was added is zero, and is the last.
    values = jnp.sqrt(jnp.sum(moved**2, axis=0))
    order = jnp.argsort(-values)[:count]
    moved, v, values = moved[:, order], v[:count, order], values[order]
    return moved / jnp.where(values > 0, values, 1)[None], values, v
