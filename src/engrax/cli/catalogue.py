"""`engrax list`: what there is, with a line each."""

import inspect
import json
from enum import StrEnum
from typing import Annotated

import typer

from .app import app, failing


class Kind(StrEnum):
    """What can be listed."""

    recipes = "recipes"
    rules = "rules"
    neurons = "neurons"
    tasks = "tasks"


@app.command("list", epilog="Example: engrax list rules")
def catalogue(
    kind: Annotated[Kind | None, typer.Argument(help="Only these. Left out: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """What there is: recipes, rules, neuron models and tasks, with a line each."""
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
        from ..rules import RULES

        return {name.lower(): _line(rule) for name, rule in RULES.items()}
    if kind is Kind.neurons:
        from ..neurons import MODELS

        return {name: _line(model) for name, model in MODELS.items()}
    from ..tasks import TASKS

    return {name: _line(task) for name, task in sorted(TASKS.items())}


def _line(thing: type) -> str:
    """The first sentence of a docstring."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).split(". ")[0].removesuffix(".")
