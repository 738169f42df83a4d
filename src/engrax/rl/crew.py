"""The worlds of a batch, in this process or in workers: a crew that steps them, one for each source of worlds.

Workers are programs of their own (`worlds/share.py`), started anew and never forked, because JAX has threads. They end
when the pipe to them closes: at exit, and also where this process is killed.
"""

import atexit
import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt32

from ..errors import WorldError
from .worlds import share
from .worlds.share import Board, Failure, Share, Source

# Crews that are kept with their worlds and workers; the one used longest ago goes first.
KEPT = 4


class _Here:
    """A share in this process, asked as one in a worker is."""

    def __init__(self, source: Source) -> None:
        self.share = Share(source)
        self.failure: Failure | None = None

    @property
    def board(self) -> Board:
        return self.share.board

    def look(self, count: int) -> None:
        self.share.look(count)

    def ask(self, name: str, *arguments: Any) -> None:
        try:
            getattr(self.share, name)(*arguments)
        except Failure as failure:
            self.failure = failure

    def answer(self) -> None:
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.share.close()


class _Worker:
    """A share in a process of its own."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.board = Board(source, 0)
        self.file: str | None = None
        # One thread each: the workers are what fills the cores.
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            # -P: the folder of that file holds modules with common names.
            [sys.executable, "-P", share.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **single, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
        )
        self.ask("source", *source)

    def wait(self) -> None:
        """Wait until the process is there.

        Raises:
            WorldError: it is not going to be.
        """
        try:
            self.answer()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.close()
            raise WorldError(
                f"{self.source.label}: a worker process could not be started (exit code {self.process.returncode}); "
                "why is on standard error. workers=0 runs the environment in this process."
            ) from error

    def look(self, count: int) -> None:
        self._drop_file()
        folder = "/dev/shm" if os.path.isdir("/dev/shm") else None  # in memory, where there is such a place
        handle, self.file = tempfile.mkstemp(prefix="engrax-", dir=folder)
        os.close(handle)
        self.board = Board(self.source, count, lambda size: share.mapped(self.file or "", size))
        self.ask("look", count, self.file)
        self.answer()
        self._drop_file()

    def ask(self, name: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        # A process that is gone is found out by its answer.
        with contextlib.suppress(BrokenPipeError):
            pickle.dump((name, arguments), self.process.stdin)
            self.process.stdin.flush()

    def answer(self) -> None:
        assert self.process.stdout is not None
        failure = pickle.load(self.process.stdout)
        if failure is not None:
            raise Failure(*failure)

    def close(self) -> None:
        """End the process: kindly, unless it is busy."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._drop_file()

    def _drop_file(self) -> None:
        """Remove the board's name once both have the file open; Windows lets it go only when they have closed it."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.file)
                self.file = None


class Crew:
    """Worlds of one source.

    Args:
        source: where they come from.
        workers: processes that step a share each; 0: this one does.
    """

    def __init__(self, source: Source, workers: int) -> None:
        self.source = source
        self.hands: list[Any] = []
        self.parts: list[slice] = []
        self.ticket, self.steps = -1, 0
        try:
            for _ in range(workers):
                self.hands.append(_Worker(source))
            for hand in self.hands:
                hand.wait()
            self.hands = self.hands or [_Here(source)]
        except BaseException:
            self.close()
            raise

    def begin(self, seeds: UInt32[np.ndarray, "batch 2"]) -> tuple[int, Shaped[np.ndarray, "batch ..."]]:
        """Begin an episode for each pair of words, which is its seed.

        Returns:
            a number that `advance` asks for, and the first observations.
        """
        ends = np.linspace(0, len(seeds), len(self.hands) + 1).round().astype(int)
        self.parts = [slice(a, b) for a, b in itertools.pairwise(ends.tolist())]
        for hand, part in zip(self.hands, self.parts):
            if hand.board.count != part.stop - part.start:
                hand.look(part.stop - part.start)
        whole = [(int(high) << 32) | int(low) for high, low in seeds]
        self.steps = 0
        self._all("begin", [(whole[part],) for part in self.parts])
        self.ticket = next(_tickets)
        return self.ticket, self._gathered("observation")

    def advance(
        self, ticket: int, actions: Shaped[np.ndarray, "batch ..."], going: Bool[np.ndarray, " batch"]
    ) -> tuple[
        Shaped[np.ndarray, "batch ..."],
        Float[np.ndarray, " batch"],
        Bool[np.ndarray, " batch"],
        Bool[np.ndarray, " batch"],
    ]:
        """Step the worlds that are `going` on.

        Returns:
            observations, rewards, and whether each episode has ended, and whether that was for being cut off.
        """
        if ticket != self.ticket:
            raise WorldError(
                f"{self.source.label}: other episodes have begun, with the same settings, before these were over. "
                "Play one batch after the other; give environments that must run side by side other settings (workers)."
            )
        self.steps += 1
        self._all("advance", [(actions[part], going[part]) for part in self.parts])
        names = ("observation", "reward", "over", "cut")
        return tuple(self._gathered(name) for name in names)  # type: ignore[return-value]

    def _all(self, name: str, arguments: list[Any]) -> None:
        """Let all shares work side by side."""
        for hand, mine in zip(self.hands, arguments):
            hand.ask(name, *mine)
        for number, (hand, part) in enumerate(zip(self.hands, self.parts)):
            try:
                hand.answer()
            except Failure as failure:
                raise self._raised(failure, part.start + failure.index) from failure.__cause__
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                raise self._died(number, hand, part) from error

    def _raised(self, failure: Failure, episode: int) -> WorldError:
        when = f"in step {self.steps}" if self.steps else "at the beginning of an episode"
        help = ""
        if "NameNotFound" in failure.what or "NamespaceNotFound" in failure.what:
            help = (
                "An environment that a script registers is unknown to workers: write env='module:Name', or workers=0. "
            )
        return WorldError(
            f"{self.source.label}: world {episode} of the batch raised {failure.what} when it {failure.doing}, {when}. "
            f"{help}{_REMEDY}\n{failure.trace}"
        )

    def _died(self, number: int, hand: Any, part: slice) -> WorldError:
        at = part.start + int(hand.board.at[0])
        hand.close()
        code = hand.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        when = f"in step {self.steps}" if self.steps else "at the beginning of an episode"
        return WorldError(
            f"{self.source.label}: worker process {number} ended ({how}) while it was at world {at} of the batch, "
            f"{when}. Its last words, if any, are on standard error; workers=0 runs the environment in this process. "
            f"{_REMEDY}"
        )

    def _gathered(self, name: str) -> Any:
        return np.concatenate([getattr(hand.board, name) for hand in self.hands])

    def close(self) -> None:
        """Close all worlds, and end the workers."""
        for hand in self.hands:
            hand.close()
        self.hands = []


_REMEDY = "A training with out= goes on from its last checkpoint with resume=True (--resume), to the same bits."
_tickets = itertools.count(1)
_crews: OrderedDict[tuple[Source, int], Crew] = OrderedDict()
_registry = threading.Lock()
# Held while worlds are stepped, which two threads may want at a time.
at_work = threading.Lock()


def crew(source: Source, workers: int) -> Crew:
    """The crew of these worlds, made when first asked for."""
    with _registry:
        if (source, workers) not in _crews:
            _crews[source, workers] = Crew(source, workers)
            while len(_crews) > KEPT:
                _crews.popitem(last=False)[1].close()
        _crews.move_to_end((source, workers))
        return _crews[source, workers]


def dismiss(source: Source, workers: int) -> None:
    """Close a crew, if there is one: the next call of `crew` makes another."""
    with _registry:
        found = _crews.pop((source, workers), None)
    if found is not None:
        found.close()


@atexit.register
def close_worlds() -> None:
    """Close all worlds outside JAX, and end their processes. They are made anew when next needed."""
    with _registry:
        while _crews:
            _crews.popitem()[1].close()
