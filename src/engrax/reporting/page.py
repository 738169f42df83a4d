"""The page itself: one HTML file with everything in it, readable on a desk and on a telephone."""

import html
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..analysis import confusion
from ..meter import PRICES
from . import energy, figures
from .content import Content
from .text import joules

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --paper: #ffffff; --tint: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 .25rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: 1.2rem 0 2rem; }
dl div { background: var(--tint); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 2rem; }
section { min-width: 0; }
main > section { margin-top: 2.5rem; }
svg { width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; overflow-x: auto; }
pre { font-size: .8rem; }
"""


def page(content: Content) -> str:
    """The report as HTML. It needs no network and no other file, and runs no script."""
    sections = [
        _figure("Training", "Line: mean over seeds; band: their range.", lambda: figures.curves(content)),
        _figure("A test trial", "The first one, in the best network.", lambda: figures.activity(content)),
        _figure(
            "Inside",
            "States and eligibility traces of the three units of that trial with the largest traces; the traces are "
            "of the synapses from the presynaptic unit that is most active.",
            lambda: figures.traces(content),
        ),
        _figure("Energy", "A mean test trial, the mean over seeds.", lambda: energy.draw(content.energy)),
        _figure("Weights", "Colours end at the 99th percentile of the sizes.", lambda: figures.weights(content)),
    ]
    counts = confusion(content.network, content.task)
    if counts is not None:
        text = "Test trials, the best network; per cent of each class."
        sections.insert(2, _figure("Confusion", text, lambda: figures.confusions(np.asarray(counts))))
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in content.facts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(content.title)} · Engrax</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_text(content.title)}</h1>\n<p>A run of Engrax {_text(content.versions['engrax'])}.</p>\n"
        f'<dl>{facts}</dl>\n<div class="figures">\n{"".join(sections)}</div>\n'
        f"{_energy(content)}{_settings(content)}</main>\n</body>\n</html>\n"
    )


def _figure(title: str, text: str, draw: "Callable[[], Figure]") -> str:
    return f"<section><h2>{_text(title)}</h2><p>{_text(text)}</p>{figures.svg(draw)}</section>\n"


def _energy(content: Content) -> str:
    bill = content.energy
    head = "".join(f"<th>{_text(x)}</th>" for x in ("", "spikes", "AC", "MAC", "update MAC", *PRICES))
    rows = []
    others = {f"equally wide {kind.upper()}": item for kind, item in bill.references.items()}
    for name, item in {**bill.items, "all": bill.total, **others}.items():
        spikes = "" if item.spikes is None else f"{item.spikes:,.0f}"
        counts = [f"{x:,.0f}" for x in (item.ac, item.mac, item.update)]
        cells = [name, spikes, *counts, *(joules(item.joules(price)) for price in PRICES.values())]
        rows.append("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>")
    prices = "; ".join(f"{n}: AC {joules(p.ac)}, MAC {joules(p.mac)} ({p.source})" for n, p in PRICES.items())
    return (
        f"<section><h2>Energy of a mean test trial</h2><p>{bill.steps:g} steps. {_text(prices)}. Memory traffic is "
        'counted where a price names it, and nowhere else.</p><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div></section>\n"
    )


def _settings(content: Content) -> str:
    what = content.recipe if content.recipe is not None else content.network.summary()
    text = what if isinstance(what, str) else json.dumps(what, indent=2, ensure_ascii=False)
    versions = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    return (
        f"<section><h2>{'Recipe' if content.recipe is not None else 'Network'}</h2><pre>{_text(text)}</pre>"
        f"<p>{_text(versions)}</p></section>\n"
    )


def _text(x: object) -> str:
    return html.escape(str(x))
