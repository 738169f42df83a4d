"""The two kernels: steps of a component forwards, and backwards. See `persistent` for where things are kept.

A launch that takes one population one step further finds its step `now`, and the state that it goes on from, in what
the one before it wrote.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from . import steps
from .persistent import Access, Plan, Tile, Weights, wait
from .steps import Errors, Past, State

Refs = dict[str, Any]


def ahead(
    plan: Plan, inputs: Sequence[Refs], weights: Sequence[Any], outputs: Sequence[Refs], now: Array | None = None
) -> None:
    """Run the component.

    Args:
        inputs: by population "rows", "period", "current", the state before the run by the names of `State`, outputs
            from before it: "history" and the "latest".
        weights: (pre, post), of each join.
        outputs: "bits" of spiking populations, "voltage" of others; what `loops.Start` names; the final state, as
            "last_voltage" and so on.
    """
    access, product, tiles = Access(plan), Weights(plan, weights, "pre"), plan.targets()
    rows = [access.rows(inputs[tile.place], tile) for tile in tiles]

    def first(tile: Tile, name: str) -> Any:
        refs = inputs[tile.place] if now is None else outputs[tile.place]
        name = name if now is None or name == "latest" else f"last_{name}"
        return access.load(refs[name], tile) if name in refs else None

    def written(tile: Tile, t: Any, when: Array) -> Array:
        place = tile.place
        if plan.forms[place].kind == "spiking":
            return access.load_bits(outputs[place]["bits"], tile, t, inputs[place]["rows"].dtype, when)
        return access.load(outputs[place]["voltage"], tile, t, when=when)

    def sent(tile: Tile, delay: int, t: Any) -> Array:
        if not delay:
            return written(tile, t, t >= 0)
        history, early = inputs[tile.place]["history"], t < delay
        past = jnp.minimum(history.shape[0] + t - delay, history.shape[0] - 1)
        return access.load(history, tile, past, when=early) + written(tile, jnp.maximum(t - delay, 0), ~early)

    def step(t: Any, carry: Any) -> Any:
        states, recent = list(carry[0]), carry[1]
        sources = [inputs[tile.place].get("current") for tile in tiles]
        currents = [None if s is None else access.load(s, tile, t) for tile, s in zip(tiles, sources, strict=True)]
        out: dict[Tile, Array] = {}
        for n, tile in enumerate(tiles):
            form, refs, current = plan.forms[tile.place], outputs[tile.place], currents[n]
            if current is None:
                current = jnp.broadcast_to(rows[n]["bias"], states[n].voltage.shape)
            for k, join in enumerate(plan.joins):
                if join.post == tile.place:
                    read = _at_hand(plan, join.delay, out, recent, lambda source, e=join: sent(source, e.delay, t))
                    current = product.add(current, k, tile, read)
            states[n], z, slope = steps.ahead(form, rows[n], states[n], current)
            if plan.only is None:
                out[tile] = z
            for name, value in {"above": slope, "phi": slope, **states[n]._asdict()}.items():
                if name in refs:
                    access.store(refs[name], tile, value, t)
            if "bits" in refs:
                access.store_bits(refs["bits"], tile, z, t)
        _turn(plan)
        return states, {tile: out[tile] for tile in recent}

    states = [State(*(first(tile, name) for name in State._fields)) for tile in tiles]
    if now is None:
        recent = {tile: first(tile, "latest") for tile in tiles if plan.carried(tile.place, "pre")}
        states = _run(plan, step, states, recent)
    else:
        states, _ = step(now, (states, {}))
    for tile, state in zip(tiles, states, strict=True):
        for name, value in state._asdict().items():
            if f"last_{name}" in outputs[tile.place]:
                access.store(outputs[tile.place][f"last_{name}"], tile, value)


def back(
    plan: Plan, inputs: Sequence[Refs], weights: Sequence[Any], outputs: Sequence[Refs], now: Array | None = None
) -> None:
    """Carry errors back.

    Args:
        inputs: by population "rows"; "tape": voltage above threshold, psi where the form says that it is given, or
            phi; what else `loops.End` names; dE by the final state, as "last_voltage" and so on.
        weights: (post, pre), of each join.
        outputs: "delta"; dE by the initial state, by the names of `Errors`.
    """
    access, product, tiles = Access(plan), Weights(plan, weights, "post"), plan.targets()
    rows = [access.rows(inputs[tile.place], tile) for tile in tiles]

    def at(tile: Tile, name: str, *t: Any) -> Any:
        refs = inputs[tile.place]
        return access.load(refs[name], tile, *t) if name in refs else None

    def first(tile: Tile, name: str) -> Any:
        if now is None:
            return at(tile, f"last_{name}")
        refs = outputs[tile.place]
        return access.load(refs[name], tile) if name in refs else None

    def earlier(tile: Tile, name: str, t: Any) -> Array | None:
        refs = inputs[tile.place]
        if name not in refs:
            return None
        begin, s = access.load(refs[f"first_{name}"], tile, when=t == 0), jnp.maximum(t - 1, 0)
        if name == "spikes":
            return begin + access.load_bits(refs[name], tile, s, begin.dtype, t > 0)
        return begin + access.load(refs[name], tile, s, when=t > 0)

    def past(n: int, tile: Tile, t: Any) -> Past:
        tape, form = at(tile, "tape", t), plan.forms[tile.place]
        if form.kind == "spiking" and not form.given:
            tape = rows[n]["height"] * jnp.maximum(1 - jnp.abs(tape) * rows[n]["slope"], 0)
        return Past(tape, earlier(tile, "spikes", t), earlier(tile, "voltage", t), at(tile, "adaptation", t))

    def felt(tile: Tile, delay: int, t: Any) -> Array:
        s = t + delay
        return access.load(outputs[tile.place]["delta"], tile, jnp.minimum(s, plan.steps - 1), when=s < plan.steps)

    def step(t: Any, carry: Any) -> Any:
        errors, recent = list(carry[0]), carry[1]
        arriving = [at(tile, "arriving", t) for tile in tiles]
        told = [{name: at(tile, f"at_{name}", t) for name in ("voltage", "adaptation", "synaptic")} for tile in tiles]
        pasts = [past(n, tile, t) for n, tile in enumerate(tiles)]
        delta: dict[Tile, Array] = {}
        for n, tile in reversed(list(enumerate(tiles))):
            error = arriving[n]
            if error is None:
                error = jnp.zeros_like(errors[n].voltage)
            for k, join in enumerate(plan.joins):
                if join.pre == tile.place:
                    read = _at_hand(plan, join.delay, delta, recent, lambda source, e=join: felt(source, e.delay, t))
                    error = product.add(error, k, tile, read)
            more = {name: getattr(errors[n], name) + g for name, g in told[n].items() if g is not None}
            after = errors[n]._replace(**more)
            errors[n], made = steps.back(plan.forms[tile.place], rows[n], after, error, pasts[n])
            access.store(outputs[tile.place]["delta"], tile, made, t)
            if plan.only is None:
                delta[tile] = made
        _turn(plan)
        return errors, {tile: delta[tile] for tile in recent}

    errors = []
    for tile in tiles:
        voltage, spikes = first(tile, "voltage"), None
        if plan.forms[tile.place].kind == "spiking":
            spikes = jnp.zeros_like(voltage) if now is None else first(tile, "spikes")
        errors.append(Errors(voltage, first(tile, "adaptation"), first(tile, "synaptic"), spikes))
    if now is None:
        carried = [(n, tile) for n, tile in enumerate(tiles) if plan.carried(tile.place, "post")]
        recent = {tile: jnp.zeros_like(errors[n].voltage) for n, tile in carried}
        errors = _run(plan, lambda n, carry: step(plan.steps - 1 - n, carry), errors, recent)
    else:
        errors, _ = step(now, (errors, {}))
    for n, tile in enumerate(tiles):
        for name, value in errors[n]._asdict().items():
            if name in outputs[tile.place]:
                access.store(outputs[tile.place][name], tile, value)


def _run(plan: Plan, step: Any, states: list[Any], recent: dict[Tile, Array]) -> list[Any]:
    """All steps. Tiles are no keys that JAX can sort."""
    names = list(recent)

    def turn(n: Any, carry: Any) -> Any:
        states, found = step(n, (carry[0], dict(zip(names, carry[1], strict=True))))
        return states, [found[tile] for tile in names]

    last: list[Any] = jax.lax.fori_loop(0, plan.steps, turn, (states, list(recent.values())))[0]
    return last


def _at_hand(plan: Plan, delay: int, now: Any, recent: dict[Tile, Array], memory: Any) -> Any:
    """How to read what a join carries: where states are in registers and it is fresh, from these, else from memory."""
    if plan.only is not None or delay > 1:
        return memory
    return (lambda tile: recent[tile]) if delay else (lambda tile: now[tile])


def _turn(plan: Plan) -> None:
    """Before the next step, whose loads may be of what this one wrote."""
    if plan.only is None and any(join.delay > 1 for join in plan.joins):
        wait(plan)
