"""How what happens in a world outside JAX comes to the user: as it was, not as JAX wraps it.

JAX turns whatever a callback raises, Ctrl-C included, into an error of its own with a long text. What was raised is
kept aside, and raised again where compiled code is called.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jax

_aside: list[BaseException] = []


class _Kept(Exception):
    """Stands, inside JAX, for what was kept aside."""


def keep(why: BaseException) -> NoReturn:
    """To be called in a callback: leave it because of this."""
    _aside[:] = [why]
    raise _Kept(str(why)) from why


def forget() -> None:
    """What was kept is no longer what happened last."""
    _aside.clear()


@contextmanager
def surfaced() -> Iterator[None]:
    """Around calls of compiled code that may leave JAX, and around waiting for what they give.

    Raises:
        WorldError: an environment outside JAX failed.
        KeyboardInterrupt: Ctrl-C, while it was at work.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError:
        if not _aside:
            raise
        why = _aside.pop()
        raise why from why.__cause__


def settled(tree: Any) -> Any:
    """The same, when it has been computed: what is computed later fails later. What is being traced stays as it is."""
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree)):
        jax.block_until_ready(tree)
    return tree


def _news(record: logging.LogRecord) -> bool:
    """Whether a line of JAX's log says what nobody else will: it reports every failed callback before raising it."""
    return not (record.exc_info and isinstance(record.exc_info[1], _Kept))


# The name is JAX's own affair. Should it change, its lines are seen again.
logging.getLogger("jax._src.callback").addFilter(_news)
