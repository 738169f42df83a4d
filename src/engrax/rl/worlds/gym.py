"""A Gymnasium environment as a world (see `share`)."""

import math
from typing import Any

import gymnasium
import numpy as np


class GymWorld:
    """An environment made by its name.

    Args:
        env: name that Gymnasium knows, or "module:Name" of one that the module registers.
        options: what `gymnasium.make` is given beside it, as pairs.
    """

    def __init__(self, env: str, options: tuple[tuple[str, Any], ...] = ()) -> None:
        self.env = gymnasium.make(env, **dict(options))
        self.space = self.env.action_space

    def reset(self, seed: int) -> Any:
        return self.env.reset(seed=seed)[0]

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        if isinstance(self.space, gymnasium.spaces.Discrete):
            taken: Any = int(action) + int(self.space.start)
        else:
            taken = np.asarray(action, self.space.dtype).reshape(self.space.shape)
        seen, reward, over, cut, _ = self.env.step(taken)
        if not math.isfinite(float(reward)):
            raise ValueError(f"its reward is {reward}")
        return seen, float(reward), bool(over), bool(cut)

    def close(self) -> None:
        self.env.close()
