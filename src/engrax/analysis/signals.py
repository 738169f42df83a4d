"""Learning signals of a population, as e-prop broadcasts them along a run.

    L_j(t) = sum_k B_jk dE/dy_k(t)

Bellec et al. 2020, Eq. 4: B is the readout's weights (symmetric), or feedback weights.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import ArgumentError
from ..network import Network
from ..rules.eprop import EProp
from ..rules.feedback import local_paths, readouts, shuffled
from ..rules.rule import check_trial, enter, total_loss
from ..trial import Trial


def learning_signals(
    net: Network, trial: Trial, rule: EProp, key: PRNGKeyArray | None = None
) -> dict[str, Float[Array, "time batch units"]]:
    """Learning signals L_j(t) of every population that readouts speak to directly.

    They are derivatives by the readouts' outputs of the loss that the rule uses, its mean over trials and steps
    included; regularisers are none of them.

    Args:
        net: with the rule's feedback weights (`rule.bind(net, key)`, or a network that was trained by the rule).
        trial: what it is shown.
        rule: e-prop, with any feedback.
        key: for shuffled feedback.

    Raises:
        ArgumentError: shapes do not fit, a readout is read by a state variable, or shuffled feedback without a key.
        RuleError: feedback weights are missing, or a population is not reached.
    """
    if not isinstance(rule, EProp):
        raise ArgumentError(f"rule must be an EProp, got {type(rule).__name__}: other rules broadcast nothing.")
    if rule.feedback == "shuffled" and key is None:
        raise ArgumentError("shuffled feedback is dealt out anew at every update: give key=.")
    if any(o.variable is not None for o in net.output_specs):
        raise ArgumentError("an output is a state variable of its readout: errors by it are no signal at its output.")
    check_trial(net, trial, rule.losses(net, trial))
    return _signals(net, trial, rule, key)


@eqx.filter_jit
def _signals(net: Network, trial: Trial, rule: EProp, key: PRNGKeyArray | None) -> dict[str, Array]:
    losses = rule.losses(net, trial)
    shown = net.run(trial.inputs).outputs
    labels = [o.label for o in net.output_specs]
    outputs = {labels[0]: shown} if net.single_output else shown
    entering, _ = enter(net, jax.grad(lambda y: total_loss(losses, y, trial, net))(outputs))
    paths = local_paths(net, rule.feedback)
    if rule.feedback == "shuffled":
        assert key is not None
        paths = shuffled(net, paths, key)
    found: dict[str, Array] = {}
    for path in paths:
        pre, post = path.projection.pre, path.projection.post
        if post in readouts(net):
            signal = path.projection.transpose(path.weight, entering[post])
            found[pre] = found[pre] + signal if pre in found else signal
    return found
