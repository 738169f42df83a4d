"""Learning rules, a file each. A new file with a `Rule` subclass is found by itself."""

from .._scan import subclasses
from .rule import Rule

RULES: dict[str, type[Rule]] = subclasses(__name__, __path__, Rule)
globals().update(RULES)

__all__ = ["RULES", "Rule", *RULES]


def __getattr__(name: str) -> type[Rule]:
    from ..errors import nearest

    raise AttributeError(f"engrax.rules has no rule {name!r}.{nearest(name, RULES)}")
