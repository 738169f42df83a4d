"""`engrax train`: a recipe, trained, and its figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ArgumentError, EngraxError
from .app import app, failing

if TYPE_CHECKING:
    from ..training import Run
    from ..training.build import Built
    from ..training.recipe import Recipe as Settings


Recipe = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a recipe (engrax list recipes), or path of a .toml file.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting by its dotted path; may be repeated."),
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Networks to draw and train side by side.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, to the same bits.")]


@app.command(epilog="Example: engrax train digits --rule bptt --set training.steps=500 --seeds 3 --out runs/digits")
def train(
    recipe: Recipe,
    rule: Annotated[str | None, typer.Option(help="Another rule (engrax list rules); only the rule changes.")] = None,
    changes: Changes = None,
    seeds: Seeds = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run's files; it must not hold a run yet. Left out: in runs/.")
    ] = None,
    resume: Resume = False,
    page: Annotated[bool, typer.Option("--report/--no-report", help="Write a report page at the end.")] = True,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the curves for TensorBoard too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Train the network of a RECIPE on its task, and measure it on test trials."""
    with failing((EngraxError,)):
        from ..training import recipe as recipes
        from ..training.build import build

        overrides = [*(changes or []), *([] if seeds is None else [f"training.seeds={seeds}"])]
        chosen = recipes.load(recipe, overrides, rule)
        built = build(chosen)
    with failing():
        run = _fit(built, chosen, folder_for(recipe, out, resume), resume, tensorboard)
        from ..training.store import dumps

        path = _page(run, chosen, recipe) if page else None
        if as_json:
            typer.echo(dumps({**run.summary(), "report": path}))
        else:
            _report(recipe, chosen, built, run, path)
    if run.interrupted:
        raise typer.Exit(1)


def folder_for(recipe: str, out: Path | None, resume: bool) -> Path:
    """The folder for the run: the one asked for, or the first of runs/NAME, runs/NAME-2, ... that is not there."""
    if out is not None:
        return out
    if resume:
        raise ArgumentError("--resume: give --out, the folder of the run that is to go on.")
    name, number = Path(recipe).stem, 1
    while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def _page(run: "Run", recipe: "Settings", name: str) -> Path:
    from ..reporting import write_report

    assert run.out is not None
    title = f"{Path(name).stem} by {recipe.rule.name}"
    return write_report(run, run.out / "report.html", title, recipe.model_dump(exclude_none=True))


def _fit(built: "Built", recipe: "Settings", out: Path, resume: bool, tensorboard: bool) -> "Run":
    from ..training.check import check_folder
    from ..training.stored import write_recipe

    write_recipe(check_folder(out, resume), recipe, resume)
    return built.fit(out=out, resume=resume, tensorboard=tensorboard)


def _report(name: str, recipe: "Settings", built: "Built", run: "Run", page: Path | None) -> None:
    """A table of figures on standard output."""
    from .tables import add_energy, add_figures, seeds, show, table

    made = table(f"{name} by {recipe.rule.name}", "", "figure")
    add_figures(made, {k: v for k, v in run.test.items() if "." not in k}, "test")
    baseline = getattr(built.task, "baseline", None)
    if callable(baseline):
        other: dict[str, Any] = baseline()
        made.add_row(f"{other['name']}, test {run.metric}", seeds([other[run.metric]], run.metric))
    made.add_row(f"validation {run.metric}", seeds(run.validation, run.metric))
    add_energy(made, run.energy)
    made.add_row("steps", str(run.steps) + (" (interrupted)" if run.interrupted else ""))
    made.add_row("time", f"{run.seconds:.0f} s")
    made.add_row("files", str(run.out))
    if page is not None:
        made.add_row("report", str(page))
    show(made)
