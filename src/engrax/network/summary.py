"""A network as a table for people."""

import jax
import jax.numpy as jnp

from .leaves import trainable_leaves
from .network import Network


def _count(tree: object, marks: object) -> tuple[int, int]:
    leaves, flags = jax.tree.leaves(tree), jax.tree.leaves(marks)
    return sum(jnp.size(x) for x in leaves), sum(jnp.size(x) for x, f in zip(leaves, flags, strict=True) if f)


def summary(net: Network) -> str:
    """Populations, projections and outputs of `net`, one line each, with sizes and numbers of trainable parameters."""
    marks = trainable_leaves(net)
    lines = [f"network, dt = {net.dt:g} ms"]
    lines += [f"  input       {name:<24} {size} units" for name, size in net.inputs.items()]
    for name, population in net.populations.items():
        _, moved = _count(population, marks.populations[name])
        lines.append(
            f"  population  {name:<24} {population.size} {type(population).__name__} units, "
            f"{moved} trainable parameters"
        )
    for name, projection in net.projections.items():
        _, moved = _count(projection, marks.projections[name])
        assert projection.weight is not None
        shape = " x ".join(map(str, projection.weight.shape))
        when = f"delay {projection.delay}" + (f" to {projection.depth}" if projection.reach else "")
        when = "reversed time" if projection.reverse else when
        lines.append(f"  projection  {name:<24} {shape}, {when}, {moved} trainable parameters")
    for name, feedback in net.feedback.items():
        lines.append(f"  feedback    {name:<24} {' x '.join(map(str, feedback.weight.shape))}")
    outputs = ", ".join(o.population + (f".{o.variable}" if o.variable else "") for o in net.output_specs)
    return "\n".join([*lines, f"  outputs     {outputs}", f"  {_count(net, marks)[1]} trainable parameters in all"])
