"""Kernel RNN learning (Roth et al. 2019): a trace with a learned decay for each synapse, and learned sensitivities.

Influence is taken to be A(k, i) B(i, j): what unit i's past does to output k, times a trace of synapse j -> i. The
first and the decay of the second are found by noise: what it does to outputs is known, and is to be predicted from it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .._checks import finite
from ..errors import RuleError
from ..network import Feedback, Network
from . import traces
from .influence import Influence, Plan, groups
from .rule import check_network
from .tangent import Change, Step, nothing
from .uoro import draw


class Noise(NamedTuple):
    """Noise and its prediction: what it did to the state, its filtered sum (batch, units) by population, and the
    derivative of that sum by the decays."""

    change: Change
    filtered: dict[str, Array]
    slope: dict[str, Array]


class KeRNL(Influence):
    """Kernel RNN learning.

    Args:
        learning: what the gradients of sensitivities and decays are multiplied by, since one optimiser moves them with
            the weights.
        decay: decays before learning, for each unit.
        loss, reduction, scale: see `Rule`.

    With noise nu of currents, which moves outputs by dy (a linear step of the network, where the paper runs a second
    network with little noise) and each unit's output at once by zeta,

        B <- (1 - decay) B + dz/dI pre,    Omega <- (1 - decay) Omega + zeta,    Gamma <- (1 - decay) Gamma - Omega,
        A and the decays go down the gradient of |A Omega - dy|^2 / 2.

    `bind` adds A, which starts from the weights onto the readout, and the decays to `net.feedback`. Readouts' own
    synapses have exact traces.

    Cost for n units: time n^2 a step and trial, memory n^2 a trial.

    Raises (when called):
        RuleError: the network was not bound.

    Source: Roth et al. 2019; settings of Marschall et al. 2020.
    """

    draws: ClassVar[bool] = True
    told: ClassVar[bool] = True

    learning: float = eqx.field(
        static=True, default=1.0, converter=lambda x: finite("KeRNL: learning", x, 0, exclusive=True)
    )
    decay: float = eqx.field(static=True, default=0.8, converter=lambda x: finite("KeRNL: decay", x, 0, exclusive=True))

    def bind(self, net: Network, key: PRNGKeyArray) -> Network:
        check_network(net)
        feedback = OrderedDict()
        for name in _told(net):
            units = net.populations[name].size
            for spec in net.output_specs:
                feedback[f"kernel {spec.label} {name}"] = Feedback(_onto(net, name, spec).T, trainable=True)
            feedback[f"decay {name}"] = Feedback(jnp.full((units, 1), self.decay, net.dtype), trainable=True)
        return net.replace(feedback=feedback)

    def own(self, net: Network) -> Iterable[str]:
        return tuple(net.feedback)

    def prepare(self, plan: Plan) -> None:
        if any(f"decay {n}" not in plan.net.feedback for n in _told(plan.net)):
            raise RuleError("KeRNL learns weights of its own: make them with net = rule.bind(net, key).")

    def start(self, plan: Plan, batch: int, key: PRNGKeyArray | None) -> Any:
        net = plan.net
        rows: dict[str, Any] = {}
        for s in plan.sources:
            if s.population in _told(net):
                rows[s.label] = jnp.zeros((batch, *plan.shape(s)), net.dtype)
            else:
                rows[s.label] = traces.start(net, s, batch, plan.shape(s)[2])
        zero = {n: jnp.zeros((batch, net.populations[n].size), net.dtype) for n in _told(net)}
        return rows, Noise(nothing(net, batch, ()), zero, zero)

    def carry(
        self, plan: Plan, step: Step, before: Any, pre: dict[str, Array], key: PRNGKeyArray | None
    ) -> tuple[Any, Any]:
        net, (rows, noise) = plan.net, before
        after: dict[str, Any] = {}
        at_once: dict[str, Array] = {}
        for s in plan.sources:
            columns, depth = traces.columns_of(net, s), traces.depth(net, s.population)
            if s.population not in _told(net):
                eps, trace = traces.advance(step.local(s.population), rows[s.label], columns, pre[s.label], depth)
                after[s.label] = eps
                at_once[s.label] = jnp.stack([*(jnp.broadcast_to(x, trace.shape) for x in eps), trace])
                continue
            fresh = (
                jnp.stack([step.blocks[s.population][depth, c] for c in columns], axis=1)[..., None]
                * pre[s.label][:, None, None, :]
            )
            keep = 1 - net.feedback[f"decay {s.population}"].weight[:, 0]
            after[s.label] = keep[None, None, :, None] * rows[s.label] + fresh
        signs = draw(plan, key, step.valid.shape[0])
        change, seen = step.push(noise.change, signs)
        filtered, slope = {}, {}
        for name in _told(net):
            depth = traces.depth(net, name)
            zeta = jnp.einsum("cbi,cbi->bi", step.blocks[name][depth, depth:], signs[name])
            keep = 1 - net.feedback[f"decay {name}"].weight[:, 0][None]
            slope[name] = keep * noise.slope[name] - noise.filtered[name]
            filtered[name] = keep * noise.filtered[name] + zeta
        return (after, Noise(change, filtered, slope)), (seen, at_once, step.valid)

    def gradient(self, plan: Plan, influence: Any, seen: Any, errors: dict[str, Array]) -> dict[str, Array]:
        net, (rows, noise), (moved, at_once, valid) = plan.net, influence, seen
        found = {f"feedback {n}": jnp.zeros_like(f.weight) for n, f in net.feedback.items()}
        told = {n: jnp.zeros_like(x) for n, x in noise.filtered.items()}
        for spec in net.output_specs:
            if f"kernel {spec.label} {next(iter(told))}" not in net.feedback:
                # What a regulariser says of a population stays there.
                told[spec.population] = told[spec.population] + errors[spec.label]
                continue
            kernels = {n: net.feedback[f"kernel {spec.label} {n}"].weight for n in told}
            guess = sum((noise.filtered[n] @ kernels[n] for n in told), jnp.zeros_like(moved[spec.label]))
            wrong = (guess - moved[spec.label]) * (valid * self.learning / valid.shape[0])[:, None]
            for name, kernel in kernels.items():
                found[f"feedback kernel {spec.label} {name}"] += noise.filtered[name].T @ wrong
                slope = jnp.sum((wrong @ kernel.T) * noise.slope[name], axis=0)
                found[f"feedback decay {name}"] += slope[:, None]
                if spec.label in errors:
                    told[name] = told[name] + errors[spec.label] @ kernel.T
        for name, group in groups(plan).items():
            for s in group:
                if name in told:
                    found[s.label] = jnp.einsum("bi,bqij->qij", told[name], rows[s.label])
                    continue
                found[s.label] = jnp.zeros(plan.shape(s), net.dtype)
                for spec in net.output_specs:
                    if spec.population == name and spec.label in errors:
                        row = at_once[s.label][traces.output_row(net, name, spec.variable)]
                        found[s.label] += jnp.einsum("bi,bqij->qij", errors[spec.label], row)
        return found


def _told(net: Network) -> list[str]:
    """Populations whose influence has a kernel: those that lead to others."""
    return [n for n in net.populations if any(p.pre == n for p in net.projections.values())]


def _onto(net: Network, name: str, spec: Any) -> Array:
    """The weights from a population onto an output, (outputs, units): where a kernel starts from."""
    size, units = net.populations[spec.population].size, net.populations[name].size
    if spec.population == name:
        return jnp.eye(size, dtype=net.dtype)
    for projection in net.projections.values():
        if projection.pre == name and projection.post == spec.population and projection.matrix:
            weight: Array = projection.effective()
            return weight.reshape(-1, size, units)[0]
    return jnp.zeros((size, units), net.dtype)
