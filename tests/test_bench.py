"""`engrax bench`: what is timed computes what the workload's equations say, and failures are not figures."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from engrax import kernels
from engrax.bench import race
from engrax.bench.candidate import Variant
from engrax.bench.candidates import CANDIDATES
from engrax.bench.race import BenchError, Worker, check, entrants
from engrax.bench.reference import run
from engrax.bench.worker import compared
from engrax.bench.workload import WORKLOADS
from engrax.cli import app

INSTALLED = entrants()[0]


def test_the_reference_does_what_the_equations_say():
    workload = WORKLOADS["W1"].small()
    arrays = workload.arrays(dtype=np.float64)
    quiet = arrays._replace(input=0 * arrays.input, recurrent=0 * arrays.recurrent)
    loss, spikes = run(workload, quiet)
    assert not spikes.any()
    assert loss == pytest.approx(np.log(workload.outputs), rel=1e-12)
    # One unit, driven by one spike of weight 1 at the start: v = alpha^t until the threshold, here never crossed again.
    one = np.zeros_like(arrays.inputs)
    one[0, :, 0] = 1
    weights = np.zeros_like(arrays.input)
    weights[0, 0] = 1.0
    _, spikes = run(workload, quiet._replace(inputs=one, input=weights))
    # v(0) = 1 > 0.6: a spike; v(1) = alpha - 0.6 = 0.35 < 0.6 + 0.1: silence.
    assert spikes[:, 0, 0].nonzero()[0].tolist() == [0]


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_are_the_same_in_both_precisions_and_alive(name):
    workload = WORKLOADS[name].small()
    single, double = workload.arrays(3), workload.arrays(3, np.float64)
    for a, b in zip(single, double, strict=True):
        np.testing.assert_array_equal(a, b)
    rate = run(workload, double)[1].mean()
    assert 0.01 < rate < 0.5


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_full_workloads_have_the_sizes_that_are_published(name):
    workload = WORKLOADS[name]
    expected = {"W1": (128, 250, 700, 256, 20), "W2": (64, 2250, 40, 100, 2), "W3": (32, 500, 700, 1024, 20)}
    found = (workload.batch, workload.steps, workload.inputs, workload.hidden, workload.outputs)
    assert found == expected[name]


@pytest.mark.x64
@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("entrant", INSTALLED, ids=lambda e: "-".join((e[0], *e[1])))
def test_candidates_compute_the_same(entrant, workload):
    name, variant = entrant
    small = WORKLOADS[workload].small()
    arrays = small.arrays(dtype=np.float64)
    trainer = CANDIDATES[name]().build(small, arrays, variant)
    seen = trainer.look()
    found = compared(seen, small, arrays, variant.rule)
    assert found["spikes"] == 0
    assert max(found.values()) <= race.TOLERANCE
    # The step starts from there, and learns.
    first = trainer.step()
    assert first == pytest.approx(seen.loss, rel=1e-9)
    for _ in range(30):
        last = trainer.step()
    # One random direction again and again moves weights, but promises nothing where the surrogate is no derivative.
    assert last != first if variant.rule == "forwardgradient" else last < first


class Liar:
    """A worker whose candidate computes something else."""

    def __init__(self, *_, **__):
        pass

    def ask(self, what):
        return {"loss": 0.0, "spikes": 1e-6}

    def close(self):
        pass


def test_what_computes_something_else_is_not_timed(monkeypatch):
    monkeypatch.setattr(race, "Worker", Liar)
    with pytest.raises(BenchError, match=r"engrax \(bptt - -\) computes something else on W1.*spikes"):
        check("W1", "engrax", Variant())
    rows, failures = race.race("W1", [("engrax", Variant())], lambda _: None)
    assert rows == [] and len(failures) == 1


def test_a_wrong_loss_at_full_size_is_not_timed(monkeypatch):
    answers = {
        "look": {"loss": 0.0, "spikes": 0.0},
        "step": {"seconds": 0.1, "loss": 0.7},
        "memory": {"peak_mb": 1.0},
        "peak": {"peak_mb": 1.0},
    }
    monkeypatch.setattr(Liar, "ask", lambda self, what: answers[what])
    monkeypatch.setattr(race, "Worker", Liar)
    monkeypatch.setattr(race, "run", lambda *_: (0.7002, None))
    rows, failures = race.race("W2", [("engrax", Variant())], lambda _: None)
    assert not failures and rows[0]["seconds"] == 0.1 and rows[0]["peak_mb"] == 1.0
    monkeypatch.setattr(race, "run", lambda *_: (0.71, None))
    rows, failures = race.race("W2", [("engrax", Variant())], lambda _: None)
    assert rows == [] and "starts W2 at a loss of 0.7, not 0.71" in failures[0]


def test_a_slow_candidate_is_asked_once(monkeypatch):
    answers = {
        "look": {"loss": 0.0, "spikes": 0.0},
        "step": {"seconds": 99.0, "loss": 0.7},
        "memory": {"peak_mb": 1.0},
        "peak": {"peak_mb": 1.0},
    }
    monkeypatch.setattr(Liar, "ask", lambda self, what: answers[what])
    monkeypatch.setattr(race, "Worker", Liar)
    monkeypatch.setattr(race, "run", lambda *_: (0.7, None))
    ((row,), _) = race.race("W2", [("engrax", Variant())], lambda _: None)
    assert row["seconds"] == 99.0 and row["repeats"] == 0 and row["compile_seconds"] is None


def test_not_a_number_is_something_else(monkeypatch):
    monkeypatch.setattr(Liar, "ask", lambda self, what: {"loss": float("nan"), "spikes": 0.0})
    monkeypatch.setattr(race, "Worker", Liar)
    with pytest.raises(BenchError, match="loss"):
        check("W1", "engrax", Variant())


@pytest.mark.slow
def test_a_candidate_that_fails_says_why():
    with pytest.raises(BenchError, match="KeyError: 'torc'"):
        Worker("torc", Variant(), "W1", 1)


@pytest.mark.nightly
@pytest.mark.slow
def test_bench_prints_rows(tmp_path):
    arguments = ["bench", "w2", "--candidates", "engrax", "--rules", "bptt", "--repeats", "1", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "bench.json")])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout.splitlines()[-1])
    assert {row["path"] for row in rows} == ({"events", "listed", "dense"} if kernels.load() else {"dense"})
    for row in rows:
        assert (row["workload"], row["candidate"], row["rule"], row["evaluation"]) == ("W2", "engrax", "bptt", "-")
        assert row["seconds"] > 0 and row["compile_seconds"] >= 0 and row["peak_mb"] > 0 and row["step_mb"] > 0
    stored = json.loads((tmp_path / "bench.json").read_text())
    assert stored["rows"] == rows and {"engrax", "jax", "python"} <= set(stored["versions"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["W4"], "unknown workload 'W4'"),
        (["--candidates", "pytorhc"], "Did you mean 'pytorch'"),
        (["--rules", "bppt"], "Did you mean 'bptt'"),
        (["--evaluations", "onlin"], "Did you mean 'online'"),
        (["--repeats", "0"], "--repeats"),
    ],
)
def test_wrong_words_are_answered(arguments, words):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 2
    assert words in result.stderr
