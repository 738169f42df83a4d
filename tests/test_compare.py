"""`engrax compare`: every rule trains as it would alone, and its gradient is looked at along the way."""

import json

import pytest
from typer.testing import CliRunner

from engrax.cli import app

RUNNER = CliRunner()
CHANGES = (
    *("network.populations.hidden.size=12", "training.steps=4", "training.batch=8", "training.validate_every=2"),
    *("training.seeds=2", "task.hold=2"),
)
SMALL = [word for change in CHANGES for word in ("--set", change)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def engrax(*arguments):
    return RUNNER.invoke(app, list(arguments))


@pytest.mark.nightly
def test_rules_side_by_side(tmp_path):
    rules = ("--rules", "bptt,eprop:feedback=random", "--escape", "16")
    done = engrax("compare", "digits", *rules, *SMALL, "--out", "both", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    rules = found["rules"]
    assert list(rules) == ["bptt", "eprop:feedback=random"]
    for label, name in zip(rules, ("bptt", "eprop")):
        options = ["--rule", name, *SMALL, *(["--set", "rule.feedback=random"] if name == "eprop" else [])]
        alone = json.loads(engrax("train", "digits", *options, "--json", "--no-report").stdout)
        assert alone["test_accuracy_per_seed"] == rules[label]["test_accuracy_per_seed"]
        assert rules[label]["gradient_seconds"] > 0 and rules[label]["gradient_mb"] > 0
        assert [point["step"] for point in rules[label]["alignment"]] == [2, 4]
    for one in rules.values():
        assert set(one["expected"]) == set(one["alignment"][-1]["projections"])
        assert one["expected"]["all"]["low"] < one["expected"]["all"]["value"] < one["expected"]["all"]["high"]
    exact, local = (rules[label]["alignment"][-1] for label in rules)
    assert exact["reference"] == local["reference"] == "surrogate-gradient BPTT"
    assert exact["projections"]["all"]["cosine"] == pytest.approx(1)
    assert local["projections"]["hidden->readout"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert local["projections"]["hidden->hidden"]["cosine"] < 0.99
    assert (tmp_path / "both" / "compare.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "both" / "compare.json").read_text()) == rules
    # Each rule's run is a run like any other; and all go on where they are.
    assert engrax("evaluate", "both/bptt").exit_code == 0
    again = engrax("compare", "digits", "--rules", "bptt,eprop:feedback=random", *SMALL, "--out", "both", "--resume")
    assert again.exit_code == 0, again.output
    assert "cosine" in again.stdout and "surrogate-gradient BPTT" in again.stdout


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("bptt,eprpo", "Did you mean 'eprop'"),
        ("", "is no rule"),
        ("eprop:random", "is no rule"),
        ("bptt,bptt", "is there twice"),
        ("eprop:feedbak=random", "Did you mean 'feedback'"),
    ],
)
def test_wrong_rules_are_named(rules, message):
    result = engrax("compare", "digits", "--rules", rules, *SMALL)
    assert result.exit_code == 2 and message in result.stderr and not result.stdout
