"""What learning costs: counts against a network counted by hand, and against closed forms of recorded activity."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

import engrax as ex
from engrax.cli import app
from engrax.errors import LossError, RuleError
from engrax.meter import PRICES

UNITS, INPUTS, OUTPUTS, STEPS, BATCH = 7, 4, 2, 30, 3


def by_hand() -> tuple[ex.Network, ex.Trial]:
    """Input a drives unit 0, unit 0 drives unit 1 a step later; who is within reach of the threshold is plain.

    Step             0    1    2    3   (4 and 5 are padding)
    Input a          1    0    0    1
    Spikes           0    1    -    0
    psi above zero   0    1    -    0   (unit; a silent unit's voltage is <= 0, where the triangle ends)
    """
    net = ex.Network(
        {"hidden": ex.neurons.LIF(2, tau=1.0, threshold=1.0), "readout": ex.neurons.LI(1, tau=5.0)},
        [
            ex.Dense("input", "hidden", weight=jnp.array([[1.5, 0.0], [0.0, 0.0]])),
            ex.Masked("hidden", "hidden", mask=[[0, 0], [1, 0]], weight=jnp.array([[0.0, 0.0], [1.5, 0.0]])),
            ex.Dense("hidden", "readout", weight=jnp.ones((1, 2))),
        ],
        inputs={"input": 2},
        outputs="readout",
    )
    inputs = np.zeros((6, 2, 2), np.float32)
    inputs[[0, 3, 5], :, 0] = 1
    trial = ex.Trial(jnp.asarray(inputs), jnp.full((6, 2, 1), 5.0), lengths=jnp.array([4, 4]))
    spikes = np.asarray(net.run(trial.inputs, record="hidden")["hidden"])
    assert spikes[:4, 0].tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]
    return net, trial


def test_a_three_unit_network_by_hand() -> None:
    net, trial = by_hand()
    found = ex.meter.learning(net, trial, ex.rules.EProp())
    # Vectors, one a presynaptic unit: 3 projections x 2 leaks x 4 steps, and an accumulate an event: a's two, the
    # spikes of units 0 and 1 that a delay of one step lets arrive, three spikes at the readout.
    # Traces, where psi is not zero: 3 times two synapses onto unit 0 or 1, once the one synapse between them; events
    # that meet an open gate: a's two, and unit 0's first spike.
    assert found.items["eligibility"] == (2 + 2 + 3 + 2 + 1, 24 + 6 + 1)
    # Open: decay and entry, two a synapse. Closed: one a unit, for 8 - 3 unit-steps and unit 1's 4 - 1.
    assert found.items["filtering"] == (0, 2 * 6 + 5 + 2 * 1 + 3)
    # An error at each of the four steps, to two units; 4 + 1 + 2 synapses.
    assert found.items["signals"] == (0, 4 * 2) and found.items["gradients"] == (0, 4 * 7)
    assert found.items["writes"] == (0, 7)
    assert found.gated == pytest.approx((10 + 3) / (16 + 4))
    # Two vectors of each projection, filtered traces of the five synapses onto units: 11 numbers; 7 sums.
    assert found.held == {"traces": 44, "scales": 0, "sums": 28} and found.bits == 32
    assert found.bytes == 72 and found.steps == 4
    assert found.tape == pytest.approx(4 * (3 * 4 + 2 / 8))
    total = found.total
    assert total == (10, 31 + 22 + 8 + 28 + 7)
    for name, price in PRICES.items():
        assert found.joules(name) == pytest.approx(10 * price.ac + 96 * price.mac + 106 * price.read)
    eight = ex.meter.learning(net, trial, ex.rules.EProp(evaluation="online", trace_bits=8))
    # A scale for each vector, and for each unit's filtered traces where it has any.
    assert eight.held == {"traces": 11, "scales": 4 * (3 + 2 + 1), "sums": 28} and eight.items == found.items
    text = eight.table()
    assert "65.0% of trace updates gated" in text and "8-bit traces" in text
    assert "holds 63 bytes" in text and "BPTT holds 49 bytes of activations at 4 steps" in text


def lsnn(key: jax.Array) -> ex.Network:
    return ex.Network(
        {
            "hidden": ex.neurons.ALIF(UNITS, tau=6.0, threshold=0.4, tau_adaptation=50.0, beta=0.3),
            "readout": ex.neurons.LI(OUTPUTS, tau=10.0),
        },
        [
            ex.Dense("input", "hidden"),
            ex.Dense("hidden", "hidden", autapses=False),
            ex.Dense("hidden", "readout", bias=True),
        ],
        inputs={"input": INPUTS},
        outputs="readout",
        key=key,
    )


def events(key: jax.Array, steps: int = STEPS) -> jax.Array:
    return jax.random.bernoulli(key, 0.4, (steps, BATCH, INPUTS)).astype(jnp.float32)


def slopes(net: ex.Network, inputs: jax.Array) -> np.ndarray:
    """Whether psi is above zero, (time, batch, unit)."""
    record = net.run(inputs, record=("hidden.voltage", "hidden.adaptation"))
    above = record["hidden.voltage"] - 0.4 - 0.3 * record["hidden.adaptation"]
    return np.asarray(jnp.abs(above) < 0.4)


def test_adaptive_units_are_gated_by_their_slope(key: jax.Array) -> None:
    net, inputs = lsnn(key), events(key)
    found = ex.meter.learning(net, ex.Trial(inputs, jnp.ones((STEPS, BATCH, OUTPUTS))), ex.rules.EProp())
    here = slopes(net, inputs)
    before = np.concatenate([np.zeros_like(here[:1]), here[:-1]])
    assert 0.1 < here.mean() < 0.9
    # The adaptation's vector sees the slope of the step before, the filtered trace this step's.
    synapses = INPUTS + UNITS - 1
    updated, possible = synapses * (here.sum() + before.sum()), synapses * 2 * here.size
    assert found.gated == pytest.approx(1 - updated / possible)
    assert found.items["writes"].mac == UNITS * synapses + OUTPUTS * (UNITS + 1)
    closed = 2 * (here.size - here.sum())
    assert found.items["filtering"].mac == pytest.approx((2 * synapses * here.sum() + closed) / BATCH)
    per_step = UNITS * synapses + OUTPUTS * (UNITS + 1)
    assert found.items["gradients"] == (0, STEPS * per_step)
    assert found.items["signals"] == (0, STEPS * UNITS * OUTPUTS)
    # Voltages: one vector a presynaptic unit, the bias's too. Adaptation and filter: one number a synapse.
    numbers = (INPUTS + 2 * UNITS + 1) + 2 * UNITS * synapses
    assert found.held == {"traces": 4 * numbers, "scales": 0, "sums": 4 * per_step}


@pytest.mark.nightly
def test_memory_does_not_grow_with_time_and_bptts_does(key: jax.Array) -> None:
    net, rule = lsnn(key), ex.rules.EProp(evaluation="online", trace_bits=16)
    short, long = (
        ex.meter.learning(net, ex.Trial(events(key, t), jnp.ones((t, BATCH, OUTPUTS))), rule) for t in (10, 40)
    )
    assert short.held == long.held and short.bytes > 0
    assert short.tape == 10 * (4 * (2 * UNITS + OUTPUTS) + INPUTS / 8) and long.tape == 4 * short.tape
    assert short.held["traces"] == 2 * (INPUTS + 2 * UNITS + 1 + 2 * UNITS * (INPUTS + UNITS - 1))


def test_steps_without_an_error_deal_out_nothing(key: jax.Array) -> None:
    net, inputs = lsnn(key), events(key)
    mask = jnp.zeros((STEPS, BATCH)).at[-5:].set(1.0)
    trial = ex.Trial(inputs, jnp.ones((STEPS, BATCH, OUTPUTS)), mask)
    found = ex.meter.learning(net, trial, ex.rules.EProp(feedback="random"))
    assert found.items["signals"] == (0, 5 * UNITS * OUTPUTS)
    assert found.items["gradients"] == (0, 5 * (UNITS * (INPUTS + UNITS - 1) + OUTPUTS * (UNITS + 1)))
    rates = ex.losses.FiringRate(1.0, 10.0)
    more = ex.meter.learning(net, trial, ex.rules.EProp(feedback="random", regularizers=rates))
    synapses = UNITS * (INPUTS + UNITS - 1)
    open_ = slopes(net, inputs).sum() / BATCH * (INPUTS + UNITS - 1)
    assert more.items["gradients"].ac == pytest.approx(open_)
    assert more.items["gradients"].mac == found.items["gradients"].mac + synapses
    assert more.held["sums"] == found.held["sums"] + 4 * synapses


def test_terminal_losses_sum_traces_and_meet_them_once(key: jax.Array) -> None:
    net, trial = lsnn(key), ex.Trial(events(key), jnp.array([0, 1, 1]))
    found = ex.meter.learning(net, trial, ex.rules.EProp())
    synapses = UNITS * (INPUTS + UNITS - 1) + OUTPUTS * (UNITS + 1)
    assert found.items["signals"] == (0, UNITS * OUTPUTS)
    assert found.items["gradients"] == (STEPS * synapses, synapses)
    assert found.held["sums"] == 4 * 2 * synapses


def test_graded_inputs_are_multiplied(key: jax.Array) -> None:
    net, inputs = lsnn(key), events(key)
    graded = inputs.at[0, 0, 0].set(0.5)
    target = jnp.ones((STEPS, BATCH, OUTPUTS))
    first, second = (ex.meter.learning(net, ex.Trial(x, target), ex.rules.EProp()) for x in (inputs, graded))
    assert first.items["eligibility"].ac > second.items["eligibility"].ac
    assert second.tape - first.tape == pytest.approx(STEPS * INPUTS * (4 - 1 / 8))
    # Every line at every step, in the vectors of the voltage.
    assert second.items["eligibility"].mac > first.items["eligibility"].mac + STEPS * INPUTS


def test_rules_and_losses_without_an_online_form_are_refused(key: jax.Array) -> None:
    net, trial = lsnn(key), ex.Trial(events(key), jnp.ones((STEPS, BATCH, OUTPUTS)))
    with pytest.raises(RuleError, match="BPTT does not say"):
        ex.meter.learning(net, trial, ex.rules.BPTT())
    whole = ex.losses.Sequence(lambda y, trial: jnp.sum(y, (0, 2)))
    with pytest.raises(LossError, match="whole sequence"):
        ex.meter.learning(net, trial, ex.rules.EProp(loss=whole))


@pytest.mark.nightly
def test_energy_shows_what_learning_adds(tmp_path) -> None:
    runner, out = CliRunner(), str(tmp_path / "run")
    small = ["network.populations.hidden.size=12", "training.steps=2", "training.batch=8", "rule.evaluation=online"]
    small += ["rule.trace_bits=8", "network.projections.0.kind=quantised"]
    options = [word for change in small for word in ("--set", change)]
    trained = runner.invoke(
        app, ["train", "digits", "--rule", "eprop", *options, "--out", out, "--json", "--no-report"]
    )
    assert trained.exit_code == 0, trained.output
    energy = json.loads(runner.invoke(app, ["energy", out, "--json"]).stdout)
    found = energy["learning"]
    assert found["energy_joules"] > found["energy_joules_int32"] > 0 and found["trace_bits"] == 8
    assert found["bytes"]["traces"] > 0 and found["bptt_bytes"] > 0 and 0 <= found["gated"] < 1
    shown = runner.invoke(app, ["energy", out])
    assert shown.exit_code == 0 and "trace updates gated" in shown.stdout and "BPTT holds" in shown.stdout
