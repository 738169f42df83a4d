"""The comparisons of Yin et al. 2021: networks of equal size, cases that are paired, verdicts that follow figures."""

import equinox as eqx
import jax
import numpy as np
import pytest

from engrax.meter import PRICES
from engrax.network import trainable_leaves
from engrax.neurons.surrogates import NAMED
from engrax.papers import yin2021_compared, yin2021_series
from engrax.papers.yin2021_ablations import (
    OURS,
    SURROGATES,
    Column,
    Yin2021Surrogate,
    Yin2021Tunable,
    column,
    surrogate,
    variants,
)
from engrax.papers.yin2021_compared import Yin2021BeatsRNN, Yin2021NearANN
from engrax.papers.yin2021_energy import Yin2021Energy
from engrax.papers.yin2021_networks import KINDS, parameters, recipe, units_for
from engrax.papers.yin2021_series import RATES, SERIES, Series, cell, paired, ridge, size
from engrax.training import TrainingError
from engrax.training.build import build

TRAINING = {"steps": 2, "batch": 4, "validate_every": 1}
SMALL = Series({"name": "ucr", "hold": 1}, 4, 12, 9, TRAINING, seeds=2)


@pytest.fixture
def small(data, monkeypatch):
    monkeypatch.setitem(SERIES, "vowels", SMALL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_has_the_parameters_that_are_said(kind, data):
    units = units_for(kind, 900, 12, 9)
    assert abs(parameters(kind, units, 12, 9) - 900) <= abs(parameters(kind, units + 1, 12, 9) - 900)
    net = build(recipe(kind, SMALL.task, units, TRAINING, 0.01)).net
    trained = jax.tree.leaves(eqx.filter(net, trainable_leaves(net)))
    assert sum(x.size for x in trained) == parameters(kind, units, 12, 9)


def test_budgets_are_met_to_three_percent():
    for name, series in SERIES.items():
        counts = [size(series, kind)[1] for kind in KINDS]
        assert max(counts) / min(counts) < 1.06, name


@pytest.mark.nightly
def test_ablations_change_what_they_name(data):
    built = {name: build(recipe("srnn", SMALL.task, 4, TRAINING, 0.01, **c)) for name, c in variants().items()}
    assert len(built) == 8 and OURS in built
    for name, one in built.items():
        assert type(one.net.populations["hidden"]).__name__ == name.split(",")[0]
        assert ("hidden->hidden" in one.net.projections) == name.endswith(" recurrent")
    net, rule, optimizer = (getattr(built["ALIF, fixed, recurrent"], part) for part in ("net", "rule", "optimizer"))
    trial = built[OURS].task.sample(jax.random.key(0), 4)
    params = eqx.filter(net, trainable_leaves(net))
    # Optax's schedules multiply by the number of the step.
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(
            rule.value_and_grad(net, trial, jax.random.key(1))[1], optimizer.init(params), params
        )
    hidden = updates.populations["hidden"]
    assert not np.any(hidden.tau.raw) and not np.any(hidden.tau_adaptation.raw)
    assert np.any(updates.projections["hidden->hidden"].weight)
    for name in SURROGATES:
        made = build(recipe("srnn", SMALL.task, 4, TRAINING, 0.01, **surrogate(name))).net.populations["hidden"]
        assert type(made.surrogate) is NAMED[name]


@pytest.mark.nightly
def test_cells_choose_a_rate_and_pair_their_cases(small, tmp_path, monkeypatch):
    monkeypatch.setattr(yin2021_series, "RATES", (0.001, 0.01))
    said = []
    ours, theirs = (cell("vowels", kind, tmp_path, said.append) for kind in ("srnn", "rnn"))
    assert len(said) == 2 * (2 + 2) and len(ours["test_accuracy"]) == 2
    assert (
        ours["firing_rate_hz"] > 0
        and theirs["firing_rate_hz"] is None
        and ours["learning_rate"] in yin2021_series.RATES
    )
    assert cell("vowels", "srnn", tmp_path, said.append) == ours
    assert ours["operations"]["network"]["ac"] > 0 == theirs["operations"]["network"]["ac"]
    assert ours["operations"]["lstm"]["mac"] > ours["operations"]["network"]["mac"] > 0
    small = cell("vowels", "rnn", tmp_path, said.append, [0], share=0.5)
    assert small["units"] == round(theirs["units"] / 2) and small["parameters"] < theirs["parameters"]
    np.testing.assert_allclose(
        paired("vowels", ours["test_accuracy"], theirs["test_accuracy"]),
        np.subtract(ours["test_accuracy"], theirs["test_accuracy"]),
    )


def test_seeds_of_one_fold_are_one_difference():
    column = np.arange(18.0)
    np.testing.assert_allclose(paired("fsdd", (2 * column).tolist(), column.tolist()), column.reshape(6, 3).mean(1))


@pytest.mark.parametrize("pooled", [2, 20])  # fewer columns than rows, and more
def test_ridge_is_the_solution_of_its_equation(pooled, small, monkeypatch):
    monkeypatch.setattr(yin2021_series, "POOLED", pooled)
    monkeypatch.setattr(yin2021_series, "PENALTIES", (100.0,))
    task = build(recipe("rnn", SMALL.task, 4, TRAINING, 0.01)).task
    (x, y), (others, wanted) = (yin2021_series._features(task, split) for split in ("train", "test"))
    assert x.shape == (216, pooled * 12)
    middle, scale = x.mean(0), x.std(0) + 1e-6
    x, others = (np.c_[(z - middle) / scale, np.ones(len(z))] for z in (x, others))
    weights = np.linalg.solve(x.T @ x + 100 * np.eye(x.shape[1]), x.T @ (np.eye(9)[y] - 1 / 9))
    found = ridge("vowels")
    assert found["test_accuracy"] == [found["mean"]] * 2
    assert found["mean"] == pytest.approx(np.mean(np.argmax(others @ weights, 1) == wanted))


def _table(**ahead):
    """Cells in which the spiking network is ahead of another by so much on every task, give or take 0.001."""

    def made(task, kind, folder, say, cases=None):
        series = SERIES[task]
        n = len(series.folds) * series.seeds
        noise = 0.001 * (-1.0) ** np.arange(n) * (kind == "srnn")
        less = ahead[kind][list(SERIES).index(task)] if kind in ahead else 0.0
        return {"test_accuracy": (0.8 - less + noise).tolist(), "mean": 0.8 - less, "seconds": 1.0}

    return made


@pytest.mark.parametrize(
    ("experiment", "ahead", "verdict"),
    [
        (Yin2021BeatsRNN, {"rnn": [0.1] * 5, "lstm": [0.1, 0.1, 0.1, -0.1, -0.1]}, "holds"),
        (Yin2021BeatsRNN, {"rnn": [0.1] * 4 + [-0.1], "lstm": [0.1] * 5}, "partly"),
        (Yin2021BeatsRNN, {"rnn": [-0.1] * 5, "lstm": [-0.1] * 5}, "fails"),
        (Yin2021NearANN, {"tcn": [0.1] * 5, "gru": [0.0] * 5, "ssm": [-0.01] * 4 + [-0.1]}, "holds"),
        (Yin2021NearANN, {"tcn": [0.1] * 5, "gru": [0.0] * 5, "ssm": [-0.01] * 3 + [-0.1] * 2}, "partly"),
        (Yin2021NearANN, {"tcn": [-0.1] * 5, "gru": [0.0] * 5, "ssm": [0.0] * 5}, "fails"),
    ],
)
def test_verdicts_of_the_table(experiment, ahead, verdict, monkeypatch, tmp_path):
    monkeypatch.setattr(yin2021_compared, "cell", _table(**ahead))
    found = experiment().run(False, tmp_path / "x", print)
    assert found.verdict == verdict and found.seconds == 5 * (1 + len(ahead))


@pytest.mark.parametrize(
    ("gains", "verdict"), [((0.02, 0.02), "holds"), ((0.02, 0.0), "unresolved"), ((0.02, -0.02), "fails")]
)
def test_verdicts_of_the_ablations(gains, verdict, monkeypatch, tmp_path):
    noise = 0.001 * np.asarray([1.0, -1.0, 0.5, -0.5, 0.0])

    def made(task, changes, folder, say, seeds=5, rates=()):
        mine = changes == surrogate("multi_gaussian") or changes == variants()[OURS]
        gain = gains[("ecg", "fsdd").index(task)] if mine else 0.0
        return Column((0.8 + gain + (noise if mine else -noise)).tolist(), 0.01, 1.0)

    monkeypatch.setattr("engrax.papers.yin2021_ablations.column", made)
    assert Yin2021Surrogate().run(False, tmp_path / "x", print).verdict == verdict
    tunable = Yin2021Tunable().run(False, tmp_path / "x", print).verdict
    assert tunable == {"holds": "holds"}.get(verdict, "partly")


def test_a_learning_rate_is_the_best_by_which_nothing_overflows(monkeypatch, tmp_path):
    overflows = {0.01: (100,), 0.003: (3,), 0.001: ()}

    def made(recipe, seeds, folder, say):
        rate = recipe.optimizer.learning_rate
        if set(seeds) & set(overflows[rate]):
            raise TrainingError("not finite")
        return [{"test_accuracy": rate + seed, "validation_accuracy": 0.5 + rate, "seconds": 1.0} for seed in seeds]

    monkeypatch.setattr("engrax.papers.yin2021_ablations.run_seeds", made)
    said: list[str] = []
    found = column("fsdd", {}, tmp_path, said.append, rates=RATES)
    assert found.rate == 0.001 and found.accuracy == [seed + 0.001 for seed in range(5)]
    assert said == ["learning rate 0.01: not finite", "learning rate 0.003: not finite"]
    with pytest.raises(TrainingError, match=r"each of the learning rates 0\.003"):
        column("fsdd", {}, tmp_path, said.append, rates=(0.003,))


@pytest.mark.parametrize(
    ("accuracies", "macs", "wanted"),
    [
        ({0.125: 0.5, 0.25: 0.8, 0.5: 0.85, 1.0: 0.9}, 1000.0, ("holds", 0.25)),
        ({0.125: 0.5, 0.25: 0.6, 0.5: 0.7, 1.0: 0.79}, 1000.0, ("holds", None)),
        ({0.125: 0.9, 0.25: 0.9, 0.5: 0.9, 1.0: 0.9}, 400.0, ("partly", 0.125)),
        ({0.125: 0.9, 0.25: 0.9, 0.5: 0.9, 1.0: 0.9}, 10.0, ("fails", 0.125)),
    ],
)
def test_energy_is_compared_at_equal_size_and_at_equal_accuracy(accuracies, macs, wanted, monkeypatch, tmp_path):
    """100 accumulates beside so many MACs at full width, and a share of them in smaller networks."""

    def made(task, kind, folder, say, cases=None, share=1.0):
        spiking = kind == "srnn"
        network = {"ac": 100.0 * spiking, "mac": 0.0 if spiking else macs * share, "update": 0.0}
        spent = {"network": network, "lstm": {"ac": 0.0, "mac": macs, "update": 0.0}}
        mean = 0.8 if spiking else accuracies[share]
        return {"mean": mean, "units": int(80 * share), "operations": spent, "seconds": 1.0}

    monkeypatch.setattr("engrax.papers.yin2021_energy.cell", made)
    found = Yin2021Energy().run(False, tmp_path / "x", print)
    verdict, share = wanted
    assert found.verdict == verdict and set(found.measured) == set(SERIES)
    row = found.measured["fsdd"]
    for name, price in PRICES.items():
        ratio = macs * (price.mac + price.read) / (100 * (price.ac + price.read))
        assert row["at equal size"][name] == pytest.approx(ratio, abs=0.006)
        if share is None:
            assert row["at equal accuracy"] is None and "no LSTM network was as accurate" in found.why
        else:
            assert row["at equal accuracy"][name] == pytest.approx(share * ratio, abs=0.006)
