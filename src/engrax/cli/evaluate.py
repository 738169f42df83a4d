"""`engrax evaluate` and `engrax energy`: a stored run, measured again."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import app, failing

if TYPE_CHECKING:
    from ..meter import Bill, Learning
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
        stored, figures, bill = _measure(run, split)
        metric = stored.built.task.metric
        if as_json:
            from ..training.store import dumps

            named = {f"{split}_{name}": value for name, value in _means(figures, metric).items()}
            per_seed = {f"{split}_{metric}_per_seed": figures[metric]}
            rate = named.pop(f"{split}_firing_rate_hz", None)
            typer.echo(dumps({**named, **per_seed, "firing_rate_hz": rate, **_joules(bill), "run": run}))
            return
        from .tables import add_energy, add_figures, show, table

        made = table(f"{run} by {stored.recipe.rule.name}", "", "figure")
        add_figures(made, figures, split)
        add_energy(made, bill)
        show(made)


@app.command(epilog="Example: engrax energy runs/digits")
def energy(run: Folder, split: Which = Split.test, as_json: Json = False) -> None:
    """The energy bill of a stored RUN, by population, beside an equally wide LSTM network's, and what learning adds.

    Operations are counted on the trials of a split and priced at published figures for single operations; those of
    learning on one batch, with the best network. Fetching weights is not counted: the bill compares networks, it is
    no chip's consumption.
    """
    with failing():
        stored, _, bill = _measure(run, split)
        learning = _learning(stored, split)
        if as_json:
            from ..training.store import dumps

            found = {} if isinstance(learning, str) else {"learning": _learned(learning)}
            typer.echo(dumps({**_joules(bill), **_counts(bill), **found, "run": run}))
            return
        _print(stored, bill, split)
        typer.echo(f"\n{learning if isinstance(learning, str) else learning.table()}")


def _measure(run: Path, split: Split) -> tuple["Stored", dict[str, Any], "Bill"]:
    from ..training.evaluate import meter
    from ..training.stored import load_run

    stored = load_run(run)
    many = stored.networks is not None
    nets = stored.networks if stored.networks is not None else stored.network
    figures, bill = meter(nets, stored.built.task, split.value, stored.built.training.batch, many)
    return stored, figures, bill


def _learning(stored: "Stored", split: Split) -> "Learning | str":
    """What learning costs on the first batch of a split, or why nobody knows."""
    from ..errors import LossError, RuleError
    from ..meter import learning

    built = stored.built
    trial = next(iter(built.task.batches(split.value, built.training.batch)))
    try:
        return learning(stored.network, trial, built.rule)
    except (RuleError, LossError) as error:
        return f"learning: {error}"


def _learned(learning: "Learning") -> dict[str, Any]:
    return {
        "energy_joules": learning.joules(),
        "energy_joules_int32": learning.joules("int32"),
        "operations": {name: item._asdict() for name, item in learning.items.items()},
        "gated": learning.gated,
        "bytes": learning.held,
        "trace_bits": learning.bits,
        "bptt_bytes": learning.tape,
    }


def _means(figures: dict[str, Any], metric: str) -> dict[str, float]:
    return {name: float(value.mean()) for name, value in figures.items() if name != "energy_joules"}


def _joules(bill: "Bill") -> dict[str, Any]:
    from ..meter import PRICES

    return {
        "energy_joules": bill.joules(),
        "energy_joules_int32": bill.joules("int32"),
        "lstm_energy_joules": bill.lstm.joules(PRICES["float32"]),
        "lstm_energy_joules_int32": bill.lstm.joules(PRICES["int32"]),
    }


def _counts(bill: "Bill") -> dict[str, Any]:
    return {
        "steps": bill.steps,
        "populations": {name: item._asdict() for name, item in bill.items.items()},
        "lstm": bill.lstm._asdict(),
    }


def _print(stored: "Stored", bill: "Bill", split: Split) -> None:
    from ..meter import PRICES
    from .tables import joules, show, table

    title = f"A mean {split} trial of {stored.folder}, {bill.steps:g} steps"
    made = table(title, "onto and in", "spikes", "AC", "MAC", "update MAC", *PRICES)
    rows = {**bill.items, "all": bill.total, "equally wide LSTM": bill.lstm}
    for name, item in rows.items():
        spikes = "" if item.spikes is None else f"{item.spikes:,.0f}"
        counts = (f"{x:,.0f}" for x in (item.ac, item.mac, item.update))
        made.add_row(name, spikes, *counts, *(joules(item.joules(price)) for price in PRICES.values()))
    show(made)
    for name, price in PRICES.items():
        typer.echo(f"{name}: AC {joules(price.ac)}, MAC {joules(price.mac)}: {price.source}")
