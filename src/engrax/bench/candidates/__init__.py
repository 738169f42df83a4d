"""The frameworks that are timed, a file each."""

from ..._scan import subclasses
from ..candidate import Candidate

CANDIDATES: dict[str, type[Candidate]] = {c.name: c for c in subclasses(__name__, __path__, Candidate).values()}
