"""Networks as a chip computes them: in integers, by additions and shifts. Emulated to the bit, with golden vectors."""

from .emulate import Emulation, emulate
from .golden import Difference, Golden, differences, golden, read
from .program import Connections, Format, Program, Units, program

__all__ = [
    "Connections",
    "Difference",
    "Emulation",
    "Format",
    "Golden",
    "Program",
    "Units",
    "differences",
    "emulate",
    "golden",
    "program",
    "read",
]
