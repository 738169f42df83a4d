"""A share of a batch's worlds, stepped one after the other: in this process, or in a worker, which runs this file.

A world is made by `make(**settings)` and has `reset(seed) -> observation`, `step(action) -> (observation, reward, over,
cut)` and `close()`. What the worlds of a share last showed lies on its board, where two processes can look at it.
"""

import mmap
import os
import pickle
import runpy
import signal
import sys
import traceback
from typing import Any, BinaryIO, NamedTuple

import numpy as np


class Source(NamedTuple):
    """Where worlds come from.

    Attributes:
        file: Python file that defines the class; it is run by itself, so that its imports are absolute.
        name: the class.
        settings: its arguments by name, as pairs.
        label: what to call one of them in messages.
        shape, dtype: of an observation.
    """

    file: str
    name: str
    settings: tuple[tuple[str, Any], ...]
    label: str
    shape: tuple[int, ...]
    dtype: str


class Failure(Exception):
    """A world raised."""

    def __init__(self, index: int, doing: str, what: str, trace: str) -> None:
        super().__init__(index, doing, what, trace)
        self.index, self.doing, self.what, self.trace = index, doing, what, trace


class Board:
    """What `count` worlds last showed, as arrays over one stretch of bytes.

    Attributes:
        at: the world that is being reset or stepped: what to look at when a process has died.
        observation: (count, ...). reward: (count,). over, cut: (count,), whether an episode has ended, and whether it
            was cut off rather than come to its end.
    """

    def __init__(self, source: Source, count: int, buffer: Any = None) -> None:
        kinds = (
            ("at", (1,), "int64"),
            ("reward", (count,), "float64"),
            ("over", (count,), "bool"),
            ("cut", (count,), "bool"),
            ("observation", (count, *source.shape), source.dtype),
        )
        self.count, self.size = count, 0
        places = []
        for name, shape, dtype in kinds:
            places.append((name, shape, dtype, self.size))
            # Every array starts at a multiple of 8 bytes.
            self.size += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 8) * 8
        bytes_ = bytearray(self.size) if buffer is None else buffer(self.size)
        arrays = {name: np.ndarray(shape, dtype, bytes_, at) for name, shape, dtype, at in places}
        self.at, self.reward, self.over = arrays["at"], arrays["reward"], arrays["over"]
        self.cut, self.observation = arrays["cut"], arrays["observation"]


def mapped(path: str, size: int) -> mmap.mmap:
    """The bytes of a file, shared by all who map it."""
    with open(path, "r+b") as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)


class Share:
    """Worlds that are stepped one after the other. They are made when first needed, and kept."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.make: Any = None
        self.worlds: list[Any] = []
        self.board = Board(source, 0)

    def look(self, count: int, path: str | None = None) -> None:
        """Use a new board, of so many worlds; with a path, the one in that file."""
        self.board = Board(self.source, count, None if path is None else lambda size: mapped(path, size))

    def begin(self, seeds: list[int]) -> None:
        """Begin an episode for each seed.

        Raises:
            Failure: a world cannot be made, or raised.
        """
        board = self.board
        for i, seed in enumerate(seeds):
            board.at[0] = i
            doing = "was reset"
            try:
                if i == len(self.worlds):
                    doing = "was made"
                    self.make = self.make or runpy.run_path(self.source.file)[self.source.name]
                    self.worlds.append(self.make(**dict(self.source.settings)))
                    doing = "was reset"
                board.observation[i] = self._shown(self.worlds[i].reset(seed))
            except Exception as error:
                raise _failure(i, doing, error) from error
        board.reward[:], board.over[:], board.cut[:] = 0, False, False

    def advance(self, actions: Any, going: Any) -> None:
        """Step the worlds whose episodes are going on. The others stay as they are, and bring no reward.

        Raises:
            Failure: a world raised.
        """
        board = self.board
        for i, action in enumerate(actions):
            board.reward[i] = 0
            if not going[i]:
                continue
            board.at[0] = i
            try:
                seen, reward, over, cut = self.worlds[i].step(action)
                board.observation[i], board.reward[i] = self._shown(seen), reward
                board.over[i], board.cut[i] = over or cut, cut and not over
            except Exception as error:
                raise _failure(i, "was stepped", error) from error

    def _shown(self, observation: Any) -> Any:
        """An observation, unless it is of another shape than was promised: assignment would repeat a smaller one."""
        shape = np.shape(observation)
        if shape != self.source.shape:
            raise ValueError(f"its observation has shape {shape}, not {self.source.shape}")
        return observation

    def close(self) -> None:
        """Close all worlds. What they say to it is of no use any more."""
        for world in self.worlds:
            try:
                world.close()
            except Exception:
                traceback.print_exc()
        self.worlds = []


def _failure(index: int, doing: str, error: Exception) -> Failure:
    return Failure(index, doing, f"{type(error).__name__}: {error}", traceback.format_exc())


def serve(commands: BinaryIO, answers: BinaryIO) -> None:
    """Do as the other process says, until it says no more or is gone: then the pipe comes to its end."""
    share: Share | None = None
    while True:
        try:
            name, arguments = pickle.load(commands)
        except EOFError:
            break
        failure = None
        if name == "source":
            share = Share(Source(*arguments))
        else:
            try:
                getattr(share, name)(*arguments)
            except Failure as error:
                failure = error.args
        pickle.dump(failure, answers)
        answers.flush()
    if share is not None:
        share.close()


if __name__ == "__main__":
    # Ctrl-C is for the process that waits for this one; it will close the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a world prints must not get into the answers.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        serve(*pipes)
    except BrokenPipeError:
        sys.exit(0)
