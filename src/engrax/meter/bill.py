"""The energy bill: operations counted from what a network did, at published prices for one operation.

    synapses   an event costs one accumulate (AC) for each connection it goes out through; a graded value costs one
               multiply-accumulate (MAC) for each connection at each step, zero or not
    units      the MACs of a unit's update at each step (`Neuron.macs`)

Routing spikes and leakage are not counted, nor are biases and comparisons: as in Yin, Corradi and Bohte 2021, whose
bookkeeping this is. Fetching weights is counted at one of the prices and left out of the others (`PRICES`). The figures
compare networks; they are no chip's consumption.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..network import Network
from .activity import Activity
from .prices import PRICES, Price


class Item(NamedTuple):
    """Mean operations of a trial, or of one step.

    ac, mac: in synapses.
    update: MACs of the units' own dynamics.
    spikes: of a population that spikes; of a projection, the events that it carried; None where values are graded.
    membrane_updates: how often a unit's state was moved on: units times steps.
    """

    ac: float
    mac: float
    update: float
    spikes: float | None = None
    membrane_updates: float = 0.0

    def joules(self, price: Price) -> float:
        """Energy of them all."""
        return price.joules(self.ac, self.mac, self.update)

    def times(self, factor: float) -> "Item":
        """So many times as much of everything."""
        spikes = None if self.spikes is None else factor * self.spikes
        ac, mac, update = factor * self.ac, factor * self.mac, factor * self.update
        return Item(ac, mac, update, spikes, factor * self.membrane_updates)


class Bill(NamedTuple):
    """What a trial costs on average.

    items: by population, with the synapses onto it.
    projections: by projection, its synapses alone; those onto a population add up to its item.
    references: networks with as many units of another kind, "rnn", "gru" and "lstm", in place of every hidden
        population, with the same inputs and readouts, all of whose synapses are all-to-all.
    steps: mean number of time steps of a trial.
    """

    items: dict[str, Item]
    projections: dict[str, Item]
    references: dict[str, Item]
    steps: float

    @property
    def lstm(self) -> Item:
        """The LSTM network among the references."""
        return self.references["lstm"]

    @property
    def total(self) -> Item:
        """All populations together."""
        return _sum(self.items.values())

    @property
    def step(self) -> "Bill":
        """The bill of a mean time step."""
        items, projections, references = (_times(x, 1 / self.steps) for x in self[:3])
        return Bill(items, projections, references, 1.0)

    def joules(self, prices: str = "float32") -> float:
        """Energy of a trial at the prices of that name in `PRICES`."""
        return self.total.joules(PRICES[prices])

    def ratio(self, prices: str = "float32", reference: str = "lstm") -> float:
        """How many times as much a reference network costs."""
        return self.references[reference].joules(PRICES[prices]) / self.joules(prices)


def bill(net: Network, activity: Activity) -> Bill:
    """The bill for an activity of a network.

    Args:
        net: the network that was active; only its structure is read, so one of several seeds will do.
        activity: counts over any number of trials.
    """
    trials, steps = float(activity.trials), float(activity.steps)
    sent = {n: np.asarray(x, np.float64) for n, x in {**activity.events, **activity.spikes}.items()}
    graded = {name for name, count in activity.graded.items() if float(count) > 0}
    projections = {}
    for name, projection in net.projections.items():
        fan_out = np.asarray(projection.connections(), np.float64)
        if projection.pre in sent and projection.pre not in graded:
            events = sent[projection.pre]
            projections[name] = Item(float(events @ fan_out), 0.0, 0.0, float(events.sum()))
        else:
            projections[name] = Item(0.0, steps * float(fan_out.sum()), 0.0)
    items = {}
    for name, neuron in net.populations.items():
        onto = _sum(projections[p] for p, projection in net.projections.items() if projection.post == name)
        spikes = float(sent[name].sum()) if name in sent else None
        updates = steps * neuron.size
        items[name] = Item(onto.ac, onto.mac, updates * neuron.macs, spikes, updates)
    references = {kind: _reference(net, *kept) for kind, kept in REFERENCES.items()}
    return Bill(
        _times(items, 1 / trials), _times(projections, 1 / trials), _times(references, steps / trials), steps / trials
    )


# Weight matrices, and products in a unit's own update (gates' slopes included), as the literature counts them.
REFERENCES = {"rnn": (1, 1), "gru": (3, 14), "lstm": (4, 17)}


def _reference(net: Network, matrices: int, macs: int) -> Item:
    """A step of the equally wide network: n units on m inputs cost matrices (m n + n^2) MACs, and macs n of updates."""
    readouts = {spec.population for spec in net.output_specs}
    sizes = net.inputs | {name: p.size for name, p in net.populations.items()}
    mac = update = 0.0
    for name, neuron in net.populations.items():
        sources = {p.pre for p in net.projections.values() if p.post == name and p.pre != name}
        inputs = sum(sizes[source] for source in sources)
        if name in readouts:
            mac, update = mac + inputs * neuron.size, update + neuron.size
        else:
            mac, update = mac + matrices * (inputs + neuron.size) * neuron.size, update + macs * neuron.size
    return Item(0.0, mac, update, None, float(sum(p.size for p in net.populations.values())))


def _times(items: dict[str, Item], factor: float) -> dict[str, Item]:
    return {name: item.times(factor) for name, item in items.items()}


def _sum(items: Iterable[Item]) -> Item:
    """All of them together; spikes are those of the ones that have any."""
    found = [Item(0.0, 0.0, 0.0), *items]
    spikes = [item.spikes for item in found if item.spikes is not None]
    ac, mac, update, updates = (sum(x) for x in zip(*((i.ac, i.mac, i.update, i.membrane_updates) for i in found)))
    return Item(ac, mac, update, sum(spikes) if spikes else None, updates)
