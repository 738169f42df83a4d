"""What papers claim, how it is tested and what counts as holding: fixed in claims.toml before anything was measured."""

import functools
import tomllib
from importlib import resources
from typing import NamedTuple

from ..errors import unknown


class Claim(NamedTuple):
    """A claim of a paper.

    says, measure, holds: in words. seeds: networks to measure; None where nothing is drawn.
    settings: where they come from: "read" in the paper or its authors' code, "second-hand", or "reconstructed": then a
    verdict is one "in our reading".
    """

    paper: str
    name: str
    says: str
    measure: str
    holds: str
    settings: str
    seeds: int | None


@functools.cache
def claims() -> dict[str, dict[str, Claim]]:
    """Every claim, by paper and name."""
    text = (resources.files("engrax.papers") / "claims.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Claim]] = {}
    for paper, entries in tomllib.loads(text).items():
        for name, entry in entries.items():
            words = {key: entry.get(key, "") for key in ("says", "measure", "holds", "settings")}
            found.setdefault(paper, {})[name] = Claim(paper, name, **words, seeds=entry.get("seeds"))
    return found


def claim(paper: str, name: str) -> Claim:
    """One claim.

    Raises:
        ArgumentError: no such paper or claim; the message gives the nearest spelling.
    """
    if paper not in claims():
        raise unknown("paper", paper, claims())
    if name not in claims()[paper]:
        raise unknown(f"experiment of {paper}:", name, claims()[paper])
    return claims()[paper][name]
