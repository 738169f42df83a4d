"""Learning from rewards: environments, playing, and the rule that turns rewards into errors of readouts."""

from .actions import Continuous, Discrete
from .actor_critic import ActorCritic
from .crew import close_worlds
from .environment import Environment
from .environments import ENVIRONMENTS
from .host import HostEnvironment, HostState
from .play import Played, play
from .reward_stdp import RewardSTDP

# Rules that only rewards can teach, by name; all others learn here, too.
RULES = {"RewardSTDP": RewardSTDP}

__all__ = [
    "ENVIRONMENTS",
    "ActorCritic",
    "Continuous",
    "Discrete",
    "Environment",
    "HostEnvironment",
    "HostState",
    "Played",
    "RULES",
    "RewardSTDP",
    "close_worlds",
    "play",
]
