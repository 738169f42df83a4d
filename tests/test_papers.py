"""The registry of claims: what stands in it, what is answered, and that experiments measure what they say."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import engrax as ex
from engrax.cli import app
from engrax.papers import EXPERIMENTS, claim, claims, committed
from engrax.papers import bellec2020_evidence as table
from engrax.papers.bellec2020 import Bellec2020Pattern
from engrax.papers.bellec2020_atari import Bellec2020Atari
from engrax.papers.bellec2020_evidence import (
    Bellec2020Broadcast,
    Bellec2020Evidence,
    Bellec2020OnChip,
    Bellec2020SlowVariables,
    Bellec2020SparseSigned,
)
from engrax.papers.bellec2020_memory import Bellec2020StoreRecall
from engrax.papers.bellec2020_reward import Bellec2020Reward
from engrax.papers.experiment import VERDICTS, Experiment, Found, interval
from engrax.papers.yin2021 import Yin2021ECG
from engrax.papers.yin2021_mnist import Yin2021PSMNIST, Yin2021SMNIST

RUNNER = CliRunner()
KEYS = {
    *("paper", "experiment", "claim", "source", "measured", "spread"),
    *("verdict", "command", "seconds", "date", "version"),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_experiment_tests_a_claim_and_every_result_is_one() -> None:
    assert {"bellec2020", "yin2021", "murray2019"} <= set(claims())
    for (paper, name), kind in EXPERIMENTS.items():
        assert kind().claim == claim(paper, name) and kind.source and kind.__doc__
    for paper in claims():
        for result in committed(paper):
            assert set(result) >= KEYS and result["verdict"] in VERDICTS
            if result["verdict"] != "untested":
                assert (paper, result["experiment"]) in EXPERIMENTS and result["command"].startswith("engrax reproduce")


def test_papers_are_shown_and_given_as_json() -> None:
    shown = RUNNER.invoke(app, ["papers", "bellec2020"])
    assert shown.exit_code == 0 and "evidence" in shown.stdout and "settings" in shown.stdout
    results = json.loads(RUNNER.invoke(app, ["papers", "--json"]).stdout)
    assert len(results) == sum(len(entries) for entries in claims().values())
    wrong = RUNNER.invoke(app, ["papers", "bellec2002"])
    assert wrong.exit_code == 2 and "bellec2020" in wrong.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("bellec2002", "bellec2020"),
        ("bellec2020/onlin", "Did you mean 'online'"),
        ("baldi1991/descent", "no experiment for this yet"),
        ("zuege2023", "no experiment for this yet"),
    ],
)
def test_what_is_not_there_is_named(target: str, message: str) -> None:
    result = RUNNER.invoke(app, ["reproduce", target])
    assert result.exit_code == 2 and message in result.stderr and not result.stdout


def test_reproduce_leaves_a_result() -> None:
    done = RUNNER.invoke(app, ["reproduce", "bellec2020/reference", "--out", "here", "--json"])
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)
    assert result["verdict"] == "holds" and result["measured"]["evidence"]["nest"] < 1e-9
    assert json.loads(Path("here/bellec2020/reference.json").read_text()) == result


def fake(monkeypatch: pytest.MonkeyPatch, figures: list[dict]) -> list[tuple]:
    """Trainings that are not made, but give these figures in turn."""
    calls: list[tuple] = []

    def run_once(recipe: str, changes: list[str], seed: int, *rest: object, **options: object) -> dict:
        calls.append((recipe, tuple(changes), seed))
        return {"seconds": 1.0, **figures[(len(calls) - 1) % len(figures)]}

    for module in (
        "bellec2020",
        "bellec2020_atari",
        "bellec2020_evidence",
        "bellec2020_memory",
        "bellec2020_reward",
        "yin2021",
        "yin2021_mnist",
    ):
        monkeypatch.setattr(f"engrax.papers.{module}.run_once", run_once)
    return calls


def run(experiment: Experiment, quick: bool = False) -> Found:
    return experiment.run(quick, Path("folder"), lambda text: None)


def test_digits_in_sequence_are_untested_short_of_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"recipe": {"training": {"batch": 300}}, "curve": [[1800, 0.5]]}
    calls = fake(monkeypatch, [{"test_accuracy": figure, **made} for figure in (0.98, 0.983, 0.95)])
    assert run(Yin2021SMNIST()).verdict == "untested" and run(Yin2021SMNIST()).verdict == "holds"
    found = run(Yin2021PSMNIST())
    assert found.verdict == "holds" and found.measured["validation accuracy"] == {"1800 updates": 0.5}
    assert [recipe for recipe, *_ in calls] == ["yin2021/smnist", "yin2021/smnist", "yin2021/psmnist"]
    monkeypatch.setattr(Yin2021SMNIST, "updates", 36000)
    assert run(Yin2021SMNIST()).verdict == "fails"  # the first figure again, at the full budget


def test_verdicts_follow_their_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [{"test_accuracy": x} for x in (0.84, 0.845, 0.85, 0.855, 0.86)]
    calls = fake(monkeypatch, figures)
    found = run(Yin2021ECG())
    assert found.verdict == "holds" and found.measured == pytest.approx(0.85) and found.seeds == 5 and len(calls) == 5
    assert {seed for _, _, seed in calls} == set(range(5))
    fake(monkeypatch, [{"test_accuracy": x - 0.05} for x in (0.84, 0.845, 0.85, 0.855, 0.86)])
    assert run(Yin2021ECG()).verdict == "fails"
    assert run(Yin2021ECG(), quick=True).verdict == "untested"

    fake(monkeypatch, [{"test_accuracy": x} for x in (0.94, 0.95, 0.96, 0.95, 0.94)])
    assert run(Bellec2020Evidence()).verdict == "holds"
    fake(monkeypatch, [{"test_accuracy": x} for x in [0.94, 0.95, 0.96, 0.95, 0.94, *[0.91, 0.92, 0.92, 0.91, 0.9]]])
    assert run(Bellec2020Evidence()).verdict == "partly"
    fake(monkeypatch, [{"test_accuracy": x} for x in (0.94, 0.5, 0.96, 0.95, 0.94)])
    assert run(Bellec2020Evidence()).verdict == "unresolved"

    kept, lost = [0.96, 0.97, 0.98, 0.94, 0.97], [0.5, 0.6, 0.7, 0.9, 0.7]
    fake(monkeypatch, [{"test_accuracy": x, "cut_accuracy": 0.5} for x in [*kept, *lost]])
    found = run(Bellec2020StoreRecall())
    assert (
        found.verdict == "holds"
        and found.measured == {"alif, cut": 0.5, "alif": 0.03, "lif, cut": 0.5, "lif": 0.3}
        and found.interval["lif"] == [0.1, 0.5]
    )
    fake(monkeypatch, [{"test_accuracy": x, "cut_accuracy": 0.5} for x in kept])
    assert run(Bellec2020StoreRecall()).verdict == "partly"
    assert run(Bellec2020StoreRecall(), quick=True).verdict == "untested"

    good = [{"test_return": 1.0 if i < 20 else 480.0, "test_accuracy": 0.95} for i in range(60)]
    calls = fake(monkeypatch, good)
    found = run(Bellec2020Reward())
    assert found.verdict == "holds" and len(calls) == 60 and found.measured["cartpole"]["rewardstdp"] == 480
    assert sum("network.projections.hidden->hidden.trainable=false" in changes for _, changes, _ in calls) == 15
    fake(monkeypatch, [{"test_return": 1.0, "test_accuracy": 0.85 if i % 20 < 5 else 0.99} for i in range(60)])
    assert run(Bellec2020Reward()).verdict == "partly"  # evidence below both bars
    fake(monkeypatch, [{"test_return": 1.0, "test_accuracy": 0.92}])
    assert run(Bellec2020Reward()).verdict == "holds"  # at cart-pole no less than the BPTT agent
    assert run(Bellec2020Reward(), quick=True).verdict == "untested"

    losses = [{"untrained_loss": 1.0, "final_validation_loss": x} for x in (0.01, 0.02, 0.03, 0.02, 0.01)]
    fake(monkeypatch, losses)
    assert run(Bellec2020Pattern()).verdict == "holds"
    fake(monkeypatch, [{**x, "untrained_loss": 0.1} for x in losses])
    assert run(Bellec2020Pattern()).verdict == "unresolved"
    fake(monkeypatch, [{"untrained_loss": 1.0, "final_validation_loss": 0.2 + x / 1000} for x in range(5)])
    assert run(Bellec2020Pattern()).verdict == "fails"


def columns(monkeypatch: pytest.MonkeyPatch, **errors: list[float]) -> None:
    """Columns of the table of evidence accumulation with these errors (spaces are underscores)."""

    def column(variant: str, steps: int, *rest: object) -> table.Column:
        made = errors[variant.replace(" ", "_")]
        intact = {"signs_kept a": True, "density a": 0.1} if variant.startswith("sparse") else {}
        return table.Column(made, [{"seconds": 1.0, **intact} for _ in made])

    monkeypatch.setattr(table, "column", column)


def test_words_of_a_recipe_may_be_corrected_while_a_run_goes_on(tmp_path: Path) -> None:
    from engrax.errors import ArgumentError
    from engrax.training.recipe import load
    from engrax.training.stored import write_recipe

    recipe = load("digits")
    write_recipe(tmp_path, recipe)
    write_recipe(tmp_path, recipe.model_copy(update={"expect": "better", "description": "other"}), resume=True)
    with pytest.raises(ArgumentError, match=r"^training\.steps: the run in"):
        write_recipe(tmp_path, load("digits", ["training.steps=3"]), resume=True)


def test_pong_is_untested_until_it_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [{"game_score": score, "curve": [[3, -1.25], [30, -0.5]]} for score in (-15.0, 2.0)]
    calls = fake(monkeypatch, figures)
    lost, won = run(Bellec2020Atari()), run(Bellec2020Atari())
    assert (lost.verdict, won.verdict) == ("untested", "holds") and "7.2e+05 frames" in won.why
    assert lost.measured["return of 200 actions"] == {"7.2e+04 frames": -1.25, "7.2e+05 frames": -0.5}
    assert calls[0][:2] == ("pong", ("training.steps=30", "training.validate_every=6"))


@pytest.mark.nightly
def test_verdicts_of_evidence_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = [0.03, 0.04, 0.05, 0.04, 0.03], [0.13, 0.15, 0.14, 0.15, 0.12]
    chance = [0.5, 0.47, 0.48, 0.49, 0.5]
    columns(monkeypatch, random=good, lif=chance, no_slow_trace=bad, uniform=bad, shuffled=good)
    slow, broadcast = run(Bellec2020SlowVariables()), run(Bellec2020Broadcast())
    assert slow.verdict == broadcast.verdict == "holds" and slow.seconds == 15
    # Paired differences 10, 11, 9, 11, 9 points: mean 10, standard error sqrt(0.2) points, times 2.776.
    assert "8.8 to 11.2 points" in slow.why and "8.8 to 11.2 points" in broadcast.why
    columns(monkeypatch, random=good, lif=chance, no_slow_trace=good, uniform=[0.03, 0.05, 0.03, 0.06, 0.02])
    assert run(Bellec2020SlowVariables()).verdict == "partly"
    columns(monkeypatch, random=bad, lif=bad, no_slow_trace=good, uniform=good, shuffled=good)
    assert run(Bellec2020SlowVariables()).verdict == run(Bellec2020Broadcast()).verdict == "fails"
    columns(monkeypatch, random=good, uniform=[0.03, 0.05, 0.03, 0.06, 0.02], shuffled=good)
    assert run(Bellec2020Broadcast()).verdict == "unresolved"
    assert run(Bellec2020Broadcast(), quick=True).verdict == "untested"
    columns(monkeypatch, sparse_signed_rewired=good)
    assert run(Bellec2020SparseSigned()).verdict == "holds"
    columns(monkeypatch, **{"8-bit_weights,_16-bit_traces": good, "8-bit_weights": good})
    chip = run(Bellec2020OnChip())
    assert chip.verdict == "holds" and "170 kB at twice its length, BPTT 1.83 MB" in chip.why
    assert run(Bellec2020OnChip(), quick=True).verdict == "untested"
    columns(monkeypatch, **{"8-bit_weights,_16-bit_traces": bad})
    assert run(Bellec2020OnChip()).verdict == "fails"
    columns(monkeypatch, sparse_signed_rewired=bad)
    assert run(Bellec2020SparseSigned()).verdict == "fails"


def test_signs_and_places_of_a_trained_network_are_looked_at(key: jax.Array) -> None:
    projections = [ex.Rewired("input", "hidden", density=0.2), ex.Signed("hidden", "readout", excitatory=0.5)]
    populations = {"hidden": ex.neurons.LIF(6), "readout": ex.neurons.LI(2)}
    net = ex.Network(populations, projections, inputs={"input": 5}, outputs="readout", key=key)
    found = table._intact(net)
    assert found["density input->hidden"] == pytest.approx(0.2)
    assert found["signs_kept input->hidden"] and found["signs_kept hidden->readout"]
    turned = {n: p.replace(weight=-p.weight) for n, p in net.projections.items()}
    wrong = table._intact(net.replace(projections=type(net.projections)(turned)))
    assert not wrong["signs_kept input->hidden"] and not wrong["signs_kept hidden->readout"]


DAILY = ("bptt", "sparse signed rewired", "8-bit weights, 16-bit traces")
COLUMNS = [v if v in DAILY else pytest.param(v, marks=pytest.mark.nightly) for v in table.VARIANTS]


@pytest.mark.parametrize("variant", COLUMNS)
def test_every_column_of_the_table_is_a_recipe(variant: str) -> None:
    from engrax.training.build import build
    from engrax.training.recipe import load

    built = build(load("evidence", table.VARIANTS[variant], variant if variant == "bptt" else None))
    assert (type(built.rule).__name__ == "BPTT") == (variant == "bptt")
    assert {p.trainable for p in built.net.projections.values()} == {True} | ({False} if "only" in variant else set())


def test_a_training_is_remembered(tmp_path: Path) -> None:
    from engrax.papers.runs import run_once

    said: list[str] = []
    changes = ["training.steps=3", "network.populations.hidden.size=10"]
    first = run_once("pattern", changes, 1, tmp_path, said.append, untrained=True)
    assert first["untrained_loss"] > 0 and first["final_validation_loss"] > 0
    assert run_once("pattern", changes, 1, tmp_path, said.append, untrained=True) == first
    assert "already there" in said[-1]
    other = run_once("pattern", changes, 2, tmp_path, said.append, untrained=True)
    assert other["untrained_loss"] != first["untrained_loss"]


def test_seeds_trained_together_are_remembered_one_by_one(tmp_path: Path) -> None:
    from engrax.papers.runs import run_seeds
    from engrax.training.recipe import load

    said: list[str] = []
    recipe = load("digits", ["training.steps=4", "training.batch=8", "network.populations.hidden.size=10"])
    first, second = run_seeds(recipe, [0, 1], tmp_path / "a", said.append)
    assert first["seed"] == 0 and second["seed"] == 1 and first["curve"] != second["curve"] and len(said) == 2
    (again,) = run_seeds(recipe, [1], tmp_path / "a", said.append)
    assert again == second and len(said) == 2
    # In other company it is the same network.
    (alone,) = run_seeds(recipe, [1], tmp_path / "b", said.append)
    for name in ("test_accuracy", "validation_accuracy", "firing_rate_hz"):
        assert alone[name] == pytest.approx(second[name], rel=1e-4), name
    three = run_seeds(recipe, [0, 1, 2], tmp_path / "a", said.append)
    assert three[:2] == [first, second] and len(said) == 4


def test_the_interval_is_students() -> None:
    # Student's t for four degrees of freedom is 2.776.
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert high - low == pytest.approx(2 * 2.776 * np.sqrt(2.5 / 5), rel=1e-3) and (low + high) / 2 == pytest.approx(3)


def test_figures_and_intervals_of_any_depth_are_printed() -> None:
    from engrax.cli.papers import _text, _within

    assert _text({"catch": {"eprop": 1.0, "bptt": None}, "n": 3}) == "catch:\n  eprop 1\n  bptt -\nn 3"
    assert _within({"catch": {"eprop": [0.5, 1.0]}}) == "\ncatch:\n  eprop in 0.5 to 1"
    assert _within({"lif": [0.1, 0.5]}) == "\nlif in 0.1 to 0.5" and _within(None) == ""
    assert _within([1, 2]) == "\nin 1 to 2"
