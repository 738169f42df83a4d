"""`engrax list`: what there is, with a line each. Papers by how far their claims are measured."""

import inspect
import json
from collections import Counter
from enum import StrEnum
from typing import Annotated, Any

import typer

from .app import app, failing


class Kind(StrEnum):
    """What can be listed."""

    recipes = "recipes"
    rules = "rules"
    neurons = "neurons"
    tasks = "tasks"
    papers = "papers"


@app.command("list", epilog="Example: engrax list rules")
def catalogue(
    kind: Annotated[Kind | None, typer.Argument(help="Only these. Left out: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """What there is: recipes, rules, neuron models, tasks and papers, with a line each."""
    with failing():
        found = {k.value: _entries(k) for k in ([kind] if kind else Kind)}
        if as_json:
            typer.echo(json.dumps(found))
            return
        width = max((len(name) for entries in found.values() for name in entries), default=0)
        for i, (heading, entries) in enumerate(found.items()):
            typer.echo(f"{chr(10) if i else ''}{heading}")
            for name, line in entries.items():
                typer.echo(f"  {name:<{width}}  {line}")


def _entries(kind: Kind) -> dict[str, str]:
    if kind is Kind.recipes:
        from ..training import recipe

        return {name: recipe.load(name).description for name in recipe.names()}
    if kind is Kind.rules:
        from .. import rl
        from ..rules import RULES

        return {name.lower(): _line(rule) for name, rule in (RULES | rl.RULES).items()}
    if kind is Kind.neurons:
        from ..neurons import MODELS

        return {name: _line(model) for name, model in MODELS.items()}
    if kind is Kind.papers:
        from ..papers import claims, committed

        return {name: _verdicts(committed(name)) for name in claims()}
    from ..rl import ENVIRONMENTS
    from ..tasks import TASKS

    return {name: _line(task) for name, task in sorted((TASKS | ENVIRONMENTS).items())}


def _verdicts(results: list[dict[str, Any]]) -> str:
    counts = Counter(result["verdict"] for result in results)
    return f"{len(results)} claims: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def _line(thing: type) -> str:
    """The first sentence of a docstring."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).split(". ")[0].removesuffix(".")
