"""`engrax energy`: what a stored run's network spends, layer by layer, and what other networks would."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import unknown
from .app import app, failing
from .evaluate import Folder, Json, Split, Which, bill_joules, measured

if TYPE_CHECKING:
    from ..meter import Bill, Item, Learning, NeuroBench
    from ..network import Network
    from ..training.stored import Stored

Prices = Annotated[
    list[str] | None,
    typer.Option(
        "--prices",
        metavar="NAME",
        help="Show these prices only: float32, int32, int8, float32+sram; may be repeated. Left out: all.",
    ),
]


@app.command(epilog="Example: engrax energy runs/digits --prices int8")
def energy(run: Folder, split: Which = Split.test, prices: Prices = None, as_json: Json = False) -> None:
    """The energy bill of a stored RUN, by layer, beside those of equally wide RNN, GRU and LSTM networks.

    Operations are counted on the trials of a split and priced at published figures for single operations; what
    learning adds on one batch, and NeuroBench's metrics, with the best network. The bill compares networks, it is no
    chip's consumption. A figure, energy.svg, is written into the run's folder.
    """
    with failing():
        chosen = _chosen(prices)
        stored, _, bill = measured(run, split)
        benchmark = _benchmark(stored, split)
        learning = _learning(stored, split)
        path = _draw(stored, bill, chosen[0])
        if as_json:
            from ..training.store import dumps

            found = {} if isinstance(learning, str) else {"learning": _learned(learning)}
            everything = {**bill_joules(bill), **_counts(bill), "neurobench": benchmark._asdict(), **found}
            typer.echo(dumps({**everything, "figure": path, "run": run}))
            return
        _print(stored, bill, split, chosen)
        _print_benchmark(benchmark)
        typer.echo(f"\n{learning if isinstance(learning, str) else learning.table()}")
        typer.echo(f"\nfigure: {path}")


def _chosen(prices: list[str] | None) -> list[str]:
    from ..meter import PRICES

    for name in prices or ():
        if name not in PRICES:
            raise unknown("set of prices (--prices):", name, PRICES)
    return prices or list(PRICES)


def _benchmark(stored: "Stored", split: Split) -> "NeuroBench":
    from ..training.evaluate import benchmark

    return benchmark(stored.network, stored.built.task, split.value, stored.built.training.batch)


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


def _draw(stored: "Stored", bill: "Bill", prices: str) -> Path:
    from ..reporting.energy import draw
    from ..reporting.figures import svg
    from ..training.store import write

    path = stored.folder / "energy.svg"
    write(path, svg(lambda: draw(bill, prices)).encode())
    return path


def _counts(bill: "Bill") -> dict[str, Any]:
    from ..meter import PRICES

    step = bill.step
    priced = {
        name: {
            "energy_joules": bill.joules(name),
            "step_joules": step.joules(name),
            **{
                kind: {"energy_joules": item.joules(price), "ratio": bill.ratio(name, kind)}
                for kind, item in bill.references.items()
            },
        }
        for name, price in PRICES.items()
    }
    plain = lambda items: {name: item._asdict() for name, item in items.items()}
    return {
        "steps": bill.steps,
        "populations": plain(bill.items),
        "projections": plain(bill.projections),
        **plain(bill.references),
        "prices": priced,
    }


def _rows(net: "Network", bill: "Bill") -> Iterator[tuple[str, "Item"]]:
    """Each population, the projections onto it below, and the sum."""
    for name, item in bill.items.items():
        yield name, item
        for projection in (n for n, p in net.projections.items() if p.post == name):
            yield f"  {projection}", bill.projections[projection]
    yield "all", bill.total


def _print(stored: "Stored", bill: "Bill", split: Split, chosen: list[str]) -> None:
    from ..meter import PRICES
    from .tables import joules, show, table

    title = f"A mean {split} trial of {stored.folder}, {bill.steps:g} steps"
    rows, others = list(_rows(stored.network, bill)), {wide(k): item for k, item in bill.references.items()}
    made = table(title, "onto and in", "spikes", "AC", "MAC", "updates", "update MAC")
    for name, item in (*rows, *others.items()):
        spikes = "" if item.spikes is None else f"{item.spikes:,.0f}"
        made.add_row(name, spikes, *(f"{x:,.0f}" for x in (item.ac, item.mac, item.membrane_updates, item.update)))
    show(made)
    made = table("Its energy", "onto and in", *chosen)
    for name, item in (*rows, ("all, a step", bill.step.total)):
        made.add_row(name, *(joules(item.joules(PRICES[p])) for p in chosen))
    for kind, item in bill.references.items():
        made.add_row(wide(kind), *(f"{joules(item.joules(PRICES[p]))} ({bill.ratio(p, kind):.3g} ×)" for p in chosen))
    show(made)
    for name in chosen:
        price = PRICES[name]
        read = f", reading a weight {joules(price.read)}" if price.read else ""
        typer.echo(f"{name}: AC {joules(price.ac)}, MAC {joules(price.mac)}{read}: {price.source}")


def wide(kind: str) -> str:
    """A reference network's name in a table."""
    return f"equally wide {kind.upper()}"


def _print_benchmark(found: "NeuroBench") -> None:
    from .tables import show, table

    made = table("NeuroBench's metrics, the best network", "", "a trial", "a step")
    sparsity = "none to count" if found.activation_sparsity is None else f"{found.activation_sparsity:.4f}"
    held = ", ".join(f"{kind} {size:,.0f}" for kind, size in found.held.items() if size and kind != "states")
    made.add_row("footprint, bytes", f"{found.footprint:,.0f}", "")
    made.add_row(f"  {held}", "", "")
    made.add_row("states of a run, bytes", f"{found.held['states']:,.0f}", "")
    made.add_row("connection sparsity", f"{found.connection_sparsity:.4f}", "")
    made.add_row("activation sparsity", sparsity, "")
    for name, count in (
        ("synaptic operations, dense", found.dense),
        ("synaptic operations, effective MACs", found.macs),
        ("synaptic operations, effective ACs", found.acs),
        ("membrane updates", found.membrane_updates),
    ):
        made.add_row(name, f"{count:,.0f}", f"{count / found.steps:,.1f}")
    show(made)
