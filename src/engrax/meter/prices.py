"""What one operation costs: the four sets of prices that every claim about energy is judged under.

All are figures for a 45 nm process at 0.9 V, from Horowitz's table (ISSCC 2014). They differ in the numbers that a chip
computes with, and in whether it has to fetch a weight before it can use it.
"""

from typing import NamedTuple


class Price(NamedTuple):
    """Joules of one operation, and where the figures come from.

    ac, mac: an accumulate, and a multiply-accumulate.
    read: fetching one weight from memory, at each synaptic operation. A unit's own update reads no weight.
    """

    ac: float
    mac: float
    source: str
    read: float = 0.0

    def joules(self, ac: float = 0.0, mac: float = 0.0, update: float = 0.0) -> float:
        """Energy of so many synaptic accumulates and multiply-accumulates, and of so many MACs of units' updates."""
        return ac * (self.ac + self.read) + mac * (self.mac + self.read) + update * self.mac


PRICES = {
    "float32": Price(0.9e-12, 4.6e-12, "45 nm, 32-bit floats, Horowitz 2014"),
    "int32": Price(0.1e-12, 3.2e-12, "45 nm, 32-bit integers, as in Yin et al. 2021 (second-hand)"),
    "int8": Price(0.03e-12, 0.23e-12, "45 nm, 8-bit integers, Horowitz 2014"),
    "float32+sram": Price(
        0.9e-12,
        4.6e-12,
        "45 nm, 32-bit floats, and a weight from 8 KB of SRAM for each synaptic operation (half of a 64-bit access), "
        "Horowitz 2014",
        read=5e-12,
    ),
}
