"""`engrax evaluate`: a stored run, measured again."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import app, failing

if TYPE_CHECKING:
    from ..meter import Bill
    from ..training.stored import Stored


class Split(StrEnum):
    """What can be measured."""

    train = "train"
    validation = "validation"
    test = "test"


Folder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `engrax train --out` wrote.")]
Which = Annotated[Split, typer.Option(help="The trials to measure on.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@app.command(epilog="Example: engrax evaluate runs/digits --split validation")
def evaluate(run: Folder, split: Which = Split.test, as_json: Json = False) -> None:
    """Measure a stored RUN's networks, each seed's best, on trials of a split."""
    with failing():
        stored, figures, bill = measured(run, split)
        metric = stored.built.task.metric
        if as_json:
            from ..training.store import dumps

            named = {f"{split}_{name}": value for name, value in _means(figures, metric).items()}
            per_seed = {f"{split}_{metric}_per_seed": figures[metric]}
            rate = named.pop(f"{split}_firing_rate_hz", None)
            typer.echo(dumps({**named, **per_seed, "firing_rate_hz": rate, **bill_joules(bill), "run": run}))
            return
        from .tables import add_energy, add_figures, show, table

        made = table(f"{run} by {stored.recipe.rule.name}", "", "figure")
        add_figures(made, figures, split)
        add_energy(made, bill)
        show(made)


def measured(run: Path, split: Split) -> tuple["Stored", dict[str, Any], "Bill"]:
    """A run read back, its figures on a split, and the bill."""
    from ..training.evaluate import meter
    from ..training.stored import load_run

    stored = load_run(run)
    many = stored.networks is not None
    nets = stored.networks if stored.networks is not None else stored.network
    figures, bill = meter(nets, stored.built.task, split.value, stored.built.training.batch, many, stored.built.rule)
    return stored, figures, bill


def _means(figures: dict[str, Any], metric: str) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in figures.items() if name != "energy_joules"}


def bill_joules(bill: "Bill") -> dict[str, Any]:
    """The energies that every command prints, by their keys."""
    from ..meter import PRICES

    return {
        "energy_joules": bill.joules(),
        "energy_joules_int32": bill.joules("int32"),
        "lstm_energy_joules": bill.lstm.joules(PRICES["float32"]),
        "lstm_energy_joules_int32": bill.lstm.joules(PRICES["int32"]),
    }
