"""Actor and critic: what a rule makes of rewards.

Episodes are played, and the error of what the network said at each action is known when they are over:

    E = sum_t  -A(t) log pi(a(t))  +  C_V / 2 (R(t) - V(t))^2  -  C_H H(pi(t))

with advantages A (`returns`) and R = A + V as they were, constants both. Its derivatives by the readouts go into any
rule: by e-prop that is reward-based e-prop (Bellec et al. 2020, Methods and their Atari program), by BPTT the usual
actor-critic of the same network.
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_key, finite
from ..errors import ArgumentError, RuleError
from ..network import Network
from ..parameter import choice
from ..rules import Rule
from ..rules.feedback import feedback_gradients
from ..rules.rule import check_network, gradient_tree
from ..trial import Episodes
from .online import learn_online
from .play import POLICY, VALUE, Played, check_agent, play
from .returns import advantages, td_errors
from .reward_stdp import Reinforced
from .surface import settled, surfaced


def _share(name: str) -> Any:
    def convert(x: Any) -> float:
        value = finite(f"ActorCritic: {name}", x, 0)
        if value > 1:
            raise ArgumentError(f"ActorCritic: {name} must lie between 0 and 1, got {x!r}.")
        return value

    return convert


def _weight(name: str) -> Any:
    return lambda x: finite(f"ActorCritic: {name}", x, 0)


def linear(output: Float[Array, "batch outputs"], slope: Float[Array, "batch outputs"]) -> Float[Array, " batch"]:
    """The loss whose derivative by the output is `slope`."""
    return jnp.sum(output * slope, axis=-1)


class ActorCritic(Rule):
    """Learning from rewards, by the gradients of another rule.

    Args:
        rule: makes gradients of what the readouts should have said: `EProp(...)`, `BPTT()`, ...; its regularisers act,
            its loss is the one above.
        discount: gamma, of a reward one action later.
        decay: lambda, of an error one action later; 1: advantages are returns less values.
        value: C_V, weight of the critic's error.
        entropy: C_H, weight of the policy's entropy.
        normalize: divide advantages by their standard deviation over the batch, after taking off their mean, for the
            actor alone.
        evaluation: "offline": the episodes are kept, and the rule makes its gradient of them when they are over.
            "online": e-prop's eligibility traces and reward traces are carried along, and nothing is kept; the same
            gradient, at the cost of e-prop's online form for every episode.

    The loss is summed over a batch and divided by the number of its actions; those that did not count
    (`Environment.asks`) teach the critic alone. Gradients need a key, which is unused: an episode has its own.

    Source: Bellec et al. 2020, Methods; Sutton & Barto 2018, chapter 13; normalised advantages, Schulman et al. 2017.
    """

    reference: ClassVar[str | None] = None

    rule: Rule = eqx.field(default=None)
    discount: float = eqx.field(static=True, default=0.99, converter=_share("discount"))
    decay: float = eqx.field(static=True, default=1.0, converter=_share("decay"))
    value: float = eqx.field(static=True, default=1.0, converter=_weight("value"))
    entropy: float = eqx.field(static=True, default=0.0, converter=_weight("entropy"))
    normalize: bool = eqx.field(static=True, default=False)
    evaluation: str = choice("evaluation", "offline", ("offline", "online"))

    def __check_init__(self) -> None:
        if not isinstance(self.rule, Rule) or isinstance(self.rule, ActorCritic):
            raise ArgumentError(
                f"ActorCritic needs a rule that makes its gradients, such as EProp(), got {self.rule!r}."
            )
        if self.loss is not None or self.regularizers:
            raise ArgumentError("ActorCritic has a loss of its own; give regularizers to the rule inside.")
        if self.rule.loss is not None:
            raise ArgumentError("ActorCritic has a loss of its own: leave out that of the rule inside.")
        if self.dropout or self.rule.dropout:
            raise ArgumentError("ActorCritic plays whole networks: leave out dropout.")

    def with_gradients_of(self, kind: type[Rule]) -> Rule:
        """The same actor and critic by another rule."""
        return dataclasses.replace(self, rule=self.rule.with_gradients_of(kind), evaluation="offline")

    def bind(self, net: Network, key: PRNGKeyArray) -> Network:
        """The network bound to the rule inside."""
        return self.rule.bind(net, key)

    def value_and_grad(
        self, net: Network, trial: Any, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, ""], Network]:
        """Loss and gradient of episodes that are played for it.

        Args:
            net: the agent, with outputs "policy" and "value".
            trial: `environment.sample(key, batch)`.
            key: goes to the rule inside.

        Raises:
            RuleError: these are no episodes, or the network has other outputs.
            WorldError: an environment outside JAX failed.
        """
        check_network(net)
        if key is not None:
            check_key(key)
        if not isinstance(trial, Episodes):
            raise RuleError(
                f"ActorCritic learns from episodes, environment.sample(key, batch), got {type(trial).__name__}."
            )
        check_agent(net, trial)
        with surfaced():
            found = _learn(self, net, trial, key)
            return settled(found) if trial.environment.outside else found

    def objective(self, outputs: dict[str, Array], played: Played, world: Any) -> tuple[Array, Array]:
        """The loss, as a function of the readouts at each action, (actions, batch, units) by label; advantages beside.

        Advantages and the critic's targets are made of the outputs as they are, and not differentiated.
        """
        values = outputs[VALUE][..., 0]
        fixed = jax.lax.stop_gradient(values)
        errors = td_errors(played.rewards, fixed, played.alive, played.last, self.discount)
        worth = advantages(errors, self.discount * self.decay) * played.alive
        count = jnp.sum(played.alive)
        push = worth
        if self.normalize:
            acts = jnp.maximum(jnp.sum(played.asked), 1)
            mean = jnp.sum(played.asked * worth) / acts
            spread = jnp.sqrt(jnp.sum(played.asked * jnp.square(worth - mean)) / acts)
            push = (worth - mean) / (spread + 1e-8)
        likely = world.actions.log_probability(outputs[POLICY], played.actions)
        actor = -push * likely - self.entropy * world.actions.entropy(outputs[POLICY])
        critic = 0.5 * self.value * jnp.square(worth + fixed - values)
        return jnp.sum(played.asked * actor + played.alive * critic) / count, worth


@eqx.filter_jit
def _learn(agent: ActorCritic, net: Network, episodes: Episodes, key: PRNGKeyArray | None) -> tuple[Array, Network]:
    world = episodes.environment
    if agent.evaluation == "online":
        loss, found = learn_online(agent, net, episodes)
        return loss, gradient_tree(net, **found, feedback=feedback_gradients(net, found["weights"]))
    played, run = play(net, episodes, greedy=False)
    at = {n: y.reshape(-1, world.hold, *y.shape[1:])[:, -1] for n, y in run.outputs.items()}
    (loss, worth), slopes = jax.value_and_grad(agent.objective, has_aux=True)(at, played, world)

    def spread(slope: Array) -> Array:
        quiet = jnp.zeros((slope.shape[0], world.hold - 1, *slope.shape[1:]), slope.dtype)
        return jnp.concatenate([quiet, slope[:, None]], axis=1).reshape(-1, *slope.shape[1:])

    targets = {name: spread(slope) for name, slope in slopes.items()}
    inner = dataclasses.replace(agent.rule, loss=linear, reduction="sum", scale=1.0)
    mine = jnp.repeat(worth / jnp.sum(played.alive), world.hold, axis=0)
    told = Reinforced(played.inputs, targets, lengths=played.lengths, worth=mine)
    value, gradient = inner.value_and_grad(net, told, key)
    along = sum(jnp.sum(run.outputs[n] * target) for n, target in targets.items())
    return loss + value - along, gradient
