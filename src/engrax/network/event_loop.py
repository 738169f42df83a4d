"""From event to event: units in closed form between them, and the exact adjoint with its jumps at the spikes.

Events of a trial are inputs on the grid, spikes, and arrivals of spikes with a delay; each trial of a batch goes by its
own clock. Forwards, the state before every event is kept. Backwards, from the last event to the first,

    at a spike of unit n at time t:  dE/dt enters v_n(t-) as  -(dE/dt) / v'_n(t-),

because v_n(t) is the threshold whatever moves it; everything else that an event does is linear. What comes back to a
jump of the currents is delta there, and a weight's gradient one sum over the events that it acted at.

Source: Wunderlich & Pehle 2021 (EventProp); here by differentiating the closed form of each interval.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..neurons.event_unit import EventUnit, area, crossing, later, slope

GRID, SPIKE, ARRIVAL, NOTHING = 0, 1, 2, 3


class Wiring(NamedTuple):
    """What a spike of each unit does to all: rows (unit, units), jumps in units of v or i.

    Args:
        now: at once. late: (groups, unit, units), after `delays` (groups, unit), ms; infinite where there is nothing.
    """

    now: Float[Array, "units units"]
    late: Float[Array, "groups units units"]
    delays: Float[Array, "groups units"]


class Limits(NamedTuple):
    """dt of the grid, ms; spikes of a trial at most; spikes of a trial whose arrival is still to come, at most."""

    dt: float
    spikes: int
    pending: int


class Events(NamedTuple):
    """Spikes in the order of their times, by trial: unit -1 and an infinite time where there was none."""

    times: Float[Array, "events batch"]
    units: Int[Array, "events batch"]


class _Now(NamedTuple):
    """All that changes: clock, states, the integral of v since the last grid step, the next one, and arrivals to come
    with the units that sent them."""

    time: Float[Array, " batch"]
    v: Float[Array, "batch units"]
    i: Float[Array, "batch units"]
    total: Float[Array, "batch units"]
    step: Int[Array, " batch"]
    due: Float[Array, "batch pending groups"]
    sender: Int[Array, "batch pending"]


class _Log(NamedTuple):
    """What the way back needs of each event: the state before it, its time, and what happened to whom."""

    before: Float[Array, "events batch"]
    v: Float[Array, "events batch units"]
    i: Float[Array, "events batch units"]
    time: Float[Array, "events batch"]
    kind: Int[Array, "events batch"]
    unit: Int[Array, "events batch"]
    slot: Int[Array, "events batch"]
    group: Int[Array, "events batch"]
    step: Int[Array, "events batch"]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def simulate(
    unit: EventUnit, wiring: Wiring, drive: Float[Array, "time batch units"], limits: Limits
) -> tuple[Float[Array, "time batch units"], Events]:
    """Mean voltages over each grid step, and all spikes. `drive[k]` jumps at time k dt.

    Means, because they change smoothly where a spike moves from one step to the next, and samples would not.

    Raises:
        EquinoxRuntimeError: more spikes than `limits` has room for.
    """
    voltages, log, _ = _forwards(unit, wiring, drive, limits)
    return voltages, _spikes(log)


def _spikes(log: _Log) -> Events:
    fired = log.kind == SPIKE
    return Events(jnp.where(fired, log.time, jnp.inf), jnp.where(fired, log.unit, -1))


def _forwards(unit: EventUnit, wiring: Wiring, drive: Array, limits: Limits) -> tuple[Array, _Log, Any]:
    steps, batch, size = drive.shape
    groups = wiring.late.shape[0]
    most = steps + 1 + limits.spikes * (1 + groups)
    dtype, trials = drive.dtype, jnp.arange(batch)
    none, filtered = jnp.zeros(batch, jnp.int32), unit.filtered[None] > 0
    start = _Now(
        jnp.zeros(batch, dtype),
        jnp.zeros((batch, size), dtype),
        jnp.zeros((batch, size), dtype),
        jnp.zeros((batch, size), dtype),
        none,
        jnp.full((batch, limits.pending, groups), jnp.inf, dtype),
        jnp.zeros((batch, limits.pending), jnp.int32),
    )
    row = lambda kind: jnp.full((most, batch), 0, kind)
    states = jnp.zeros((most, batch, size), dtype)
    log = _Log(row(dtype), states, states, row(dtype), row(jnp.int32) + NOTHING, *[row(jnp.int32)] * 4)

    def going(carry: Any) -> Array:
        now, _, _, count, full = carry
        return jnp.any(now.step <= steps) & (count < most) & ~full

    def event(carry: Any) -> Any:
        now, voltages, log, count, full = carry
        finished = now.step > steps
        grid = now.step.astype(dtype) * limits.dt
        limit, kind = grid, jnp.full(batch, GRID, jnp.int32)
        slot = group = none
        if groups:
            flat = now.due.reshape(batch, -1)
            place = jnp.argmin(flat, axis=1).astype(jnp.int32)
            first = flat[trials, place]
            slot, group = place // groups, place % groups
            limit = jnp.minimum(grid, first)
            kind = jnp.where(first <= grid, ARRIVAL, kind)
        wait = jnp.maximum(limit - now.time, 0)
        until = crossing(unit, now.v, now.i, jnp.where(finished, 0, wait)[:, None])
        who = jnp.argmin(until, axis=1).astype(jnp.int32)
        soonest = until[trials, who]
        spikes = jnp.isfinite(soonest)
        kind = jnp.where(finished, NOTHING, jnp.where(spikes, SPIKE, kind))
        passed = jnp.where(finished, 0, jnp.where(spikes, soonest, wait))
        time = jnp.where(finished, now.time, jnp.where(spikes, now.time + soonest, limit))
        v, i = later(unit, now.v, now.i, passed[:, None])
        total = now.total + area(unit, (now.v, now.i), (v, i))

        # What happens: spikes reset and jump, arrivals and inputs jump.
        sampled = jnp.where((kind == GRID) & (now.step > 0), now.step - 1, steps)
        voltages = voltages.at[sampled, trials].set(total / limits.dt, mode="drop")
        jump = jnp.where((kind == SPIKE)[:, None], wiring.now[who], 0)
        given = drive[jnp.minimum(now.step, steps - 1), trials]
        jump = jump + jnp.where(((kind == GRID) & (now.step < steps))[:, None], given, 0)
        due, sender, whose = now.due, now.sender, who
        if groups:
            came = kind == ARRIVAL
            whose = jnp.where(came, sender[trials, slot], who)
            jump = jump + jnp.where(came[:, None], wiring.late[group, whose], 0)
            due = due.at[trials, slot, group].set(jnp.where(came, jnp.inf, due[trials, slot, group]))
            sends = (kind == SPIKE) & jnp.any(jnp.isfinite(wiring.delays), axis=0)[who]
            free = jnp.all(jnp.isinf(due), axis=2)
            room = jnp.argmax(free, axis=1).astype(jnp.int32)
            full = full | jnp.any(sends & ~free[trials, room])
            slot = jnp.where(kind == SPIKE, room, slot)
            arrivals = time[:, None] + wiring.delays[:, who].T
            due = due.at[trials, room].set(jnp.where(sends[:, None], arrivals, due[trials, room]))
            sender = sender.at[trials, room].set(jnp.where(sends, who, sender[trials, room]))
        new = _Log(now.time, now.v, now.i, time, kind, whose, slot, group, now.step)
        log = _Log(*(whole.at[count].set(part.astype(whole.dtype)) for whole, part in zip(log, new, strict=True)))
        reset = (kind == SPIKE)[:, None] & (who[:, None] == jnp.arange(size, dtype=jnp.int32)[None])
        v = jnp.where(reset, 0, v) + jnp.where(filtered, 0, jump)
        i = i + jnp.where(filtered, jump, 0)
        step = now.step + (kind == GRID).astype(jnp.int32)
        total = jnp.where((kind == GRID)[:, None], 0, total)
        return _Now(time, v, i, total, step, due, sender), voltages, log, count + 1, full

    empty = jnp.zeros((steps, batch, size), dtype)
    now, voltages, log, count, full = jax.lax.while_loop(going, event, (start, empty, log, 0, jnp.asarray(False)))
    many = f"more than max_spikes = {limits.spikes} spikes in a trial: raise it, or the thresholds"
    waiting = f"more than pending = {limits.pending} spikes of a trial are under way at once: raise it"
    voltages = eqx.error_if(voltages, full, waiting)
    voltages = eqx.error_if(voltages, jnp.any(now.step <= steps) & ~full, many)
    return voltages, log, count


def _keep(unit: EventUnit, wiring: Wiring, drive: Array, limits: Limits) -> tuple[Any, Any]:
    voltages, log, count = _forwards(unit, wiring, drive, limits)
    return (voltages, _spikes(log)), (unit, wiring, log, count, drive.shape)


def _backwards(limits: Limits, kept: Any, cotangents: Any) -> Any:
    unit, wiring, log, count, (steps, batch, size) = kept
    by_voltage, (by_time, _) = cotangents
    groups, dtype, trials = wiring.late.shape[0], log.v.dtype, jnp.arange(batch)
    units = jnp.arange(size, dtype=jnp.int32)

    def between(unit: EventUnit, v: Array, i: Array, passed: Array, spiked: Array, who: Array) -> Any:
        """The interval before an event, as a function of what it began with. `passed` moves where it is given; a
        spike's is the threshold's, which a Newton step at the solution says to first order."""
        there, current = later(unit, v, i, jax.lax.stop_gradient(passed)[:, None])
        steep = jax.lax.stop_gradient(slope(unit, there, current)[trials, who])
        threshold = unit.threshold[who]
        off = there[trials, who] - jnp.where(spiked, threshold, 0)
        by_newton = -(off - jax.lax.stop_gradient(off)) / jnp.where(steep > 0, steep, jnp.inf)
        passed = jnp.where(spiked, jax.lax.stop_gradient(passed) + by_newton, passed)
        after = later(unit, v, i, passed[:, None])
        return *after, area(unit, (v, i), after), passed

    def event(carry: Any) -> Any:
        count, g_time, g_v, g_i, g_total, g_due, g_unit, g_wiring, g_drive = carry
        count = count - 1
        e = jax.tree.map(lambda x: x[count], log)
        spiked = e.kind == SPIKE
        delta = jnp.where(unit.filtered[None] > 0, g_i, g_v)
        g_now = g_wiring.now.at[jnp.where(spiked, e.unit, size)].add(delta, mode="drop")
        g_late, g_delays = g_wiring.late, g_wiring.delays
        given = jnp.where((e.kind == GRID) & (e.step < steps), e.step, steps)
        g_drive = g_drive.at[given, trials].set(delta, mode="drop")
        reset = spiked[:, None] & (e.unit[:, None] == units[None])
        g_v = jnp.where(reset, 0, g_v)
        sampled = jnp.where((e.kind == GRID) & (e.step > 0), e.step - 1, steps)
        mean = by_voltage.at[sampled, trials].get(mode="fill", fill_value=0) / limits.dt
        g_total = jnp.where((e.kind == GRID)[:, None], mean, g_total)
        g_event = g_time + jnp.where(spiked, by_time[count], 0)
        if groups:
            sent = jnp.where(spiked[:, None], g_due[trials, e.slot], 0)
            g_event = g_event + jnp.sum(sent, axis=1)
            g_delays = g_delays.at[:, e.unit].add(sent.T)
            g_due = g_due.at[trials, e.slot].set(jnp.where(spiked[:, None], 0, g_due[trials, e.slot]))
        # The clock: what passed is until the event, whose time is the last event's plus that, or given.
        free = e.time - e.before
        _, pull = jax.vjp(lambda unit, v, i, passed: between(unit, v, i, passed, spiked, e.unit), unit, e.v, e.i, free)
        more, g_v, g_i, g_passed = pull((g_v, g_i, g_total, jnp.where(spiked, g_event, 0)))
        g_unit = jax.tree.map(jnp.add, g_unit, more)
        if groups:
            came = e.kind == ARRIVAL
            g_due = g_due.at[trials, e.slot, e.group].add(jnp.where(came, g_event + g_passed, 0))
            g_late = g_late.at[jnp.where(came, e.group, groups), e.unit].add(delta, mode="drop")
        # A spike's time moves with the clock it was counted from; other events have their own, and a later start
        # leaves less to pass.
        g_time = jnp.where(spiked, g_event, jnp.where(e.kind == NOTHING, g_time, -g_passed))
        g_wiring = Wiring(g_now, g_late, g_delays)
        return count, g_time, g_v, g_i, g_total, g_due, g_unit, g_wiring, g_drive

    zeros = jnp.zeros((batch, size), dtype)
    start = (
        *(count, jnp.zeros(batch, dtype), zeros, zeros, zeros),
        *(jnp.zeros((batch, limits.pending, groups), dtype), jax.tree.map(jnp.zeros_like, unit)),
        *(jax.tree.map(jnp.zeros_like, wiring), jnp.zeros((steps, batch, size), dtype)),
    )
    ended = jax.lax.while_loop(lambda carry: carry[0] > 0, event, start)
    g_unit, g_wiring, g_drive = ended[6:]
    return g_unit, g_wiring, g_drive


simulate.defvjp(_keep, _backwards)
