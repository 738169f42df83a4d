"""`engrax plan`: what each rule would take on a recipe's network, before anything runs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EngraxError
from .app import app, failing
from .compare import rules_of
from .evaluate import Json
from .train import Changes, Recipe

if TYPE_CHECKING:
    from ..training.plan import Planned

FORMS = ("bptt:checkpoint=true", "eprop:evaluation=chunked", "eprop:evaluation=online", "snap:order=2")


@app.command(epilog="Example: engrax plan digits --rules bptt,eprop:evaluation=online,rtrl")
def plan(
    recipe: Recipe,
    rules: Annotated[
        str | None,
        typer.Option(help="Rules with commas between; options as NAME:OPTION=VALUE:OPTION=VALUE. Left out: all."),
    ] = None,
    changes: Changes = None,
    as_json: Json = False,
) -> None:
    """Tell time and memory of each rule on the network of a RECIPE, before it runs.

    Memory is what the compiled gradient of one batch holds at its worst; time is that of a few steps, made longer to
    the length of a trial. Rules that cannot do it say why.
    """
    with failing((EngraxError,)):
        from ..training.build import build
        from ..training.recipe import load

        named = rules_of(rules) if rules is not None else [(n, n.partition(":")[0], _options(n)) for n in _all()]
        chosen = {label: load(recipe, [*(changes or []), *options], name) for label, name, options in named}
    with failing():
        import jax

        from ..training.plan import plan as estimate

        found: dict[str, Planned | str] = {}
        steps = 0
        for label, one in chosen.items():
            typer.echo(f"{label} ...", err=True)
            built = build(one)
            steps = built.training.steps
            try:
                trial = built.task.sample(jax.random.key(0), built.training.batch)
                found[label] = estimate(built.net, built.rule, trial)
            except EngraxError as error:
                found[label] = str(error)
        if as_json:
            from ..training.store import dumps

            typer.echo(dumps({label: _plain(one, steps) for label, one in found.items()}))
            return
        _print(recipe, found, steps)


def _all() -> list[str]:
    from ..rules import RULES

    return sorted([*(name.lower() for name in RULES), *FORMS])


def _options(label: str) -> list[str]:
    return [f"rule.{option}" for option in label.split(":")[1:]]


def _plain(one: "Planned | str", steps: int) -> dict[str, Any]:
    if isinstance(one, str):
        return {"cannot": one}
    training = None if one.seconds is None else steps * one.seconds
    return {"memory_bytes": one.memory, "gradient_seconds": one.seconds, "training_seconds": training}


def _print(recipe: str, found: "dict[str, Planned | str]", steps: int) -> None:
    from .tables import show, table

    made = table(f"{recipe}, {steps} steps", "rule", "a gradient", "training", "memory")
    there = {label: one for label, one in found.items() if not isinstance(one, str)}
    for label, one in sorted(there.items(), key=lambda pair: pair[1].seconds or float("inf")):
        spans = ("too large", "") if one.seconds is None else (_span(one.seconds), _span(steps * one.seconds))
        made.add_row(label, *spans, f"{one.memory / 2**20:.1f} MiB")
    show(made)
    for label, why in found.items():
        if isinstance(why, str):
            typer.echo(f"{label}: {why}")


def _span(seconds: float) -> str:
    for name, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{1000 * seconds:.3g} ms"
