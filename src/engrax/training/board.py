"""The history as scalars for TensorBoard, beside the JSON lines, for whoever has its pages open anyway."""

from pathlib import Path
from typing import Any

from ..errors import ArgumentError


class Board:
    """Event files in `folder`/tensorboard. Use as a context.

    Args:
        folder: the run's folder; None writes nothing.
        done: steps that a resumed run has made; what an interrupted one wrote beyond them is hidden.

    Raises:
        ArgumentError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path | None, done: int) -> None:
        self.writer: Any = None
        if folder is None:
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ArgumentError(
                'tensorboard needs the package tensorboardX. Install it: pip install "engrax[tensorboard]"'
            ) from error
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1 if done else None)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def add(self, entry: dict[str, Any]) -> None:
        """A line of the history: its numbers, and one curve a seed."""
        if self.writer is None:
            return
        for name, value in entry.items():
            values = {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
            for label, number in values.items():
                if name != "step" and isinstance(number, int | float):
                    self.writer.add_scalar(label, number, entry["step"])
        self.writer.flush()
