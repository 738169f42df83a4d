"""The energy meter, against counts made by hand and against the formulas of the literature."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import engrax as ex
from engrax.cli import app
from engrax.meter import PRICES, bill, observe


def watch(net: ex.Network, trial: ex.Trial) -> ex.meter.Bill:
    spiking = [name for name, p in net.populations.items() if p.spiking]
    return bill(net, observe(net, trial, net.run(trial.inputs, record=spiking)))


def test_a_three_unit_network_by_hand() -> None:
    """Two inputs, two spiking units, one readout; weights so large that who spikes when is plain.

    Step     0    1    2    3 (padding of trial 1)
    Input a  1    0    1    1       trial 0;   trial 1: 1 0 0 (1)
    Unit 0 gets 2 from a: it spikes when a does. Unit 1 gets 2 from unit 0, one step later.
    """
    hidden = ex.neurons.LIF(2, tau=1.0, threshold=1.0)
    net = ex.Network(
        {"hidden": hidden, "readout": ex.neurons.LI(1)},
        [
            ex.Dense("input", "hidden", weight=jnp.array([[2.0, 0.0], [0.0, 0.0]])),
            ex.Masked("hidden", "hidden", mask=[[0, 0], [1, 0]], weight=jnp.array([[0.0, 0.0], [2.0, 0.0]])),
            ex.Dense("hidden", "readout", weight=jnp.ones((1, 2))),
        ],
        inputs={"input": 2},
        outputs="readout",
    )
    inputs = np.zeros((4, 2, 2), np.float32)
    inputs[[0, 2, 3], 0, 0] = 1
    inputs[[0, 3], 1, 0] = 1
    trial = ex.Trial(jnp.asarray(inputs), jnp.zeros((4, 2, 1)), lengths=jnp.array([4, 3]))
    spikes = np.asarray(net.run(trial.inputs, record="hidden")["hidden"])
    assert spikes[:, 0].tolist() == [[1, 0], [0, 1], [1, 0], [1, 1]]
    assert spikes[:3, 1].tolist() == [[1, 0], [0, 1], [0, 0]]
    found = watch(net, trial)
    # 4 + 3 steps; input events 3 + 1, spikes of unit 0: 3 + 1, of unit 1: 2 + 1.
    onto, readout = found.items["hidden"], found.items["readout"]
    assert onto.spikes == pytest.approx((4 + 3) / 2) and readout.spikes is None
    assert onto.ac == pytest.approx((4 * 2 + 4 * 1) / 2)  # every input line has two links, unit 0 one, unit 1 none
    assert onto.mac == 0 and onto.update == pytest.approx(7 * 2 / 2)
    assert readout.ac == pytest.approx((4 + 3) / 2) and readout.update == pytest.approx(7 / 2)
    assert found.steps == pytest.approx(3.5)
    total = found.total
    assert total.ac == pytest.approx(9.5) and total.update == pytest.approx(10.5)
    assert found.joules("float32") == pytest.approx(9.5 * 0.9e-12 + 10.5 * 4.6e-12)
    assert found.joules("int32") == pytest.approx(9.5 * 0.1e-12 + 10.5 * 3.2e-12)
    # LSTM of 2 units on 2 inputs: 4 (2 2 + 2 2) = 32, and 17 2; its readout 2, and 1.
    assert found.lstm.mac == pytest.approx(3.5 * 34) and found.lstm.update == pytest.approx(3.5 * 35)
    assert found.ratio("int32") == pytest.approx(found.lstm.joules(PRICES["int32"]) / found.joules("int32"))
    # Layer by layer: what comes in, what a step costs, and how often a unit's state moves.
    assert {n: (p.ac, p.spikes) for n, p in found.projections.items()} == {
        "input->hidden": (4.0, 2.0),
        "hidden->hidden": (2.0, 3.5),
        "hidden->readout": (3.5, 3.5),
    }
    assert onto.membrane_updates == 7 and readout.membrane_updates == 3.5 and total.membrane_updates == 10.5
    assert found.step.steps == 1 and found.step.joules("int8") == pytest.approx(found.joules("int8") / 3.5)
    assert found.step.items["hidden"].update == pytest.approx(2) and found.step.ratio() == pytest.approx(found.ratio())
    assert found.joules("int8") == pytest.approx(9.5 * 0.03e-12 + 10.5 * 0.23e-12)
    # A weight is read for each synaptic operation, of either kind, and none for an update.
    assert found.joules("float32+sram") == pytest.approx(found.joules("float32") + 9.5 * 5e-12)
    lstm = found.lstm.joules(PRICES["float32+sram"]) - found.lstm.joules(PRICES["float32"])
    assert lstm == pytest.approx(3.5 * 34 * 5e-12)
    # RNN: 2 2 + 2 2, and 2; GRU: three times that, and 14 2; the readout as before.
    rnn, gru = found.references["rnn"], found.references["gru"]
    assert (rnn.mac, rnn.update) == (3.5 * 10, 3.5 * 3) and (gru.mac, gru.update) == (3.5 * 26, 3.5 * 29)


def test_there_are_four_sets_of_prices() -> None:
    assert list(PRICES) == ["float32", "int32", "int8", "float32+sram"]
    assert [price.read for price in PRICES.values()] == [0, 0, 0, 5e-12]
    for price in PRICES.values():
        whole = 2 * (price.ac + price.read) + 3 * (price.mac + price.read)
        assert price.joules(ac=2, mac=3, update=5) == pytest.approx(whole + 5 * price.mac)
        assert ex.meter.Work(2, 3).joules(price) == pytest.approx(whole) and price.source.startswith("45 nm")


def test_graded_inputs_cost_a_multiplication_a_connection_zero_or_not(key: jax.Array) -> None:
    net = ex.Network(
        {"hidden": ex.neurons.ALIF(5), "readout": ex.neurons.LI(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden", autapses=False), ex.Dense("hidden", "readout")],
        inputs={"input": 3},
        outputs="readout",
        key=key,
    )
    events = jax.random.bernoulli(key, 0.4, (20, 4, 3)).astype(jnp.float32)
    graded = events.at[0, 0, 0].set(0.5)
    signed = jnp.where(events > 0, -1.0, 0.0)
    first, second, third = (watch(net, ex.Trial(x, jnp.zeros((20, 4, 2)))) for x in (events, graded, signed))
    assert first.items["hidden"].mac == third.items["hidden"].mac == 0
    assert second.items["hidden"].mac == 20 * 3 * 5
    spikes = (first.items["hidden"].spikes, second.items["hidden"].spikes)
    assert first.items["hidden"].ac == pytest.approx(float(events.sum()) * 5 / 4 + spikes[0] * 4)
    assert second.items["hidden"].ac == pytest.approx(spikes[1] * 4)  # no autapses: four links a unit
    assert first.items["hidden"].update == 20 * 5 * 3


def test_ports_and_graded_units_count_every_link(key: jax.Array) -> None:
    net = ex.Network(
        {"cell": ex.neurons.LSTM(4), "readout": ex.neurons.LI(2)},
        [ex.Dense("input", "cell"), ex.Dense("cell", "cell"), ex.Dense("cell", "readout")],
        inputs={"input": 3},
        outputs="readout",
        key=key,
    )
    found = watch(net, ex.Trial(jax.random.normal(key, (10, 2, 3)), jnp.zeros((10, 2, 2))))
    assert found.items["cell"].mac == 10 * 4 * (3 * 4 + 4 * 4) and found.items["cell"].update == 10 * 4 * 17
    assert found.total.spikes is None


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_network_is_as_expensive_as_the_one_it_is_compared_with(key: jax.Array, kind: str) -> None:
    model = {"rnn": ex.neurons.Rate, "gru": ex.neurons.GRU, "lstm": ex.neurons.LSTM}[kind]
    onto = [ex.Dense("input", "cell"), ex.Dense("cell", "cell")]
    if kind == "gru":
        onto = [ex.Dense("input", f"cell.{port}") for port in ("reset", "update", "candidate")]
        onto += [ex.Dense("cell", f"cell.{port}") for port in ("reset", "update", "recurrent")]
    net = ex.Network(
        {"cell": model(4), "readout": ex.neurons.LI(2)},
        [*onto, ex.Dense("cell", "readout")],
        inputs={"input": 3},
        outputs="readout",
        key=key,
    )
    found = watch(net, ex.Trial(jax.random.normal(key, (10, 2, 3)), jnp.zeros((10, 2, 2))))
    for prices in PRICES:
        assert found.ratio(prices, kind) == pytest.approx(1)


def test_the_published_network_on_ecg_costs_what_the_literature_says() -> None:
    """36 LIF units at 0.344 spikes a step, inputs at 0.077: 0.23 nJ a step at integer prices, 0.73 at float ones."""
    net = ex.Network(
        {"hidden": ex.neurons.LIF(36), "readout": ex.neurons.ALIF(6)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": 4},
        outputs="readout.voltage",
        key=jax.random.key(0),
    )
    steps = 1000.0
    activity = ex.meter.Activity(
        trials=np.array(1.0),
        steps=np.array(steps),
        spikes={"hidden": np.full(36, 0.344 * steps), "readout": np.zeros(6)},
        events={"input": np.full(4, 0.077 * steps)},
        graded={"input": np.array(0)},
    )
    found = bill(net, activity)
    assert found.joules("int32") / steps == pytest.approx(0.23e-9, rel=0.1)
    assert found.joules("float32") / steps == pytest.approx(0.73e-9, rel=0.1)
    assert found.ratio("int32") == pytest.approx(86, rel=0.1) and found.ratio("float32") == pytest.approx(38, rel=0.1)
    assert found.ratio("int32", "rnn") == pytest.approx(24, rel=0.05)
    assert found.ratio("float32", "rnn") == pytest.approx(11, rel=0.05)


def test_evaluate_and_energy_read_a_run_back(tmp_path) -> None:
    runner, out = CliRunner(), str(tmp_path / "run")
    small = ["network.populations.hidden.size=12", "training.steps=4", "training.batch=8", "training.seeds=2"]
    options = [word for change in small for word in ("--set", change)]
    trained = runner.invoke(app, ["train", "digits", *options, "--out", out, "--json", "--no-report"])
    assert trained.exit_code == 0, trained.output
    figures = json.loads(trained.stdout)
    again = json.loads(runner.invoke(app, ["evaluate", out, "--json"]).stdout)
    for name in ("test_accuracy", "test_accuracy_per_seed", "energy_joules", "firing_rate_hz", "lstm_energy_joules"):
        assert again[name] == pytest.approx(figures[name], rel=1e-6), name
    energy = json.loads(runner.invoke(app, ["energy", out, "--json"]).stdout)
    assert energy["energy_joules"] == figures["energy_joules"]
    assert set(energy["populations"]) == {"hidden", "readout"} and energy["steps"] == 32
    assert list(energy["prices"]) == list(PRICES)
    assert energy["prices"]["int32"]["energy_joules"] == energy["energy_joules_int32"]
    assert energy["prices"]["int32"]["lstm"]["energy_joules"] == energy["lstm_energy_joules_int32"]
    assert energy["prices"]["int8"]["step_joules"] == pytest.approx(energy["prices"]["int8"]["energy_joules"] / 32)
    for name, population in energy["populations"].items():
        onto = [p for n, p in energy["projections"].items() if n.endswith(name) or (name == "hidden" and "ago" in n)]
        for kind in ("ac", "mac"):
            assert sum(p[kind] for p in onto) == pytest.approx(population[kind])
    assert energy["neurobench"]["dense"] > energy["neurobench"]["macs"] > 0 and energy["neurobench"]["steps"] == 32
    figure = (tmp_path / "run" / "energy.svg").read_text()
    assert energy["figure"] == str(tmp_path / "run" / "energy.svg") and figure.startswith("<svg")
    for words in ("energy per inference (nJ), float32", "synapses", "updates", "hidden", "float32+sram", "LSTM"):
        assert words in figure, words
    one = runner.invoke(app, ["energy", out, "--prices", "int8"])
    assert one.exit_code == 0 and "int8" in one.stdout and "float32+sram" not in one.stdout.partition("learning")[0]
    assert "int8" in (tmp_path / "run" / "energy.svg").read_text().partition("set of prices")[0]
    wrong = runner.invoke(app, ["energy", out, "--prices", "int9"])
    assert wrong.exit_code == 2 and "--prices" in wrong.stderr and "Did you mean 'int8'" in wrong.stderr
    for command in ("evaluate", "energy"):
        shown = runner.invoke(app, [command, out])
        assert shown.exit_code == 0 and "float32" in shown.stdout and "equally wide LSTM" in shown.stdout
        missing = runner.invoke(app, [command, str(tmp_path)])
        assert missing.exit_code == 1 and "recipe.json is missing" in missing.stderr
    validation = json.loads(runner.invoke(app, ["evaluate", out, "--split", "validation", "--json"]).stdout)
    assert validation["validation_accuracy"] == pytest.approx(figures["validation_accuracy"])
    (tmp_path / "run" / "networks.safetensors").write_bytes(b"x")
    assert runner.invoke(app, ["evaluate", out]).exit_code == 1
