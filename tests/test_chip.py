"""Networks as a chip computes them: to the bit as plain Python does, and as near the float network as said."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax import chip
from engrax.errors import ArgumentError, ChipError, DataError, RegisterOverflow
from engrax.neurons import ALIF, LI, LIF, LSTM, CuBaLIF
from engrax.parameter import time_constant
from engrax.training import build, recipe


def tau(*shifts):
    return time_constant(jnp.asarray(shifts if len(shifts) > 1 else shifts[0]), 1.0)


HIDDEN = {
    "lif": lambda: LIF(3, tau=tau(1, 3, 5), threshold=0.125, reset="zero", input_scale="leak"),
    "cuba": lambda: CuBaLIF(
        3, tau=tau(2, 4, 6), tau_synapse=tau(1, 2, 3), threshold=[0.5, 1.0, 2.0], reset="subtract", input_scale="one"
    ),
    "refractory": lambda: LIF(3, tau=tau(4, 4, 2), threshold=1.0, refractory=[0.0, 2.0, 5.0], reset="zero"),
}


def network(kind, dtype=jnp.float32, bits=8):
    key = jax.random.split(jax.random.key(3), 3)
    projections = [
        ex.StraightThrough("x", "h", weight=jax.random.normal(key[0], (3, 2), dtype), bits=bits, bias=[0.4, -0.1, 0.3]),
        ex.StraightThrough("h", "h", weight=0.2 * jax.random.normal(key[1], (3, 3), dtype), bits=5, delay=2),
        ex.StraightThrough("h", "y", weight=jax.random.normal(key[2], (2, 3), dtype), bits=bits, bias=True),
    ]
    populations = {"h": HIDDEN[kind](), "y": LI(2, tau=tau(2, 3))}
    return ex.Network(populations, projections, inputs={"x": 2}, outputs="y")


def events(steps=40, batch=2, units=2, rate=0.5):
    return jnp.asarray(np.random.default_rng(5).random((steps, batch, units)) < rate, jnp.float32)


def by_hand(folder):
    """The same integers by a loop over single numbers that knows the files alone, none of the library."""
    manifest = json.loads((folder / "manifest.json").read_text())
    numbers = {}
    for name, entry in manifest["files"].items():
        rows = [[int(w, 16) for w in line.split()] for line in (folder / entry["file"]).read_text().splitlines()]
        half = 1 << (entry["bits"] - 1)
        signed = [[w - 2 * half if entry["signed"] and w >= half else w for w in row] for row in rows]
        numbers[name] = signed if len(entry["shape"]) > 1 else signed[0]

    def decayed(x, k):
        return (x + 2 ** (k - 1) if manifest["rounding"] == "nearest" else x) // 2**k

    def through(x, d, k, scale):
        return x + decayed(d - x, k) if scale == "leak" else x - decayed(x, k) + d

    made = {n: [] for n, e in manifest["files"].items() if e["axes"] == ["trial", "step", "unit"]}
    for trial in range(manifest["trials"]):
        first = trial * manifest["steps"]
        held = {}
        sent = {n: {} for n in (*manifest["inputs"], *manifest["populations"])}
        for t in range(manifest["steps"]):
            for n in manifest["inputs"]:
                sent[n][t] = numbers[n][first + t]
                made[n].append(sent[n][t])
            for n in manifest["order"]:
                p, rows = manifest["populations"][n], {r: [] for r in manifest["populations"][n]["registers"]}
                for j in range(p["size"]):
                    current = numbers[f"{n}.bias"][j]
                    for q, c in manifest["projections"].items():
                        if c["post"] == n and t >= c["delay"]:
                            came = sent[c["pre"]][t - c["delay"]]
                            hit = sum(w for w, s in zip(numbers[f"{q}.weight"][j], came, strict=True) if s)
                            current += hit * 2 ** c["shift_left"]
                    get = lambda what, j=j, n=n, held=held: held.get((n, what, j), 0)
                    drive = current * 2 ** manifest["bits"]["fraction"]
                    rows[f"{n}.current"].append(current)
                    if f"{n}.synaptic" in rows:
                        drive = through(get("i"), drive, numbers[f"{n}.shift_synapse"][j], p["input_scale"])
                        held[n, "i", j] = drive
                        rows[f"{n}.synaptic"].append(drive)
                    spiked = get("z")
                    voltage = 0 if spiked and p["reset"] == "zero" else get("v")
                    voltage = through(voltage, drive, numbers[f"{n}.shift"][j], p["input_scale"])
                    if spiked and p["reset"] == "subtract":
                        voltage -= numbers[f"{n}.threshold"][j]
                    held[n, "v", j] = voltage
                    rows[f"{n}.voltage"].append(voltage)
                    if n not in rows:
                        continue
                    left = 0
                    if f"{n}.refractory" in rows:
                        period = numbers[f"{n}.period"][j]
                        left = min(max(get("r") + period * spiked - 1, 0), period)
                        held[n, "r", j] = left
                        rows[f"{n}.refractory"].append(left)
                    held[n, "z", j] = int(voltage > numbers[f"{n}.threshold"][j] and left == 0)
                    rows[n].append(held[n, "z", j])
                for r, row in rows.items():
                    made[r].append(row)
                if n in rows:
                    sent[n][t] = rows[n]
    return made


@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("kind", HIDDEN)
def test_a_loop_over_single_numbers_finds_the_same_bits(kind, rounding, tmp_path):
    form = chip.Format(fraction=4, rounding=rounding)
    ran = chip.golden(network(kind), events(), tmp_path, form)
    made = by_hand(tmp_path)
    assert set(made) == set(ran.recorded)
    for name, rows in made.items():
        expected = np.swapaxes(ran[name], 0, 1).reshape(len(rows), -1)
        np.testing.assert_array_equal(np.array(rows), expected, err_msg=name)
    spikes = ran["h"]
    assert 10 < spikes.sum() < 0.8 * spikes.size
    assert ran["h.voltage"].min() < 0 < ran["h.voltage"].max()
    if kind == "refractory":
        assert ran["h.refractory"].max() == 4
        gaps = [np.diff(np.flatnonzero(spikes[:, b, 2])) for b in range(2)]
        assert min(g.min() for g in gaps if g.size) == 5


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.x64
def test_integers_follow_the_float_network_within_their_rounding(kind):
    net, inputs = network(kind, jnp.float64), events(200, 4)
    names = [f"h.{v}" for v in ("current", "voltage", *(["synaptic"] if kind == "cuba" else []))]
    record = net.run(inputs, record=["h", "y.current", *names])
    ran = chip.emulate(net, inputs, chip.Format(state=32, fraction=12))
    np.testing.assert_array_equal(ran["x"], inputs)
    apart = np.any(ran["h"] != np.asarray(record["h"]), axis=-1)
    # A trial is compared as long as it spikes alike: nearly always to the end.
    alike = np.cumsum(apart, axis=0) == 0
    assert alike.mean() > 0.9 and np.asarray(record["h"]).sum() > 50
    np.testing.assert_array_equal(ran.real("h.current")[alike], np.asarray(record["h.current"])[alike])
    # Half a unit a step, and a geometric sum of them: 2^(k-1) units of each filter; a reset forgets them.
    unit = 2.0 ** (ran.program.populations[0].exponent - 12)
    if kind == "cuba":
        error = np.abs(ran.real("h.synaptic") - np.asarray(record["h.synaptic"]))[alike].max(axis=0)
        assert np.all(error <= unit * 2.0 ** (np.array([1, 2, 3]) - 1)) and error.max() > 0
        bound = np.array([2.0, 4, 6])
        bound = unit * (2 ** (bound - 1) + 2**bound * 2.0 ** (np.array([1, 2, 3]) - 1))
    else:
        bound = unit * 2.0 ** (np.array([1, 3, 5] if kind == "lif" else [4, 4, 2]) - 1)
    error = np.abs(ran.real("h.voltage") - np.asarray(record["h.voltage"]))[alike].max(axis=0)
    assert np.all(error <= bound) and error.max() > 0
    assert ran.outputs.shape == record.outputs.shape
    np.testing.assert_array_equal(ran.outputs, ran.real("y.voltage"))


def test_the_chip_recipe_is_integers_and_they_agree_on_recordings(data):
    built = build.build(recipe.load("ecg-chip"))
    trial = built.task.sample(jax.random.key(0), 4, split="validation")
    ran = chip.emulate(built.net, trial.inputs)
    record = built.net.run(trial.inputs, record=("hidden", "hidden.current"))
    assert 0.01 < float(jnp.mean(record["hidden"])) < 0.9
    assert np.mean(ran["hidden"] != np.asarray(record["hidden"])) < 1e-3
    assert all(np.abs(c.weight).max() <= 127 for c in ran.program.projections)
    assert [u.subtract for u in ran.program.populations] == [False, False]
    assert sorted({c.delay for c in ran.program.projections if c.pre == "input"}) == [0, 4, 8, 16, 32, 60]


def test_weights_meet_in_the_finest_unit():
    projections = [
        ex.Dense("x", "h", weight=jnp.asarray([[0.5, -1.5]]), name="coarse"),
        ex.Dense("x", "h", weight=jnp.asarray([[0.0625, 0.0]]), bias=[3.0], name="fine"),
        ex.Quantised("x", "h", weight=jnp.asarray([[1.0, 0.75]]), bits=4, limit=2.0, name="grid"),
    ]
    net = ex.Network({"h": LIF(1, tau=tau(2), threshold=1.0)}, projections, inputs={"x": 2}, outputs="h")
    made = chip.program(net)
    found = {c.name: (c.left, c.weight.tolist()) for c in made.projections}
    assert found == {"coarse": (3, [[1, -3]]), "fine": (0, [[1, 0]]), "grid": (2, [[4, 3]])}
    (units,) = made.populations
    assert units.exponent == -4 and units.bias.tolist() == [48] and units.threshold.tolist() == [16 * 64]
    both = chip.emulate(net, jnp.ones((1, 1, 2)))
    assert both["h.current"][0, 0, 0] == 16 * (0.5 - 1.5 + 0.0625 + 3 + 1 + 0.75)
    assert both.real("h.current")[0, 0, 0] == 3.8125


def test_golden_files_are_what_they_say(tmp_path):
    net, folder = network("refractory"), tmp_path / "a" / "golden"
    ran = chip.golden(net, {"x": events(steps=6)}, folder)
    manifest, arrays = chip.read(folder)
    assert manifest["bits"] == {"weight": 8, "current": 16, "state": 24, "fraction": 6}
    assert manifest["order"] == ["h", "y"] and manifest["outputs"] == {"y": "y"}
    for name in ran.recorded:
        np.testing.assert_array_equal(np.swapaxes(arrays[name], 0, 1), ran[name])
    np.testing.assert_array_equal(arrays["x->h.weight"], ran.program.projections[0].weight)
    np.testing.assert_array_equal(arrays["h.period"], [0, 2, 5])
    # Two's complement, as many digits as the width needs, one line for each step of each trial.
    lines = (folder / "h.voltage.hex").read_text().splitlines()
    assert len(lines) == 2 * 6 and all(len(word) == 6 for line in lines for word in line.split())
    assert int(lines[7].split()[1], 16) == int(ran["h.voltage"][1, 1, 1]) % 2**24
    entry = manifest["files"]["x->h.weight"]
    assert entry["file"] == "x_to_h.weight.hex" and entry["axes"] == ["post", "pre"] and entry["shape"] == [3, 2]
    assert not [f for f in folder.iterdir() if f.name.startswith(".")]


def test_a_chip_that_computes_otherwise_is_told_where(tmp_path):
    folder, found = tmp_path / "golden", tmp_path / "found"
    ran = chip.golden(network("lif"), events(steps=8), folder)
    found.mkdir()
    with pytest.raises(DataError, match="none of the vectors"):
        chip.differences(folder, found)
    text = (folder / "h.voltage.hex").read_text().split()
    (found / "h.voltage.hex").write_text("// written by a simulator\n" + "\n".join(text))
    (found / "y.voltage.hex").write_bytes((folder / "y.voltage.hex").read_bytes())
    assert chip.differences(folder, found) == []
    # Trial 1, step 2, unit 0, and before it in time trial 0, step 1, unit 2.
    for place in ((8 + 2) * 3, (8 + 6) * 3, 1 * 3 + 2):
        text[place] = "fffffe"
    (found / "h.voltage.hex").write_text("\n".join(text))
    (first,) = chip.differences(folder, found)
    assert first == ("h.voltage", 0, 1, 2, int(ran["h.voltage"][1, 0, 2]), -2)
    (found / "h.voltage.hex").write_text("\n".join(text[:-1]))
    with pytest.raises(DataError, match=r"holds 47 words; there must be \[2, 8, 3\]"):
        chip.differences(folder, found)
    (found / "h.voltage.hex").write_text("xx " + " ".join(text[1:]))
    with pytest.raises(DataError, match="no text of hexadecimal words"):
        chip.differences(folder, found)


def test_damaged_golden_files_are_refused(tmp_path):
    chip.golden(network("lif"), events(steps=4), tmp_path)
    file = tmp_path / "h.voltage.hex"
    good = file.read_bytes()
    file.write_bytes(good.replace(b"0", b"1", 1))
    with pytest.raises(DataError, match="is damaged"):
        chip.read(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        chip.read(tmp_path)
    with pytest.raises(DataError, match="no golden vectors"):
        chip.read(tmp_path / "nowhere")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match="not of a format"):
        chip.read(tmp_path)
    with pytest.raises(ArgumentError, match="path must be a folder"):
        chip.golden(network("lif"), events(steps=4), manifest)


def test_overflow_is_an_error_that_names_the_register():
    net = network("cuba")
    with pytest.raises(RegisterOverflow, match=r"h\.voltage of unit \d is -?\d+ at step \d of trial \d.* wider state"):
        chip.emulate(net, events(rate=0.9), chip.Format(state=17))
    weight = jnp.full((1, 40), 127.0)
    wide = ex.Network(
        {"h": LIF(1, tau=tau(1), threshold=1.0)}, [ex.Dense("x", "h", weight=weight)], inputs={"x": 40}, outputs="h"
    )
    with pytest.raises(RegisterOverflow, match=r"h\.current of unit 0 is 5080 at step 0 .* 2047.* wider current"):
        chip.emulate(wide, jnp.ones((1, 1, 40)), chip.Format(current=12))
    assert chip.emulate(wide, jnp.ones((1, 1, 40)), chip.Format(current=14))["h.current"][0, 0, 0] == 5080


def simple(neuron, *projections):
    return ex.Network({"h": neuron}, list(projections), inputs={"x": 2}, outputs="h", key=jax.random.key(0))


IN = lambda **options: ex.StraightThrough("x", "h", **options)
ONES = np.ones((3, 2), np.float32)
GOOD = lambda: LIF(3, tau=tau(3), threshold=0.5)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: simple(ALIF(3, tau=tau(3)), IN()), "'h': a chip has units of .* not of ALIF"),
        (lambda: simple(LSTM(3), IN()), "'h': .* not of LSTM"),
        (lambda: simple(LIF(3, tau=20.0, threshold=0.5), IN()), r"'h': tau = 20 ms .* nearest that does is 15\.4946"),
        (lambda: simple(CuBaLIF(3, tau=tau(3), tau_synapse=5.0, threshold=0.5), IN()), "'h': tau_synapse = 5 ms"),
        (
            lambda: simple(LIF(3, tau=tau(3), threshold=0.1), IN()),
            r"'h': its threshold 0\.1 is no multiple .* choose",
        ),
        (lambda: simple(LIF(3, tau=tau(3), threshold=2.0**20), IN()), "'h': its threshold needs"),
        (lambda: simple(GOOD(), ex.Dense("x", "h")), "'x->h': its weight needs .* bits .* StraightThrough"),
        (lambda: simple(GOOD(), IN(bits=12)), "'x->h': its weight needs 12 bits .* there are 8"),
        (
            lambda: simple(GOOD(), ex.Dense("x", "h", weight=ONES, bias=[0.1, 0, 0])),
            "'x->h': its bias needs",
        ),
        (lambda: simple(GOOD(), IN(reverse=True)), "'x->h': .* reversed time"),
        (
            lambda: ex.Network(
                {"a": LI(2, tau=tau(1)), "h": GOOD()},
                [IN(), ex.StraightThrough("a", "h")],
                inputs={"x": 2},
                outputs="h",
                key=jax.random.key(0),
            ),
            "'a->h': 'a' does not spike",
        ),
    ],
)
def test_what_is_no_chips_is_refused_by_name(net, message):
    with pytest.raises(ChipError, match=message):
        chip.program(net())


def test_inputs_must_be_events():
    net = network("lif")
    with pytest.raises(ChipError, match=r"input 'x': only events .* 0\.5"):
        chip.emulate(net, 0.5 * jnp.ones((3, 1, 2)))
    raster = events(steps=9)
    listed = chip.emulate(net, ex.Events.of(raster))
    np.testing.assert_array_equal(listed["h.voltage"], chip.emulate(net, raster)["h.voltage"])
    with pytest.raises(ArgumentError, match=r"unknown register 'h\.volage'.* Did you mean 'h\.voltage'"):
        listed["h.volage"]


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1}, "weight must be an integer from 2 to 32"),
        ({"fraction": -1}, "fraction"),
        ({"state": 40}, "state"),
        ({"rounding": "up"}, "rounding"),
        ({"current": 32, "fraction": 20}, "48 bits"),
    ],
)
def test_impossible_formats_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        chip.Format(**options)
