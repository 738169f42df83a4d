"""NeuroBench's metrics, against what its own package says of the same networks (references/neurobench.json)."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.meter import NeuroBench, neurobench, watched, workload

REFERENCE = json.loads((pathlib.Path(__file__).parent / "references" / "neurobench.json").read_text())
SPIKING, GRADED, GATED = (REFERENCE[name] for name in ("spiking", "graded", "gated"))
WORD = 4


def arrays(found: dict[str, Any]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(w, jnp.float32) for name, w in found["weights"].items()}


def shown(found: dict[str, Any]) -> ex.Trial:
    inputs = jnp.swapaxes(jnp.asarray(found["inputs"], jnp.float32), 0, 1)
    return ex.Trial(inputs, jnp.zeros(inputs.shape[1], int))


def measured(net: ex.Network, trial: ex.Trial) -> NeuroBench:
    return neurobench(net, workload(net, trial, net.run(trial.inputs, record=watched(net))))


def check_outputs(net: ex.Network, found: dict[str, Any]) -> None:
    """The two programs compute one network, or nothing below says anything."""
    theirs = np.swapaxes(np.asarray(found["outputs"]), 0, 1)
    assert np.abs(theirs).sum() > 1
    np.testing.assert_allclose(np.asarray(net.run(shown(found).inputs).outputs), theirs, atol=1e-5)


def operations(found: dict[str, Any]) -> tuple[float, float, float]:
    kinds = found["metrics"]["synaptic_operations"]
    return kinds["Dense"], kinds["Effective_MACs"], kinds["Effective_ACs"]


def spiking() -> ex.Network:
    w, tau = arrays(SPIKING), -1 / np.log(REFERENCE["beta"])
    return ex.Network(
        {"hidden": ex.neurons.LIF(4, tau=tau[0]), "readout": ex.neurons.LIF(3, tau=tau[1])},
        [
            ex.Dense("input", "hidden", weight=w["input.weight"], bias=w["input.bias"]),
            ex.Dense("hidden", "hidden", weight=w["hidden.recurrent.weight"], bias=w["hidden.recurrent.bias"]),
            ex.Dense("hidden", "readout", weight=w["forth.weight"], bias=w["forth.bias"]),
        ],
        inputs={"input": 5},
        outputs="readout",
    )


def test_a_spiking_network() -> None:
    net, theirs = spiking(), SPIKING["metrics"]
    check_outputs(net, SPIKING)
    found = measured(net, shown(SPIKING))
    # Spikes of the last step never arrive where they come back with a delay: the figures would tell.
    assert net.run(shown(SPIKING).inputs, record="hidden")["hidden"][-1].any()
    assert (found.dense, found.macs, found.acs) == pytest.approx(operations(SPIKING)) and found.acs > 50
    assert found.membrane_updates == theirs["membrane_updates"] and 0 < found.membrane_updates < 12 * 7
    assert found.activation_sparsity == pytest.approx(theirs["activation_sparsity"])
    assert round(found.connection_sparsity, 4) == theirs["connection_sparsity"] > 0
    # snnTorch keeps five numbers a layer in 20 bytes, of which a LIF population here needs two.
    assert found.footprint - 2 * 2 * WORD == theirs["footprint"] - 2 * 20
    # Once it has run, the package counts the states of the whole batch as well.
    assert len(SPIKING["inputs"]) * found.held["states"] == theirs["footprint_after"] - theirs["footprint"] > 0


def test_padding_does_not_count_and_trials_add_up() -> None:
    net, trial = spiking(), shown(SPIKING)
    whole = measured(net, trial)
    more = jnp.concatenate([trial.inputs, jnp.ones_like(trial.inputs)])
    padded = ex.Trial(more, trial.targets, lengths=jnp.full(trial.batch, trial.steps))
    assert measured(net, padded) == whole
    halves = [measured(net, ex.Trial(trial.inputs[:, i : i + 1], trial.targets[i : i + 1])) for i in range(trial.batch)]
    assert sum(h.acs for h in halves) / 2 == pytest.approx(whole.acs) and halves[0].acs != halves[1].acs


def test_events_are_what_dense_zeros_and_ones_are() -> None:
    net, trial = spiking(), shown(SPIKING)
    assert measured(net, ex.Trial(ex.Events.of(trial.inputs), trial.targets)) == measured(net, trial)


def test_images_and_graded_values() -> None:
    w = arrays(GRADED)
    rate = {"tau": 1.0, "activation": "relu"}
    net = ex.Network(
        {"maps": ex.neurons.Rate(32, **rate), "hidden": ex.neurons.Rate(4, **rate), "readout": ex.neurons.Relay(2)},
        [
            ex.Convolution(
                "input",
                "maps",
                shape=(1, 4, 4),
                channels=2,
                kernel=3,
                padding="same",
                weight=w["convolution.weight"],
                bias=w["convolution.bias"],
            ),
            ex.Dense("maps", "hidden", weight=w["forth.weight"], bias=w["forth.bias"]),
            ex.Dense("hidden", "readout", weight=w["readout.weight"], bias=w["readout.bias"]),
        ],
        inputs={"input": 16},
        outputs="readout",
    )
    check_outputs(net, GRADED)
    found, theirs = measured(net, shown(GRADED)), GRADED["metrics"]
    assert (found.dense, found.macs, found.acs) == pytest.approx(operations(GRADED)) and found.macs > 100
    assert found.activation_sparsity == pytest.approx(theirs["activation_sparsity"]) and found.membrane_updates == 0
    assert round(found.connection_sparsity, 4) == theirs["connection_sparsity"] > 0
    assert found.held["weights"] + found.held["biases"] == theirs["footprint"]


def test_products_in_a_gated_unit_are_its_own_update_here() -> None:
    """The package adds an LSTM cell's f c, i g and o tanh(c); f c of the first step is with zero."""
    w = arrays(GATED)
    forms = [w[f"cell.weight_{side}"].reshape(4, 4, -1) for side in ("ih", "hh")]
    biases = [w[f"cell.bias_{side}"].reshape(4, 4) for side in ("ih", "hh")]
    net = ex.Network(
        {"cell": ex.neurons.LSTM(4, forget_bias=0.0)},
        [
            ex.Dense("input", "cell", weight=forms[0], bias=biases[0]),
            ex.Dense("cell", "cell", weight=forms[1], bias=biases[1]),
        ],
        inputs={"input": 3},
        outputs="cell",
    )
    check_outputs(net, GATED)
    found = measured(net, shown(GATED))
    steps, units = 6, 4
    assert found.macs + 3 * units * steps - units == operations(GATED)[1] > 100
    assert found.held["weights"] + found.held["biases"] == GATED["metrics"]["footprint"]
    assert found.activation_sparsity == 0


def test_delays_reversals_pooling_and_few_bits() -> None:
    """By hand: one event at step 0 and one at step 3, of four steps, the last of which is padding in trial 1."""
    relay = ex.neurons.Relay(4)
    net = ex.Network(
        {"late": relay, "turned": ex.neurons.Relay(4), "few": ex.neurons.Relay(1), "pool": ex.neurons.Relay(1)},
        [
            ex.Dense("input", "late", weight=jnp.ones((4, 4)).at[0].set(0), delay=1),
            ex.Dense("input", "turned", weight=jnp.ones((4, 4)), reverse=True),
            ex.Quantised("late", "few", weight=jnp.array([[1.0, 0.0, 1.0, 1.0]]), bits=4, limit=8.0),
            ex.AveragePool("input", "pool", shape=(1, 2, 2), window=2),
        ],
        inputs={"input": 4},
        outputs="few",
    )
    inputs = jnp.zeros((4, 2, 4)).at[0, :, 0].set(1).at[3, :, 1].set(1)
    trial = ex.Trial(inputs, jnp.zeros((4, 2, 1)), lengths=jnp.array([4, 3]))
    work = workload(net, trial, net.run(trial.inputs, record=watched(net)))
    # The first event arrives late in both trials, the second after their end.
    assert work.arrived["input->late"].tolist() == [2, 0, 0, 0]
    # Backwards, the last of four steps comes first, and the first comes in the fourth.
    assert work.arrived["input->turned"].tolist() == [1, 2, 0, 0]
    # Three of the units that it reaches send it on, and two of them through a weight.
    assert work.arrived["late->few"].tolist() == [0, 2, 2, 2] and set(work.arrived) == {
        "input->late",
        "input->turned",
        "late->few",
    }
    found = neurobench(net, work)
    assert found.acs == (2 * 3 + 3 * 4 + 2 * 2) / 2 and found.macs == 0
    assert found.dense == 7 * (16 + 16 + 4) / 2 and found.steps == 3.5
    assert found.connection_sparsity == (4 + 1) / 36
    # Levels of four bits, and the step between them.
    assert found.held["weights"] == 32 * WORD + 4 * 4 / 8 + WORD
    # Nothing but the delayed input has to be kept: four numbers.
    assert found.held["states"] == 4 * WORD and found.footprint == found.held["weights"]
