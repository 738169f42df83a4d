"""What e-prop and its stream are given, checked before anything is traced; every message names the argument."""

from typing import Any

import jax.numpy as jnp

from .._checks import as_array, check_key
from ..errors import ArgumentError, unknown
from ..kernels import TRACES
from ..network import Network
from ..parameter import positive_integer
from .feedback import drawn
from .online import LocalState
from .rule import by_label, check_network


def check_feedback(rule: Any) -> None:
    """Raise an ArgumentError for an impossible seed or feedback_scale of a rule."""
    name, scale = type(rule).__name__, rule.feedback_scale
    if isinstance(rule.seed, bool) or not isinstance(rule.seed, int) or rule.seed < 0:
        raise ArgumentError(f"{name}: seed must be an integer >= 0, got {rule.seed!r}.")
    if scale is not None:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise ArgumentError(f"{name}: feedback_scale must be a number > 0 or None, got {scale!r}.")
        if not drawn(rule.feedback):
            raise ArgumentError(f"{name}: feedback_scale has no meaning with symmetric feedback; leave it out.")


def check_settings(rule: Any) -> None:
    """Raise an ArgumentError for an impossible setting of `EProp`."""
    check_feedback(rule)
    budget = rule.memory_budget
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise ArgumentError(f"EProp: memory_budget must be a number of bytes, got {budget!r}.")
    if rule.trace is not None and rule.trace not in TRACES:
        raise unknown("trace", rule.trace, TRACES)
    bits = rule.trace_bits
    if bits is not None:
        if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
            raise ArgumentError(f"EProp: trace_bits must be an integer from 2 to 16 or None, got {bits!r}.")
        if rule.evaluation != "online":
            raise ArgumentError(
                f"EProp: trace_bits needs evaluation='online', which carries traces from step to step; "
                f"{rule.evaluation!r} has none to round."
            )


def check_init(net: Any, batch: Any, key: Any) -> None:
    """Raise an ArgumentError for an impossible argument of `init`."""
    check_network(net)
    positive_integer("batch")(batch)
    if key is not None:
        check_key(key)


def check_update(
    net: Any, state: Any, x: Any, target: Any, mask: Any, reset: Any, signal: Any, kind: Any = LocalState
) -> None:
    """Raise an ArgumentError for an impossible argument of `update`; `kind` is of the states that it takes."""
    check_network(net)
    if target is not None and signal is not None:
        raise ArgumentError("give update() a target or a signal, not both.")
    given = x if isinstance(x, dict) else {None: x}
    arrays = {n: as_array("x", a)[None] for n, a in given.items()}
    inputs = net.check_inputs(arrays if isinstance(x, dict) else arrays[None])
    batch = next(iter(inputs.values())).shape[1]
    if not isinstance(state, kind):
        raise ArgumentError(f"state must be what init() or the last update() gave, got {type(state).__name__}.")
    net.check_state(state.network, batch)
    check_answers(net, "target", target, batch)
    check_answers(net, "signal", signal, batch)
    weight = as_array("mask", mask)
    if weight.shape not in ((), (batch,)):
        raise ArgumentError(f"mask must be a number or ({batch},), got shape {weight.shape}.")
    if reset is not None:
        marks = as_array("reset", reset)
        if marks.dtype != bool or marks.shape != (batch,):
            raise ArgumentError(f"reset must be ({batch},) booleans, got {marks.dtype}{list(marks.shape)}.")


def check_answers(net: Network, name: str, values: Any, batch: int) -> None:
    """Raise an ArgumentError where targets (or signals) of one step do not fit the outputs."""
    if values is None:
        return
    for label, value in by_label(net, values, name).items():
        array = as_array(name, value)
        size = net.populations[next(o.population for o in net.output_specs if o.label == label)].size
        classes = name == "target" and not jnp.issubdtype(array.dtype, jnp.floating)
        if array.shape != (batch, size) and not (classes and array.shape == (batch,)):
            also = f", or ({batch},) classes" if name == "target" else ""
            raise ArgumentError(f"{name} must be ({batch}, {size}) values{also}, got shape {array.shape}.")
