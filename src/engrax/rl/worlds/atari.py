"""An Atari 2600 game as a world (see `share`), played in the Arcade Learning Environment.

An action is repeated; what is seen is the brighter of the last two frames, pixel by pixel, because the machine draws
some things on every second frame only (Mnih et al. 2015, Methods), as averages over the areas of a smaller picture.
"""

import math

import ale_py
import numpy as np

REPEAT, SIDE = 4, 84


class AtariWorld:
    """A game.

    Args:
        game: name of its ROM, which comes with ale-py.
        actions: what each of the agent's actions is on the machine, as numbers of `ale_py.Action`.
        noops: an episode begins after 0 to so many frames of doing nothing.
        length, jitter: an episode is cut off after `length` actions, or up to `jitter` fewer.
    """

    def __init__(self, game: str, actions: tuple[int, ...], noops: int, length: int, jitter: int) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.setInt("random_seed", 0)
        rom = ale_py.roms.get_rom_path(game)
        if rom is None:
            raise FileNotFoundError(f"ale-py brings no ROM of {game}")
        self.ale.loadROM(rom)
        self.actions = [ale_py.Action(a) for a in actions]
        self.noops, self.length, self.jitter = noops, length, jitter
        rows, columns = self.ale.getScreenDims()
        self.left, below = _areas(rows, SIDE)
        right, beside = _areas(columns, SIDE)
        self.right, self.whole = np.ascontiguousarray(right.T), below * beside
        self.frames = np.zeros((2, rows, columns), np.uint8)
        self.played = self.limit = 0

    def reset(self, seed: int) -> np.ndarray:
        draw = np.random.default_rng(seed)
        self.ale.reset_game()
        for _ in range(int(draw.integers(self.noops + 1))):
            self.ale.act(ale_py.Action.NOOP)
        self.played, self.limit = 0, self.length - int(draw.integers(self.jitter + 1))
        self.ale.getScreenGrayscale(self.frames[0])
        return self._picture(self.frames[0])

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        reward = 0.0
        for k in range(REPEAT):
            reward += self.ale.act(self.actions[int(action)])
            if k >= REPEAT - 2:
                self.ale.getScreenGrayscale(self.frames[k - (REPEAT - 2)])
        self.played += 1
        over = self.ale.game_over()
        return self._picture(np.maximum(*self.frames)), reward, over, self.played >= self.limit

    def close(self) -> None:
        pass

    def _picture(self, frame: np.ndarray) -> np.ndarray:
        # Whole numbers below 2^24: single precision adds them exactly, in whatever order, on every machine.
        sums = self.left @ frame.astype(np.float32) @ self.right
        return ((sums.astype(np.int32) + self.whole // 2) // self.whole).astype(np.uint8)


def _areas(old: int, new: int) -> tuple[np.ndarray, int]:
    """How much of each old pixel lies in each new one, (new, old), in whole parts; and the parts of a new pixel."""
    edges = lambda count, size: np.arange(count + 1) * size
    a, b = edges(new, old), edges(old, new)
    shared = np.minimum(a[1:, None], b[None, 1:]) - np.maximum(a[:-1, None], b[None, :-1])
    unit = math.gcd(old, new)
    return (np.clip(shared, 0, None) // unit).astype(np.float32), old // unit
