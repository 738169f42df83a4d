"""Gymnasium environments that misbehave as a test wants. Importing this registers them: "host_worlds:Walk-v0"."""

import os
from pathlib import Path

import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """A random walk that ends anywhere, pays for going right, and may be cut off anywhere.

    Args:
        fuse: a file. Where there is one, the third step of an episode removes it and does what it says: "raise", "exit"
            (the process ends), "interrupt" (as Ctrl-C).
        cuts: probability of being cut off at a step. ends: of coming to its end.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(2, start=5)

    def __init__(self, fuse="", cuts=0.0, ends=0.1):
        self.fuse, self.cuts, self.ends = Path(fuse or os.devnull), cuts, ends

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = self.np_random.normal(size=2), 0
        return self.at, {}

    def step(self, action):
        assert action in self.action_space
        self.steps += 1
        if self.steps == 3 and self.fuse.is_file():
            how = self.fuse.read_text()
            self.fuse.unlink()
            if how == "exit":
                os._exit(7)
            raise {"raise": ZeroDivisionError("the walk is over"), "interrupt": KeyboardInterrupt()}[how]
        right = action == 6
        self.at = 0.8 * self.at + 0.3 * self.np_random.normal(size=2) + (0.2 if right else -0.2)
        ended, cut = self.np_random.random(2) < (self.ends, self.cuts)
        return self.at, 1.0 if right else 0.0, bool(ended), bool(cut), {}


class Push(gymnasium.Env):
    """Pays the action that it was given, of two numbers within different bounds. The observation is a picture."""

    observation_space = gymnasium.spaces.Box(0, 255, (3, 2), np.uint8)
    action_space = gymnasium.spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 0.25], np.float32))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([[0, 51], [102, 153], [204, 255]], np.uint8), {}

    def step(self, action):
        assert action in self.action_space
        return np.zeros((3, 2), np.uint8), float(action[0] + 10 * action[1]), False, False, {}


class Liar(Push):
    """Shows something of another shape than it says."""

    def reset(self, seed=None, options=None):
        return np.zeros((1, 2), np.uint8), {}


gymnasium.register("Walk-v0", entry_point=Walk, max_episode_steps=8)
gymnasium.register("Push-v0", entry_point=Push, max_episode_steps=4, disable_env_checker=True)
gymnasium.register("Liar-v0", entry_point=Liar, max_episode_steps=4, disable_env_checker=True)
