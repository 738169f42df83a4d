"""Learning from rewards: environments, playing, and the rule that turns rewards into errors of readouts."""

from .actions import Continuous, Discrete
from .actor_critic import ActorCritic
from .environment import Environment
from .environments import ENVIRONMENTS
from .play import Played, play

__all__ = ["ENVIRONMENTS", "ActorCritic", "Continuous", "Discrete", "Environment", "Played", "play"]
