"""The energy bill: operations counted from what a network did, at published prices for one operation.

    synapses   an event costs one accumulate (AC) for each connection it goes out through; a graded value costs one
               multiply-accumulate (MAC) for each connection at each step, zero or not
    units      the MACs of a unit's update at each step (`Neuron.macs`)

Fetching weights, routing spikes and leakage are not counted, nor are biases and comparisons: as in Yin, Corradi and
Bohte 2021, whose bookkeeping this is. The figures compare networks; they are no chip's consumption.
"""

from typing import NamedTuple

import numpy as np

from ..network import Network
from .activity import Activity


class Price(NamedTuple):
    """Joules for one accumulate and one multiply-accumulate, and where the figures come from."""

    ac: float
    mac: float
    source: str


PRICES = {
    "float32": Price(0.9e-12, 4.6e-12, "45 nm, 32-bit floats, Horowitz 2014"),
    "int32": Price(0.1e-12, 3.2e-12, "45 nm, 32-bit integers, as in Yin et al. 2021 (second-hand)"),
}


class Item(NamedTuple):
    """Mean operations of a trial. ac, mac: in synapses; update: MACs of the units' own dynamics."""

    ac: float
    mac: float
    update: float
    spikes: float | None = None

    def joules(self, price: Price) -> float:
        """Energy of a trial."""
        return self.ac * price.ac + (self.mac + self.update) * price.mac


class Bill(NamedTuple):
    """What a trial costs on average.

    items: by population, with the synapses onto it.
    lstm: a network of LSTM layers as wide as the hidden populations, with the same inputs and readouts.
    steps: mean number of time steps of a trial.
    """

    items: dict[str, Item]
    lstm: Item
    steps: float

    @property
    def total(self) -> Item:
        """All populations together."""
        spikes = [item.spikes for item in self.items.values() if item.spikes is not None]
        return Item(
            ac=sum(item.ac for item in self.items.values()),
            mac=sum(item.mac for item in self.items.values()),
            update=sum(item.update for item in self.items.values()),
            spikes=sum(spikes) if spikes else None,
        )

    def joules(self, prices: str = "float32") -> float:
        """Energy of a trial at the prices of that name in `PRICES`."""
        return self.total.joules(PRICES[prices])

    def ratio(self, prices: str = "float32") -> float:
        """How many times as much the LSTM network costs."""
        return self.lstm.joules(PRICES[prices]) / self.joules(prices)


def bill(net: Network, activity: Activity) -> Bill:
    """The bill for an activity of a network.

    Args:
        net: the network that was active; only its structure is read, so one of several seeds will do.
        activity: counts over any number of trials.
    """
    trials, steps = float(activity.trials), float(activity.steps)
    events = {**activity.events, **activity.spikes}
    graded = {name for name, count in activity.graded.items() if float(count) > 0}
    items = {}
    for name, neuron in net.populations.items():
        ac = mac = 0.0
        for projection in net.projections.values():
            if projection.post != name:
                continue
            fan_out = np.asarray(projection.connections(), np.float64)
            if projection.pre in events and projection.pre not in graded:
                ac += float(np.asarray(events[projection.pre], np.float64) @ fan_out)
            else:
                mac += steps * float(fan_out.sum())
        spikes = float(np.sum(np.asarray(activity.spikes[name], np.float64))) if name in activity.spikes else None
        update = steps * neuron.size * neuron.macs
        items[name] = Item(ac / trials, mac / trials, update / trials, None if spikes is None else spikes / trials)
    return Bill(items, _lstm(net, steps / trials), steps / trials)


# Products in an LSTM unit's own update, gates' slopes included, as the literature counts them.
LSTM_MACS = 17


def _lstm(net: Network, steps: float) -> Item:
    """The equally wide LSTM network: m inputs and n units cost 4 (m n + n^2) MACs and 17 n for the update."""
    readouts = {spec.population for spec in net.output_specs}
    sizes = net.inputs | {name: p.size for name, p in net.populations.items()}
    mac = update = 0.0
    for name, neuron in net.populations.items():
        sources = {p.pre for p in net.projections.values() if p.post == name and p.pre != name}
        inputs = sum(sizes[source] for source in sources)
        if name in readouts:
            mac, update = mac + inputs * neuron.size, update + neuron.size
        else:
            mac, update = mac + 4 * (inputs + neuron.size) * neuron.size, update + LSTM_MACS * neuron.size
    return Item(0.0, steps * mac, steps * update)
