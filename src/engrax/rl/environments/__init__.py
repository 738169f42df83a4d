"""Environments, a file each. A new file is found by itself."""

import inspect
from typing import Any

from ..._scan import subclasses
from ..environment import Environment

_found: dict[str, Any] = subclasses(__name__, __path__, Environment)  # type: ignore[type-abstract]
_concrete = {name: one for name, one in _found.items() if not inspect.isabstract(one)}

ENVIRONMENTS: dict[str, type[Environment]] = {}
for _class, _one in _concrete.items():
    _name = vars(_one).get("name")
    ENVIRONMENTS[_name if isinstance(_name, str) else _class.lower()] = _one
globals().update(_concrete)

__all__ = ["ENVIRONMENTS", "Environment", *_concrete]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"engrax.rl.environments has no {name!r}")
