"""Where a trial's energy goes, layer by layer, and what it comes to at each set of prices."""

from typing import TYPE_CHECKING

from ..meter import PRICES, Bill
from .figures import BLUE, GREEN, GREY, ORANGE, axes
from .text import PREFIXES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour and marker say the same, for readers who cannot tell the colours apart.
REFERENCES = {"rnn": (GREEN, "^"), "gru": ("#CC79A7", "s"), "lstm": (ORANGE, "D")}


def draw(bill: Bill, prices: str = "float32") -> "Figure":
    """Above, each layer's synapses and updates at one set of prices; below, whole networks at all of them."""
    height = 0.28 * len(bill.items)
    figure, (layers, sums) = axes(3.4 + height, rows=2, heights=(0.9 + height, 2.0))
    price, names = PRICES[prices], list(bill.items)
    updates = [price.joules(update=item.update) for item in bill.items.values()]
    synapses = [price.joules(item.ac, item.mac) for item in bill.items.values()]
    largest = max(a + b for a, b in zip(synapses, updates))
    unit, prefix = next(((x, p) for x, p in PREFIXES if largest >= x), (1.0, ""))
    places = range(len(names))
    layers.barh(places, [x / unit for x in synapses], color=BLUE, label="synapses")
    left = [x / unit for x in synapses]
    layers.barh(places, [x / unit for x in updates], left=left, color="#E69F00", hatch="///", label="updates")
    layers.set_yticks(places, names)
    layers.invert_yaxis()
    layers.set_xlabel(f"energy per inference ({prefix}J), {prices}")
    layers.legend(fontsize=7, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 0.97))

    spots = range(len(PRICES))
    own = [bill.joules(name) for name in PRICES]
    drawn = {"this network": (own, BLUE, "o")}
    for kind, item in bill.references.items():
        drawn[kind.upper()] = ([item.joules(p) for p in PRICES.values()], *REFERENCES[kind])
    for i, (name, (costs, colour, marker)) in enumerate(drawn.items()):
        # Side by side, since an LSTM and a GRU cost nearly the same.
        beside = [spot + 0.12 * (i - (len(drawn) - 1) / 2) for spot in spots]
        sums.plot(beside, costs, color=colour, marker=marker, linestyle="none", label=name)
    for spot, prices in zip(spots, PRICES):
        place = {"xytext": (0, -13), "textcoords": "offset points", "ha": "center"}
        sums.annotate(f"LSTM {bill.ratio(prices):.3g} ×", (spot, own[spot]), fontsize=7, color=GREY, **place)
    sums.set_yscale("log")
    sums.margins(x=0.15, y=0.25)
    sums.set_xticks(spots, list(PRICES))
    sums.set(xlabel="set of prices", ylabel="energy per\ninference (J)")
    sums.legend(fontsize=7, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 0.97))
    return figure
