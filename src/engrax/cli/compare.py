"""`engrax compare`: one recipe by several rules, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentError, EngraxError
from .app import app, failing
from .evaluate import Json
from .train import Changes, Recipe, Resume, Seeds, folder_for

if TYPE_CHECKING:
    from ..training.compare import Comparison


@app.command(epilog="Example: engrax compare digits --rules bptt,eprop,eprop:feedback=symmetric --seeds 3")
def compare(
    recipe: Recipe,
    rules: Annotated[str, typer.Option(help="Rules with commas between; options as NAME:OPTION=VALUE:OPTION=VALUE.")],
    changes: Changes = None,
    seeds: Seeds = None,
    out: Annotated[Path | None, typer.Option(help="Folder for all runs. Left out: a new one in runs/.")] = None,
    resume: Resume = False,
    escape: Annotated[
        int, typer.Option(min=0, help="Spike trains to draw for the gradient of the expected loss under escape noise.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Train the network of a RECIPE by several rules, on the same data and budget, and compare them.

    Beside accuracy, time and memory it shows how well each rule's gradient points where the reference gradient does:
    the exact one for smooth networks, surrogate-gradient BPTT for spiking ones. With --escape also how it lies to the
    gradient of the expected loss where units spike at random, an estimate with an interval.
    """
    with failing((EngraxError,)):
        from ..training.build import build
        from ..training.recipe import load

        overrides = [*(changes or []), *([] if seeds is None else [f"training.seeds={seeds}"])]
        chosen = {label: load(recipe, [*overrides, *options], name) for label, name, options in rules_of(rules)}
        built = {label: build(r) for label, r in chosen.items()}
    with failing():
        from ..training.check import check_folder
        from ..training.compare import compare as measure
        from ..training.store import dumps, write_json
        from ..training.stored import write_recipe

        folder = folder_for(f"{Path(recipe).stem}-compared", out, resume)
        found: dict[str, Comparison] = {}
        for label, parts in built.items():
            typer.echo(f"{label}:", err=True)
            here = check_folder(folder / label.replace(":", ",").replace("=", "-"), resume)
            write_recipe(here, chosen[label], resume)
            found[label] = measure(parts, here, resume, escape=escape)
            if found[label].run.interrupted:
                raise typer.Exit(1)
        result = {label: _plain(one) for label, one in found.items()}
        write_json(folder / "compare.json", result)
        picture = _draw(found, folder / "compare.svg")
        if as_json:
            typer.echo(dumps({"rules": result, "run": folder, "picture": picture}))
            return
        _print(recipe, found)
        typer.echo(f"curves: {picture}")


def rules_of(text: str) -> list[tuple[str, str, list[str]]]:
    """(label, rule, overrides) of each; "eprop:feedback=symmetric" is `rule.feedback=symmetric`."""
    found = []
    for label in (part.strip() for part in text.split(",")):
        name, *options = label.split(":")
        if not name or not all("=" in option for option in options):
            raise ArgumentError(f"--rules: {label!r} is no rule; write NAME or NAME:OPTION=VALUE, with commas between.")
        found.append((label, name, [f"rule.{option}" for option in options]))
    labels = [label for label, _, _ in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ArgumentError(f"--rules: {label!r} is there twice.")
    return found


def _plain(one: "Comparison") -> dict[str, Any]:
    from ..training.compare import as_dict

    return {
        **one.run.summary(),
        "gradient_seconds": one.gradient_seconds,
        "gradient_mb": one.gradient_mb,
        "expected": None if one.expected is None else {n: slope._asdict() for n, slope in one.expected.items()},
        "alignment": [{"step": step, **as_dict(found)} for step, found in one.alignments],
    }


def _print(recipe: str, found: "dict[str, Comparison]") -> None:
    from .tables import seeds, show, table

    first = next(iter(found.values()))
    metric = first.run.metric
    columns = (f"test {metric}", "training", "a gradient", "memory", "cosine", "norm ratio")
    made = table(f"{recipe}, {first.run.steps} steps", "rule", *columns)
    for label, one in found.items():
        angles = [a.projections["all"] for _, a in one.alignments]
        time = f"{one.run.seconds:.0f} s", f"{1000 * one.gradient_seconds:.1f} ms", f"{one.gradient_mb:.1f} MB"
        turn = f"{angles[0].cosine:.2f} to {angles[-1].cosine:.2f}"
        ratio = f"{angles[0].norm_ratio:.2f} to {angles[-1].norm_ratio:.2f}"
        made.add_row(label, seeds(one.run.test[metric], metric), *time, turn, ratio)
    show(made)
    for label, one in found.items():
        if one.expected is not None:
            slope = one.expected["all"]
            typer.echo(
                f"{label}: along its gradient the expected loss under escape noise rises by {slope.value:.3g} "
                f"({slope.low:.3g} to {slope.high:.3g}) a unit of length; cosine {slope.cosine:.2f}"
            )
    typer.echo(f"cosine and norm ratio: to {first.alignments[0][1].reference}, first to last validation, seed 0")


def _draw(found: "dict[str, Comparison]", path: Path) -> Path:
    from .._files import write
    from ..reporting.comparison import draw
    from ..reporting.figures import svg

    write(path, svg(lambda: draw(found)).encode())
    return path
