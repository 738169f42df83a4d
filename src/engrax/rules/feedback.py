"""How an error gets from a readout to the populations that learn: the paths a local rule keeps.

Every projection onto a population with state is cut, except those onto readouts; these carry the error back with their
own weights (symmetric) or with feedback weights `net.feedback["readout->population"]`, shaped (population, readout).
Errors pass through populations without state. Adaptive feedback does as symmetric one does, with weights that follow
those onto the readouts; random and uniform ones go to learners with state directly, and nothing else comes there.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from .._checks import check_key
from ..errors import RuleError
from ..network import Feedback, Network
from ..network.cotangents import Path, split_state
from ..synapses import Dense, Projection
from .rule import check_network, has_parameters

KINDS = ("symmetric", "random", "adaptive", "uniform")


def readouts(net: Network) -> tuple[str, ...]:
    """Populations that outputs are read from."""
    return tuple(dict.fromkeys(o.population for o in net.output_specs))


def stateless(net: Network, name: str) -> bool:
    """Whether a population keeps no state that carries gradient, so that errors pass through it."""
    return not jax.tree.leaves(split_state(net.init_state(1).neurons[name])[0])


def learners(net: Network) -> tuple[str, ...]:
    """Populations other than readouts in which something trains."""
    onto = {p.post for p in net.projections.values() if p.trainable}
    own = {n for n, p in net.populations.items() if has_parameters(p)}
    return tuple(n for n in net.populations if n in onto | own and n not in readouts(net))


def pairs(net: Network, kind: str | None = None) -> OrderedDict[str, tuple[str, str]]:
    """(readout, population) pairs that get feedback weights, by key "readout->population": those that learn.

    Adaptive ones are those with a projection to follow, if the learner has one; for one behind populations without
    state these are followed.
    """
    ends, own = readouts(net), learners(net)
    told = [n for n in net.populations if n in own and not stateless(net, n)]
    if kind != "adaptive":
        return OrderedDict((f"{r}->{n}", (r, n)) for r in ends for n in told)
    steps = [(p.pre, p.post) for p in net.projections.values() if _passes(net, p)]
    passing = [n for n in _leading(set(own), [(b, a) for a, b in steps]) if stateless(net, n)]
    followed = {(r, n) for r in ends for n in [*told, *passing] if _followed(net, n, r)}
    reached = _leading({n for _, n in followed}, steps)
    # What cannot be followed is here too: `draw` refuses it.
    lost = {(r, n) for r in ends for n in told if n not in reached or _forward(net, n, r)}
    return OrderedDict((f"{r}->{n}", (r, n)) for r in ends for n in net.populations if (r, n) in followed | lost)


def _passes(net: Network, projection: Projection) -> bool:
    """Whether errors go back along a projection between populations that is not one onto a readout."""
    ends = readouts(net)
    if projection.pre not in net.populations or {projection.pre, projection.post} & set(ends):
        return False
    return stateless(net, projection.post) and not projection.depth


def _leading(ends: set[str], steps: Iterable[tuple[str, str]]) -> set[str]:
    """Names from which steps (from, to) lead to one of `ends`, these included."""
    reached, grown, steps = set(ends), True, tuple(steps)
    while grown:
        more = {a for a, b in steps if b in reached} - reached
        reached, grown = reached | more, bool(more)
    return reached


def draw(net: Network, kind: str, key: PRNGKeyArray, scale: float | None = None) -> Network:
    """The network with feedback weights of a kind.

    Random and adaptive ones are normal with standard deviation `scale`, uniform ones are all equal to it; left out it
    is 1, 1 / sqrt(outputs) and 1 / sqrt(units).
    """
    feedback = OrderedDict()
    for index, (name, (readout, learner)) in enumerate(pairs(net, kind).items()):
        shape = (net.populations[learner].size, net.populations[readout].size)
        usual = {"random": 1.0, "adaptive": shape[1] ** -0.5, "uniform": shape[0] ** -0.5}[kind]
        size = usual if scale is None else scale
        if kind == "uniform":
            weight = jnp.full(shape, size, net.dtype)
        else:
            weight = size * jax.random.normal(jax.random.fold_in(key, index), shape, net.dtype)
        if kind == "adaptive" and not _followed(net, learner, readout):
            key_of = _forward(net, learner, readout)
            if key_of is None:
                raise RuleError(f"adaptive feedback to {learner!r} needs a projection {learner}->{readout} to follow.")
            what = "the learned delays of" if net.projections[key_of].reach else "the convolution"
            raise RuleError(
                f"adaptive feedback to {learner!r} cannot follow {what} {key_of!r}: put a Relay population "
                "and a Dense projection behind it, or use feedback='random'."
            )
        feedback[name] = Feedback(weight, trainable=kind == "adaptive")
    return net.replace(feedback=feedback)


def drawn(kind: str) -> bool:
    """Whether a kind of feedback has weights of its own."""
    return kind in ("random", "adaptive", "uniform")


def bind(rule: Any, net: Network, key: PRNGKeyArray) -> Network:
    """The network with the feedback weights of a rule, if it has any."""
    check_network(net)
    check_key(key)
    return draw(net, rule.feedback, key, rule.feedback_scale) if drawn(rule.feedback) else net


def bound(rule: Any, net: Network) -> Network:
    """The network with feedback weights, drawn from the rule's `seed` where a random one was never bound.

    Raises:
        RuleError: an adaptive rule was never bound.
    """
    if not drawn(rule.feedback) or net.feedback:
        return net
    if rule.feedback == "adaptive":
        raise RuleError("adaptive feedback learns weights of its own: make them with net = rule.bind(net, key).")
    return draw(net, rule.feedback, jax.random.PRNGKey(rule.seed), rule.feedback_scale)


def _turns(net: Network, learner: str, readout: str) -> bool:
    """Whether what a learner sends comes to a readout in reversed time.

    Raises:
        RuleError: some of it does, some does not.
    """
    seen, stack = {(learner, False)}, [(learner, False)]
    while stack:
        name, turned = stack.pop()
        ahead = {(p.post, turned != p.reverse) for p in net.projections.values() if p.pre == name}
        stack += ahead - seen
        seen |= ahead
    if {(readout, True), (readout, False)} <= seen:
        raise RuleError(
            f"population {learner!r} reaches {readout!r} both in reversed time and in its own: broadcast to it has no "
            "one direction. Use feedback='symmetric'."
        )
    return (readout, True) in seen


def _forward(net: Network, learner: str, readout: str) -> str | None:
    """The projection from a population to a readout, if there is one: the first one whose weight is a matrix."""
    found = [(n, p) for n, p in net.projections.items() if p.pre == learner and p.post == readout]
    return next((n for n, p in found if p.matrix), found[0][0] if found else None)


def _followed(net: Network, learner: str, readout: str) -> bool:
    """Whether feedback weights can follow a projection from a population to a readout."""
    key = _forward(net, learner, readout)
    return key is not None and net.projections[key].matrix


def local_paths(net: Network, kind: str) -> list[Path]:
    """The paths a local rule keeps.

    Raises:
        RuleError: symmetric feedback to a population without a path to a readout; feedback weights that are missing or
            have the wrong shape; a readout with several currents under feedback weights.
    """
    ends, own = readouts(net), kind in ("symmetric", "shuffled")
    fed = OrderedDict() if own else pairs(net, kind)
    told = set() if kind == "adaptive" else {learner for _, learner in fed.values()}
    paths = []
    for projection in net.projections.values():
        if projection.pre not in net.populations or projection.pre in ends:
            continue
        if projection.post in ends:
            kept = f"{projection.post}->{projection.pre}" not in fed
        else:
            kept = _passes(net, projection) and projection.pre not in told
        if kept:
            paths.append(Path(projection, projection.effective()))
    paths += [_broadcast(net, name, readout, learner) for name, (readout, learner) in fed.items()]
    reached = _leading(set(ends), [(p.projection.pre, p.projection.post) for p in paths])
    for name in learners(net):
        if name not in reached and stateless(net, name):
            raise RuleError(
                f"population {name!r} keeps no state, and from there no way that a local rule takes leads to a readout "
                "(projections onto populations with a state are cut): let nothing in it or onto it train, or use BPTT."
            )
        if name not in reached:
            raise RuleError(
                f"population {name!r} has no path to a readout, so symmetric feedback never reaches it: add "
                f"a projection "
                f"{name}->{ends[0]}, use feedback='random', or make its projections trainable=False."
            )
    return paths


def shuffled(net: Network, paths: list[Path], key: PRNGKeyArray) -> list[Path]:
    """The paths onto readouts with their weights dealt out to other units, all those of a unit together.

    Raises:
        RuleError: a convolution or learned delays end at a readout.
    """
    ends, found = readouts(net), []
    for i, path in enumerate(paths):
        if path.projection.post in ends and not path.projection.matrix:
            what = "learned delays of" if path.projection.reach else "kernel of the convolution"
            raise RuleError(
                f"shuffled feedback cannot deal out the {what} {path.projection.name!r}: use "
                "another feedback, or put a Relay population and a Dense projection behind it."
            )
        order = jax.random.permutation(jax.random.fold_in(key, i), path.weight.shape[-1])
        found.append(Path(path.projection, path.weight[..., order]) if path.projection.post in ends else path)
    return found


def _broadcast(net: Network, name: str, readout: str, learner: str) -> Path:
    if name not in net.feedback:
        raise RuleError(f"feedback weights {name!r} are missing: make them with net = rule.bind(net, key).")
    weight = net.feedback[name].weight
    shape = (net.populations[learner].size, net.populations[readout].size)
    if weight.shape != shape:
        raise RuleError(f"feedback weights {name!r} must have shape {shape} (population, readout), got {weight.shape}.")
    key = _forward(net, learner, readout)
    turns = _turns(net, learner, readout)
    projection: Projection = Dense(learner, readout, delay=0, reverse=turns)
    if key is not None:
        there = net.projections[key]
        # Feedback weights are a matrix, whatever they take the place of.
        projection = Dense(learner, there.target, delay=there.delay, reverse=there.reverse, name=there.name)
    if net.populations[readout].ports and projection.port is None:
        raise RuleError(
            f"readout {readout!r} has several currents: feedback weights need a projection onto one port of it."
        )
    return Path(projection, weight.T)


def feedback_gradients(net: Network, weights: dict[str, Any]) -> dict[str, Array]:
    """Gradient of adaptive feedback weights: the readout weights' own, transposed (Kolen & Pollack 1994)."""
    found = {}
    for name, (readout, learner) in pairs(net, "adaptive").items():
        key = _forward(net, learner, readout)
        if name in net.feedback and net.feedback[name].trainable and key in weights:
            found[name] = weights[key].T
    return found
