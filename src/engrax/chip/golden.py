"""Golden vectors: what a chip must compute, in text files that Verilog reads by $readmemh and any language by itself.

A folder holds `manifest.json` and a file for each array: hexadecimal words in two's complement, a line for each step of
each trial (of a weight, for each postsynaptic unit), the last axis along the line. The manifest says of each its axes,
shape, width and sign, and in words the arithmetic. It is written last: without it a folder is not complete.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Num, PyTree

from .._files import write
from ..errors import ArgumentError, DataError
from ..network import Network
from .emulate import Emulation, emulate, exponent, registers
from .program import Format, Program, Units

NAME, VERSION, MANIFEST = "engrax golden vectors", 1, "manifest.json"
VECTOR = ["trial", "step", "unit"]


class Golden(NamedTuple):
    """A folder of golden vectors, read back.

    manifest: its JSON.
    arrays: integers by name: vectors (trial, step, unit), such as "hidden.voltage"; weights (post, pre), such as
        "input->hidden.weight"; constants (unit,), such as "hidden.threshold".
    """

    manifest: dict[str, Any]
    arrays: dict[str, np.ndarray]


class Difference(NamedTuple):
    """The first place at which a vector is another than the golden one."""

    name: str
    trial: int
    step: int
    unit: int
    expected: int
    found: int


class _Words(NamedTuple):
    name: str
    array: np.ndarray
    axes: list[str]
    bits: int
    signed: bool
    exponent: int


def golden(
    net: Network,
    inputs: PyTree[Num[Array, "time batch _"]],
    path: str | os.PathLike[str],
    format: Format | None = None,
) -> Emulation:
    """Emulate a network and write everything that checks a chip: constants, and all registers after every step.

    Args:
        net, inputs, format: as for `emulate`. A few trials suffice.
        path: a folder, made if it is not there; files of the same names are replaced.

    Returns:
        The emulation that was written.

    Raises:
        ChipError, RegisterOverflow: as for `emulate`.
        ArgumentError: `path` is a file, or names of two parts make one file name.
    """
    ran, folder = emulate(net, inputs, format), Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"path must be a folder, and {folder} is a file.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    files: dict[str, Any] = {}
    for words in (*_constants(ran.program), *_vectors(ran)):
        file = re.sub(r"[^\w.-]+", "_", words.name.replace("->", "_to_")) + ".hex"
        if file in {entry["file"] for entry in files.values()}:
            raise ArgumentError(f"{words.name!r} and another array would both be written to {file}: rename one part.")
        content = _text(words).encode()
        write(folder / file, content)
        files[words.name] = {
            "file": file,
            "axes": words.axes,
            "shape": list(words.array.shape),
            "bits": words.bits,
            "signed": words.signed,
            "exponent": words.exponent,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    manifest = {**_manifest(ran), "files": files}
    write(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return ran


def read(path: str | os.PathLike[str]) -> Golden:
    """Read a folder of golden vectors back.

    Raises:
        DataError: there is no manifest, it is of a newer format, or a file is missing or not the one that was written.
    """
    folder = Path(path).expanduser()
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        ours = manifest["format"] == NAME and int(manifest["version"])
        files = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no golden vectors: {MANIFEST} cannot be read ({error}).") from error
    if not ours or ours > VERSION:
        raise DataError(f"{folder / MANIFEST} is not of a format that this version of Engrax reads (up to {VERSION}).")
    arrays = {}
    for name, entry in files.items():
        content = _content(folder / entry["file"])
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise DataError(f"{folder / entry['file']} is damaged: it is not the file that was written.")
        arrays[name] = _numbers(folder / entry["file"], content, entry)
    return Golden(manifest, arrays)


def differences(path: str | os.PathLike[str], found: str | os.PathLike[str]) -> list[Difference]:
    """Where a chip's vectors first part from the golden ones.

    Args:
        path: the folder of golden vectors.
        found: a folder with some of the vectors under the same file names, as $writememh writes them.

    Returns:
        For each vector that differs its first difference, earliest step first; empty if none does.

    Raises:
        DataError: `found` holds none of the vectors, or a file is not as long as the golden one or no hexadecimal text.
    """
    manifest, arrays = read(path)
    folder, seen, parted = Path(found).expanduser(), False, []
    for name, entry in manifest["files"].items():
        file = folder / entry["file"]
        if entry["axes"] != VECTOR or not file.is_file():
            continue
        seen, numbers = True, _numbers(file, _content(file), entry)
        unequal = np.argwhere(numbers != arrays[name])
        if len(unequal):
            trial, step, unit = (int(i) for i in unequal[np.argmin(unequal[:, 1])])
            expected, got = (int(x[trial, step, unit]) for x in (arrays[name], numbers))
            parted.append(Difference(name, trial, step, unit, expected, got))
    if not seen:
        raise DataError(f"{folder} holds none of the vectors of {path}: give them the same file names.")
    return sorted(parted, key=lambda d: d.step)


def _constants(made: Program) -> Iterator[_Words]:
    widths = made.format
    for c in made.projections:
        yield _Words(f"{c.name}.weight", c.weight, ["post", "pre"], widths.weight, True, 0)
    for u in made.populations:
        state = u.exponent - widths.fraction
        yield _Words(f"{u.name}.bias", u.bias, ["unit"], widths.current, True, u.exponent)
        yield _Words(f"{u.name}.shift", u.shift, ["unit"], 4, False, 0)
        if u.shift_synapse is not None:
            yield _Words(f"{u.name}.shift_synapse", u.shift_synapse, ["unit"], 4, False, 0)
        if u.threshold is not None:
            yield _Words(f"{u.name}.threshold", u.threshold, ["unit"], widths.state, True, state)
        if u.refractory is not None:
            yield _Words(f"{u.name}.period", u.refractory, ["unit"], _counter(u), False, 0)


def _vectors(ran: Emulation) -> Iterator[_Words]:
    made = ran.program
    own = {r: u for u in made.populations for r in registers(u)}
    for name, array in ran.recorded.items():
        variable, bits, signed = name.partition(".")[2], 1, False
        if variable == "refractory":
            bits = _counter(own[name])
        elif variable:
            bits, signed = made.format.current if variable == "current" else made.format.state, True
        yield _Words(name, np.swapaxes(array, 0, 1), VECTOR, bits, signed, exponent(made, name))


def _counter(units: Units) -> int:
    """Bits of a refractory period's counter."""
    assert units.refractory is not None
    return max(int(units.refractory.max()).bit_length(), 1)


def _manifest(ran: Emulation) -> dict[str, Any]:
    made = ran.program
    widths = made.format
    steps, trials, _ = next(iter(ran.recorded.values())).shape
    populations = {
        u.name: {
            "model": u.model,
            "size": u.size,
            "input_scale": "leak" if u.leak else "one",
            "reset": None if u.threshold is None else "subtract" if u.subtract else "zero",
            "registers": list(registers(u)),
        }
        for u in made.populations
    }
    projections = {
        c.name: {"pre": c.pre, "post": c.post, "delay": c.delay, "shift_left": c.left} for c in made.projections
    }
    return {
        "format": NAME,
        "version": VERSION,
        "dt_ms": made.dt,
        "trials": trials,
        "steps": steps,
        "bits": {
            "weight": widths.weight,
            "current": widths.current,
            "state": widths.state,
            "fraction": widths.fraction,
        },
        "rounding": widths.rounding,
        "inputs": made.inputs,
        "order": [u.name for u in made.populations],
        "populations": populations,
        "projections": projections,
        "outputs": {
            label: population if variable is None else f"{population}.{variable}"
            for label, (population, variable) in made.outputs.items()
        },
        "arithmetic": _arithmetic(widths),
    }


def _arithmetic(widths: Format) -> list[str]:
    """The emulation in words, for people who never read its program."""
    half = " + (1 << (k - 1))" if widths.rounding == "nearest" else ""
    return [
        "A step updates the populations as `order` lists them. Before the first one all registers and events are 0.",
        "current = bias + sum over projections of (sum of weight[post][pre] over pre that sent an event delay steps "
        "ago) << shift_left; delay 0 is this step.",
        f"decayed(x, k) = (x{half}) >> k, the shift arithmetic (it copies the sign).",
        "filter(x, d, k) = x + decayed(d - x, k) with input_scale leak; x - decayed(x, k) + d with input_scale one.",
        f"drive = current << {widths.fraction}; with a register synaptic: synaptic = filter(synaptic, drive, "
        "shift_synapse), and drive is the new synaptic.",
        "Where the unit sent an event in the step before and reset is zero, voltage is 0 before it is filtered.",
        "voltage = filter(voltage, drive, shift); where the unit sent an event in the step before and reset is "
        "subtract, less threshold.",
        "With a register refractory: refractory = refractory + period if the unit sent an event in the step before, "
        "less 1, held between 0 and period.",
        "The unit sends an event if voltage > threshold (strictly), and refractory is 0 where there is one.",
        "A number stands for itself times 2^exponent. No register ever overflows; d - x needs more bits than a state: "
        "one more than the wider of drive and state.",
    ]


def _text(words: _Words) -> str:
    digits = -(-words.bits // 4)
    rows = (words.array.astype(np.int64) & ((1 << words.bits) - 1)).reshape(-1, words.array.shape[-1])
    return "".join(" ".join(f"{x:0{digits}x}" for x in row) + "\n" for row in rows.tolist())


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}).") from error


def _numbers(file: Path, content: bytes, entry: dict[str, Any]) -> np.ndarray:
    text = re.sub(r"//.*", "", content.decode("ascii", "replace"))
    try:
        words = np.array([int(word, 16) for word in text.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{file} is no text of hexadecimal words ({error}).") from error
    if words.size != int(np.prod(entry["shape"])):
        raise DataError(f"{file} holds {words.size} words; there must be {entry['shape']} of them.")
    if entry["signed"]:
        words = np.where(words >= 1 << (entry["bits"] - 1), words - (1 << entry["bits"]), words)
    return words.reshape(entry["shape"])
