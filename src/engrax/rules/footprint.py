"""How much of a run BPTT must hold, and into how few chunks a sequence must be cut to hold no more than a budget."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import MemoryBudgetError
from ..events import Events
from ..network import Network
from ..network.engine import forward


def chunk_within(
    net: Network, inputs: dict[str, Any], steps: int, batch: int, budget: float, truncation: int | None
) -> int | None:
    """Steps of the longest chunk whose tape and errors, with the states at all borders, fit a budget.

    Args:
        inputs: as `net.check_inputs` gives them; only their shapes matter.
        budget: bytes.
        truncation: chunks must divide it.

    Returns:
        None where the whole sequence fits.

    Raises:
        MemoryBudgetError: no chunk does.
    """
    step, border = _bytes_of(net, inputs, batch)
    if truncation is None and steps * step <= budget:
        return None
    whole = min(truncation or steps, steps)
    lengths = [n for n in range(whole, 0, -1) if truncation is None or truncation % n == 0]
    needs = {n: n * step + math.ceil(steps / n) * border for n in lengths}
    for length, size in needs.items():
        if size <= budget:
            return length
    least = min(needs.values())
    raise MemoryBudgetError(
        f"BPTT of {steps} steps and {batch} trials holds {least:,} bytes at least, more than memory_budget = "
        f"{budget:,.0f}. Use a smaller batch or a larger budget."
    )


def _bytes_of(net: Network, inputs: dict[str, Any], batch: int) -> tuple[int, int]:
    """Of one more step, and of the state at a chunk's border."""

    def held(count: int) -> tuple[Any, Any]:
        first = jax.tree.map(lambda x: jnp.zeros((count, *x.shape[1:]), x.dtype), inputs)
        _, state, _, tape = forward(net, first, net.init_state(batch), tape="lean")
        own = {n: x for n, x in tape.outputs.items() if n in net.populations}
        # Outputs of native runs are bits until somebody wants numbers; where loops are XLA's, delta and the error that
        # comes in are as large as outputs.
        dense = {n: [x, x, x] for n, x in own.items() if n not in tape.kept}
        kept = {n: x for n, x in tape.kept.items() if n in net.populations}
        return (dense, tape.states, tape.currents, kept), state

    (one, state), (two, _) = (jax.eval_shape(lambda c=count: held(c)) for count in (1, 2))
    return _size(two) - _size(one), _size(state)


def _size(tree: Any) -> int:
    leaves: list[Array] = [x for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Events)) if x is not None]
    return sum(x.size * x.dtype.itemsize for x in leaves)
