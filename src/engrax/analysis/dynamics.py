"""What a continuous-time network does when it is left alone: fixed points, Lyapunov exponents, limit cycles, phases.

Everything here is about a vector field dx/dt = f(x) of one vector x. `vector_field` makes one of a network under
constant inputs; any function of a vector will do. Double precision is advised (`jax.enable_x64`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from .._checks import finite
from ..errors import ArgumentError
from ..network import Network
from ..network.solve import check_continuous, field

Field: TypeAlias = Callable[[Float[Array, " n"]], Float[Array, " n"]]


class FixedPoints(NamedTuple):
    """Points where nothing moves, the eigenvalues of the Jacobian there, and whether all of them decay."""

    points: Float[np.ndarray, "found n"]
    eigenvalues: Complex[np.ndarray, "found n"]
    stable: Bool[np.ndarray, " found"]


class LimitCycle(NamedTuple):
    """An orbit that closes.

    period: of a turn. points: evenly spaced in time, from phase 0 on. multipliers: Floquet's, by size; one is 1, along
    the orbit, and the orbit is stable if the others lie within the unit circle. gap: how far it is from closing.
    """

    period: float
    points: Float[np.ndarray, "steps n"]
    multipliers: Complex[np.ndarray, " n"]
    gap: float


def vector_field(
    net: Network, inputs: Mapping[str, Any] | None = None
) -> tuple[Field, Float[Array, " n"], Callable[[Float[Array, " n"]], dict[str, Any]]]:
    """A network's field under constant inputs.

    Args:
        net: of models with a derivative; see `Network.solve`.
        inputs: a vector (units,) by input name; one that is left out is zero.

    Returns:
        the field, the vector of the initial state, and a function that turns a vector into states by population.

    Raises:
        NetworkError: the network has no continuous time.
        ArgumentError: an input has another size.
    """
    check_continuous(net)
    given = {}
    for name, size in net.inputs.items():
        x = jnp.asarray((inputs or {}).get(name, jnp.zeros(size)), net.dtype)
        if x.shape != (size,):
            raise ArgumentError(f"input {name!r} must have shape ({size},), got {x.shape}.")
        given[name] = x[None]
    start, unflatten = jax.flatten_util.ravel_pytree(net.init_state(1).neurons)

    def flow(x: Array) -> Array:
        return jax.flatten_util.ravel_pytree(field(net, unflatten(x), given)[0])[0]

    return flow, start, lambda x: jax.tree.map(lambda s: s[0], unflatten(x))


def fixed_points(
    flow: Field, starts: Float[Array, "starts n"], *, tolerance: float = 1e-9, iterations: int = 60
) -> FixedPoints:
    """Fixed points that Newton's method, its steps halved while they lead uphill, finds from some starts.

    Points of which one is within 1e-5 of another count once. None may be found, and not all need be.

    Args:
        flow: the field.
        starts: where to begin; states that a network passes are a good choice.
        tolerance: largest |f| that counts as rest.
        iterations: of Newton's method.

    Source: Sussillo & Barak 2013, for what they tell about a trained network.
    """
    slope = jax.jacfwd(flow)

    def improved(_: Any, x: Array) -> Array:
        way = jnp.linalg.lstsq(slope(x), flow(x))[0]
        sizes = 0.5 ** jnp.arange(12.0).astype(x.dtype)
        tried = x[None] - sizes[:, None] * way[None]
        speeds = jnp.linalg.norm(jax.vmap(flow)(tried), axis=1)
        return tried[jnp.argmin(jnp.where(jnp.isfinite(speeds), speeds, jnp.inf))]

    ends = jax.jit(jax.vmap(lambda x: jax.lax.fori_loop(0, iterations, improved, x)))(starts)
    speeds = np.linalg.norm(np.asarray(jax.vmap(flow)(ends)), axis=1)
    points: list[np.ndarray] = []
    for x in np.asarray(ends)[speeds <= tolerance]:
        if all(np.linalg.norm(x - y) > 1e-5 for y in points):
            points.append(x)
    found = np.array(points).reshape(-1, starts.shape[1])
    eigenvalues = np.array([np.linalg.eigvals(np.asarray(slope(jnp.asarray(x)))) for x in points])
    eigenvalues = eigenvalues.astype(complex).reshape(found.shape)
    return FixedPoints(found, eigenvalues, np.all(eigenvalues.real < 0, axis=1))


def flown(flow: Field, x: Float[Array, " n"], step: Float[Array, ""] | float) -> Float[Array, " n"]:
    """One step of the classical Runge-Kutta method of order four."""
    a = flow(x)
    b = flow(x + step / 2 * a)
    c = flow(x + step / 2 * b)
    d = flow(x + step * c)
    return x + step / 6 * (a + 2 * b + 2 * c + d)


def lyapunov_spectrum(
    flow: Field, start: Float[Array, " n"], *, time: float, step: float, settle: float = 0.0, count: int | None = None
) -> Float[np.ndarray, " count"]:
    """Lyapunov exponents, largest first: the rates at which nearby paths part.

    Tangents are carried along the path and made orthogonal at every step (Benettin et al. 1980; by QR).

    Args:
        flow: the field.
        start: where the path begins.
        time: over which the rates are averaged, after `settle`.
        step: of the integration.
        count: how many; None: all n.

    Raises:
        ArgumentError: a time is impossible.
    """
    time, step = finite("time", time, 0, exclusive=True), finite("step", step, 0, exclusive=True)
    settle, n = finite("settle", settle, 0), start.shape[0]
    count = n if count is None else count
    if not 1 <= count <= n:
        raise ArgumentError(f"count must lie between 1 and {n}, got {count!r}.")
    advance = lambda x: flown(flow, x, step)

    def along(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        x, frame, sums = carry
        after, push = jax.linearize(advance, x)
        frame, triangle = jnp.linalg.qr(jax.vmap(push, in_axes=1, out_axes=1)(frame))
        return (after, frame, sums + jnp.log(jnp.abs(jnp.diag(triangle)))), None

    @jax.jit
    def measured(x: Array) -> Array:
        x = jax.lax.fori_loop(0, round(settle / step), lambda _, x: advance(x), x)
        begin = x, jnp.eye(n, count, dtype=x.dtype), jnp.zeros(count, x.dtype)
        return jax.lax.scan(along, begin, None, length=round(time / step))[0][2]

    return -np.sort(-np.asarray(measured(start)) / (step * round(time / step)))


def limit_cycle(
    flow: Field, start: Float[Array, " n"], *, guess: float, step: float, settle: float = 0.0, points: int = 400
) -> LimitCycle:
    """The periodic orbit near a path, by Newton's method for where it closes and how long a turn takes.

    Args:
        flow: the field.
        start: a point near it.
        guess: about the period.
        step: of the integration, at the most.
        settle: how long the path is followed first.
        points: along the orbit.

    Raises:
        ArgumentError: nothing closes near there.
    """
    guess, step = finite("guess", guess, 0, exclusive=True), finite("step", step, 0, exclusive=True)
    count = -(-int(np.ceil(guess / step)) // points) * points
    advance = jax.jit(lambda x, time: jax.lax.fori_loop(0, count, lambda _, x: flown(flow, x, time / count), x))
    x = jax.jit(lambda x: jax.lax.fori_loop(0, round(settle / step), lambda _, x: flown(flow, x, step), x))(start)
    section = flow(x)

    @jax.jit
    def improved(x: Array, time: Array) -> tuple[Array, Array, Array]:
        end = advance(x, time)
        moves = jax.jacfwd(lambda x: advance(x, time))(x) - jnp.eye(len(x), dtype=x.dtype)
        # Closed, and no further along the flow than where it began.
        matrix = jnp.block([[moves, flow(end)[:, None]], [section[None], jnp.zeros((1, 1), x.dtype)]])
        change = jnp.linalg.lstsq(matrix, -jnp.concatenate([end - x, jnp.zeros(1, x.dtype)]))[0]
        return x + change[:-1], time + change[-1], jnp.linalg.norm(end - x)

    time = jnp.asarray(guess, x.dtype)
    for _ in range(30):
        x, time, gap = improved(x, time)
    gap = float(jnp.linalg.norm(advance(x, time) - x))
    scale = float(jnp.linalg.norm(section)) * guess
    if not np.isfinite(gap) or gap > 1e-4 * scale or not guess / 3 < float(time) < 3 * guess:
        raise ArgumentError(f"no orbit closes near there within about {guess:g}: give another start, guess or settle.")
    multipliers = np.linalg.eigvals(np.asarray(jax.jacfwd(lambda x: advance(x, time))(x)))
    each = count // points
    along = lambda x, _: (jax.lax.fori_loop(0, each, lambda _, x: flown(flow, x, time / count), x), x)
    path = jax.lax.scan(along, x, None, length=points)[1]
    order = np.argsort(-np.abs(multipliers))
    return LimitCycle(float(time), np.asarray(path), multipliers[order].astype(complex), gap)


def phase_response(flow: Field, cycle: LimitCycle, *, step: float, turns: int = 20) -> Float[np.ndarray, "steps n"]:
    """How much earlier (positive) the phase, from 0 to 1, is for a small move of each variable at each point.

    The adjoint's periodic solution dz/dt = -J(x)^T z with z . dx/dt = 1 / period, found by going round backwards
    `turns` times (Malkin's theorem; Ermentrout 1996).

    Args:
        flow: the field. cycle: as `limit_cycle` gave it, stable. step: of the integration, at the most.
    """
    points = jnp.asarray(cycle.points)
    count = len(points)
    each = max(int(np.ceil(cycle.period / count / step)), 1)
    small = cycle.period / count / each

    def backwards(z: Array, x: Array) -> tuple[Array, Array]:
        """Over one stretch of the orbit, from its end to its beginning `x`."""
        path = jax.lax.scan(lambda x, _: (flown(flow, x, small), x), x, None, length=each)[1]
        pull = lambda z, x: (jax.vjp(lambda x: flown(flow, x, small), x)[1](z)[0], None)
        z = jax.lax.scan(pull, z, path, reverse=True)[0]
        return z, z

    @eqx.filter_jit
    def around(z: Array) -> Array:
        found = jax.lax.scan(backwards, z, points, reverse=True)[1]
        return found / jnp.sum(found[0] * flow(points[0])) / cycle.period

    z = flow(points[0])
    for _ in range(turns):
        found = around(z)
        z = found[0]
    return np.asarray(found)
