"""The papers: what each claims, what we measured, and the verdict. A file a paper."""

from .._scan import subclasses
from .claim import Claim, claim, claims
from .experiment import Experiment, Found, committed

_FOUND = subclasses(__name__, __path__, Experiment)
EXPERIMENTS: dict[tuple[str, str], type[Experiment]] = {(kind.paper, kind.name): kind for kind in _FOUND.values()}

__all__ = ["EXPERIMENTS", "Claim", "Experiment", "Found", "claim", "claims", "committed"]
