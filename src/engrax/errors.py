"""Every error Engrax raises on purpose, and the one way it suggests a spelling.

An error says what was wrong, where, and what to do. All of them derive from `EngraxError`, and those that
stand for a bad argument derive from `ValueError` too, so that ordinary code can catch them.
"""

import difflib
from collections.abc import Iterable


class EngraxError(Exception):
    """Base of all errors that Engrax raises on purpose."""


class ArgumentError(EngraxError, ValueError):
    """An argument of a public call has an impossible value; the message names the argument."""


class NetworkError(ArgumentError):
    """A network's description contradicts itself; the message names the population or projection."""


class RuleError(ArgumentError):
    """A rule cannot do what was asked of it on this network or with this loss."""


class MemoryBudgetError(RuleError):
    """An evaluation would need more memory than its budget; the message gives both figures."""


class LossError(ArgumentError):
    """A loss does not fit the outputs, the targets or the evaluation."""


class TaskError(ArgumentError):
    """A task's settings are impossible."""


class DataError(EngraxError):
    """A data file is missing, damaged or of another shape than promised."""


class WorldError(EngraxError):
    """An environment that lives outside JAX failed; the message says which, when, and how to go on."""


class ChipError(ArgumentError):
    """A network, or its input, is not made of what a chip's integers can hold; the message names the part."""


class RegisterOverflow(ChipError):
    """A number outgrew its register in an emulation; the message names register, step and trial."""


class RecipeError(ArgumentError):
    """A recipe has an unknown key, a wrong value or cannot be read."""


class SilenceWarning(UserWarning):
    """A population sends no spikes; the message names it and says what to change."""


def nearest(name: object, known: Iterable[str]) -> str:
    """A sentence that lists what exists, and the nearest spelling first where there is one.

    Args:
        name: what was asked for.
        known: the names that exist.
    """
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names) if names else 'none'}."


def unknown(what: str, name: object, known: Iterable[str], error: type[EngraxError] = ArgumentError) -> EngraxError:
    """The error for a name that does not exist, with the nearest one that does."""
    return error(f"unknown {what} {name!r}.{nearest(name, known)}")
