"""The two kernels: all steps of a component forwards, and all backwards. See `persistent` for where things are kept."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import steps
from .persistent import Access, Plan, Tile, Weights, wait
from .steps import Errors, Past, State

Refs = dict[str, Any]


def ahead(plan: Plan, inputs: Sequence[Refs], weights: Sequence[Any], *outputs: Refs) -> None:
    """Run the component.

    Args:
        inputs: by population "rows", "period", "current", the state before the run by the names of `State`, outputs
            from before it: "history" and the "latest".
        weights: (pre, post), of each join.
        outputs: "bits" of spiking populations, "voltage" of others; what `loops.Start` names; the final state, as
            "last_voltage" and so on.
    """
    access, product = Access(plan), Weights(plan, weights, "pre")
    tiles, of = range(len(plan.tiles)), [tile.place for tile in plan.tiles]
    rows = [access.rows(inputs[of[j]], j) for j in tiles]

    def first(j: int, name: str) -> Any:
        return access.load(inputs[of[j]][name], j) if name in inputs[of[j]] else None

    def written(place: int, tile: int | Tile, t: Any, when: Array) -> Array:
        if plan.forms[place].kind == "spiking":
            return access.load_bits(outputs[place]["bits"], tile, t, inputs[place]["rows"].dtype, when)
        return access.load(outputs[place]["voltage"], tile, t, when=when)

    def sent(place: int, tile: int | Tile, delay: int, t: Any) -> Array:
        if not delay:
            return written(place, tile, t, t >= 0)
        history, early = inputs[place]["history"], t < delay
        past = jnp.minimum(history.shape[0] + t - delay, history.shape[0] - 1)
        return access.load(history, tile, past, when=early) + written(place, tile, jnp.maximum(t - delay, 0), ~early)

    def step(t: Any, carry: Any) -> Any:
        states, recent = list(carry[0]), carry[1]
        sources = [inputs[i].get("current") for i in of]
        currents = [None if s is None else access.load(s, j, t) for j, s in enumerate(sources)]
        out: list[Array] = []
        for j in tiles:
            current = currents[j]
            if current is None:
                current = jnp.broadcast_to(rows[j]["bias"], states[j].voltage.shape)
            for k, join in enumerate(plan.joins):
                if join.post == of[j]:
                    read = _at_hand(plan, join.delay, out, recent, lambda tile, e=join: sent(e.pre, tile, e.delay, t))
                    current = product.add(current, k, j, read)
            states[j], z, slope = steps.ahead(plan.form(j), rows[j], states[j], current)
            out.append(z)
            refs, state = outputs[of[j]], states[j]
            for name, value in {"above": slope, "phi": slope, **state._asdict()}.items():
                if name in refs:
                    access.store(refs[name], j, value, t)
            if "bits" in refs:
                access.store_bits(refs["bits"], j, z, t)
            if j == plan.parts(of[j])[-1] and _soon(plan, of[j], "pre"):
                wait(plan)
        _turn(plan)
        return states, [None if x is None else z for x, z in zip(recent, out, strict=True)]

    states = [State(*(first(j, name) for name in State._fields)) for j in tiles]
    recent = [first(j, "latest") if plan.carried(of[j], "pre") else None for j in tiles]
    states, _ = jax.lax.fori_loop(0, plan.steps, step, (states, recent))
    for j in tiles:
        for name, value in states[j]._asdict().items():
            if f"last_{name}" in outputs[of[j]]:
                access.store(outputs[of[j]][f"last_{name}"], j, value)


def back(plan: Plan, inputs: Sequence[Refs], weights: Sequence[Any], *outputs: Refs) -> None:
    """Carry errors back.

    Args:
        inputs: by population "rows"; "tape": voltage above threshold, psi where the form says that it is given, or
            phi; what else `loops.End` names; dE by the final state, as "last_voltage" and so on.
        weights: (post, pre), of each join.
        outputs: "delta"; dE by the initial state, by the names of `Errors`.
    """
    access, product = Access(plan), Weights(plan, weights, "post")
    tiles, of = range(len(plan.tiles)), [tile.place for tile in plan.tiles]
    rows = [access.rows(inputs[of[j]], j) for j in tiles]
    last = [access.load(inputs[of[j]]["last_voltage"], j) for j in tiles]

    def at(j: int, name: str, *t: Any) -> Any:
        return access.load(inputs[of[j]][name], j, *t) if name in inputs[of[j]] else None

    def earlier(j: int, name: str, t: Any) -> Array | None:
        refs = inputs[of[j]]
        if name not in refs:
            return None
        first, s = access.load(refs[f"first_{name}"], j, when=t == 0), jnp.maximum(t - 1, 0)
        if name == "spikes":
            return first + access.load_bits(refs[name], j, s, first.dtype, t > 0)
        return first + access.load(refs[name], j, s, when=t > 0)

    def past(j: int, t: Any) -> Past:
        tape = at(j, "tape", t)
        if plan.form(j).kind == "spiking" and not plan.form(j).given:
            tape = rows[j]["height"] * jnp.maximum(1 - jnp.abs(tape) * rows[j]["slope"], 0)
        return Past(tape, earlier(j, "spikes", t), earlier(j, "voltage", t), at(j, "adaptation", t))

    def felt(place: int, tile: int | Tile, delay: int, t: Any) -> Array:
        s = t + delay
        return access.load(outputs[place]["delta"], tile, jnp.minimum(s, plan.steps - 1), when=s < plan.steps)

    def step(n: Any, carry: Any) -> Any:
        t = plan.steps - 1 - n
        errors, recent = list(carry[0]), carry[1]
        arriving = [at(j, "arriving", t) for j in tiles]
        told = [{name: at(j, f"at_{name}", t) for name in ("voltage", "adaptation", "synaptic")} for j in tiles]
        pasts = [past(j, t) for j in tiles]
        delta: dict[int, Array] = {}
        for j in reversed(tiles):
            error = arriving[j]
            if error is None:
                error = jnp.zeros_like(last[j])
            for k, join in enumerate(plan.joins):
                if join.pre == of[j]:
                    read = _at_hand(
                        plan, join.delay, delta, recent, lambda tile, e=join: felt(e.post, tile, e.delay, t)
                    )
                    error = product.add(error, k, j, read)
            more = {name: getattr(errors[j], name) + g for name, g in told[j].items() if g is not None}
            after = errors[j]._replace(**more)
            errors[j], delta[j] = steps.back(plan.form(j), rows[j], after, error, pasts[j])
            access.store(outputs[of[j]]["delta"], j, delta[j], t)
            if j == plan.parts(of[j])[0] and _soon(plan, of[j], "post"):
                wait(plan)
        _turn(plan)
        return errors, [None if x is None else delta[j] for j, x in enumerate(recent)]

    errors = []
    for j in tiles:
        adaptation, synaptic = at(j, "last_adaptation"), at(j, "last_synaptic")
        spikes = jnp.zeros_like(last[j]) if plan.form(j).kind == "spiking" else None
        errors.append(Errors(last[j], adaptation, synaptic, spikes))
    recent = [jnp.zeros_like(last[j]) if plan.carried(of[j], "post") else None for j in tiles]
    errors, _ = jax.lax.fori_loop(0, plan.steps, step, (errors, recent))
    for j in tiles:
        for name, value in errors[j]._asdict().items():
            if name in outputs[of[j]]:
                access.store(outputs[of[j]][name], j, value)


def _at_hand(plan: Plan, delay: int, now: Any, recent: Sequence[Any], memory: Any) -> Any:
    """How to read what a join carries: from registers where weights are held and it is fresh, else from memory."""
    if not plan.held or delay > 1:
        return memory
    return (lambda tile: recent[tile]) if delay else (lambda tile: now[tile])


def _soon(plan: Plan, place: int, end: str) -> bool:
    """Whether what a population sends is read from memory within the step."""
    return not plan.held and any(getattr(join, end) == place and not join.delay for join in plan.joins)


def _turn(plan: Plan) -> None:
    """Before the next step, whose loads may be of what this one wrote."""
    if any(join.delay > (1 if plan.held else 0) for join in plan.joins):
        wait(plan)
