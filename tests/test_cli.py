"""The command line: what it prints, where, and with which exit code."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import engrax as ex
from engrax import kernels, optim
from engrax.cli import app

RUNNER = CliRunner()
# Small enough for a second of work.
SMALL = [
    *("--set", "network.populations.hidden.size=12", "--set", "training.steps=4", "--set", "training.batch=8"),
    *("--set", "training.validate_every=2", "--set", "training.seeds=1", "--no-report"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs are written to runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)


def engrax(*arguments):
    return RUNNER.invoke(app, list(arguments))


def fails(code, *arguments):
    """Run it, and give the one message; nothing may be on standard output, and no traceback anywhere."""
    result = engrax(*arguments)
    assert result.exit_code == code, result.output
    assert not result.stdout
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    return result.stderr


COMMANDS = ["train", "list", "evaluate", "energy", "report", "compare", "papers", "reproduce", "bench", "doctor"]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_has_an_example(command):
    for flag in ("--help", "-h"):
        result = engrax(*command, flag)
        assert result.exit_code == 0
        assert "Example: engrax" in result.stdout and not result.stderr


def test_help_without_arguments_is_wrong_usage():
    result = engrax()
    assert result.exit_code == 2
    assert "Usage" in result.output


def test_version():
    result = engrax("--version")
    assert result.exit_code == 0 and result.stdout == f"engrax {ex.__version__}\n"


def test_list_has_a_line_for_everything():
    result = engrax("list")
    assert result.exit_code == 0
    for heading in ("recipes", "rules", "neurons", "tasks", "papers"):
        assert f"{heading}\n" in result.stdout
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert {"digits", "ecg", "evidence", "pattern", "npz", "eprop", "bptt", "LIF", "ALIF", "LSTM"} <= set(lines)
    assert all(len(line.split()) > 1 for line in lines.values())


@pytest.mark.parametrize("kind", ["recipes", "rules", "neurons", "tasks", "papers"])
def test_list_of_one_kind(kind):
    found = json.loads(engrax("list", kind, "--json").stdout)
    assert list(found) == [kind]
    expected = {"recipes": "digits", "rules": "bptt", "neurons": "LIF", "tasks": "ecg", "papers": "yin2021"}[kind]
    assert expected in found[kind] and all(found[kind].values())
    assert engrax("list", kind).stdout.startswith(f"{kind}\n  ")


def test_train_json_is_one_object_and_progress_goes_elsewhere():
    result = engrax("train", "digits", *SMALL, "--seeds", "2", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert len(result.stdout.splitlines()) == 1
    keys = "test_accuracy test_accuracy_per_seed validation_accuracy final_loss firing_rate_hz seconds run"
    assert set(keys.split()) <= set(figures)
    assert isinstance(figures["test_accuracy"], float) and len(figures["test_accuracy_per_seed"]) == 2
    assert figures["test_accuracy"] == pytest.approx(np.mean(figures["test_accuracy_per_seed"]))
    assert figures["run"] == "runs/digits" and figures["report"] is None and figures["steps"] == 4
    assert json.loads(engrax("train", "digits", *SMALL, "--json").stdout)["run"] == "runs/digits-2"
    assert "step 4/4" in result.stderr


def test_train_prints_a_table_with_the_baseline_beside(tmp_path):
    result = engrax("train", "digits", *SMALL, "--seeds", "2", "--rule", "bptt", "--out", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "digits by bptt" in result.stdout
    assert "±" in result.stdout and "(2 seeds)" in result.stdout
    assert "logistic regression" in result.stdout and "96.94 %" in result.stdout
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())
    recipe = stored["recipe"]
    assert {"engrax", "jax", "python"} <= set(stored["versions"])
    assert recipe["rule"]["name"] == "bptt" and "feedback" not in recipe["rule"]
    assert recipe["training"]["seeds"] == 2 and recipe["training"]["steps"] == 4
    assert {"network.safetensors", "networks.safetensors", "metrics.jsonl", "result.json"} <= {
        f.name for f in (tmp_path / "run").iterdir()
    }


def test_train_goes_on_with_a_run(tmp_path):
    out = str(tmp_path / "run")
    first = engrax("train", "digits", *SMALL, "--out", out, "--json")
    assert first.exit_code == 0, first.output
    second = engrax("train", "digits", *SMALL, "--out", out, "--json", "--resume")
    assert second.exit_code == 0, second.output
    assert "going on at step 4" in second.stderr
    old, new = (json.loads(r.stdout) for r in (first, second))
    assert {k: v for k, v in old.items() if k != "seconds"} == {k: v for k, v in new.items() if k != "seconds"}
    other = engrax("train", "digits", *SMALL, "--out", out, "--resume", "--set", "optimizer.learning_rate=0.5")
    assert other.exit_code == 2 and "optimizer.learning_rate: the run in" in other.stderr
    assert engrax("train", "digits", *SMALL, "--resume").exit_code == 2
    assert engrax("train", "digits", *SMALL, "--out", out).exit_code == 2


def test_train_on_a_users_own_values_reports_a_loss(tmp_path):
    random = np.random.RandomState(0)
    np.savez(tmp_path / "mine.npz", inputs=random.rand(20, 6, 3), targets=random.rand(20, 6, 2))
    size = ["--set", "network.populations.hidden.beta=0.1", *SMALL]
    result = engrax("train", "npz", "--set", f"task.path={tmp_path / 'mine.npz'}", *size, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["test_loss"] > 0 and "test_accuracy" not in figures and "validation_loss" in figures


def test_a_recipe_may_be_a_file(tmp_path):
    from engrax.training.recipe import FOLDER

    (tmp_path / "own.toml").write_text((FOLDER / "digits.toml").read_text())
    assert engrax("train", str(tmp_path / "own.toml"), *SMALL, "--json").exit_code == 0


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train"], "RECIPE"),
        (["train", "digit"], "Did you mean 'digits'"),
        (["train", "none.toml"], "none.toml"),
        (["train", "digits", "--rule", "btpt"], "--rule: unknown rule 'btpt'. Did you mean 'bptt'"),
        (["train", "digits", "--set", "training.step=3"], "training.step: unknown key. Did you mean 'steps'"),
        (["train", "digits", "--set", "training.steps=many"], "training.steps"),
        (["train", "digits", "--set", "training.steps"], "--set 'training.steps'"),
        (["train", "digits", "--set", "rule.feedback=rnadom"], "feedback"),
        (["train", "digits", "--set", "rule.loss=mse", *SMALL], "mse"),
        (["train", "digits", "--seeds", "0"], "--seeds"),
        (["train", "digits", "--seeds", "many"], "--seeds"),
        (["train", "digits", "--sedes", "3"], "--sedes"),
        (["train", "digits", "ecg"], "ecg"),
        (["train", "npz"], "task.path: is missing"),
        (["train", "npz", "--set", "task.path=/no/such/file.npz"], "/no/such/file.npz"),
        (["list", "rulez"], "rulez"),
        (["list", "--jsn"], "--jsn"),
        (["lits"], "lits"),
        (["--verson"], "--verson"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_names_the_argument(arguments, word):
    assert word in " ".join(fails(2, *arguments).split())


@pytest.mark.unchecked
def test_out_that_holds_a_run_is_wrong_usage(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    assert "out" in fails(2, "train", "digits", *SMALL, "--out", str(tmp_path))
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]
    (tmp_path / "file").write_text("mine")
    assert "file" in fails(2, "train", "digits", *SMALL, "--out", str(tmp_path / "file"))


def test_missing_data_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "none"))
    assert "ENGRAX_DATA" in fails(2, "train", "ecg", *SMALL)


def test_a_failure_while_running_is_exit_code_1(monkeypatch):
    result = engrax("train", "digits", *SMALL, "--set", "training.steps=40", "--set", "optimizer.learning_rate=1e38")
    assert result.exit_code == 1
    assert not result.stdout and "at step" in result.stderr and "Traceback" not in result.stderr


def test_an_unforeseen_failure_is_one_message_unless_asked(monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("engrax.training.build.fit", broken)
    result = engrax("train", "digits", *SMALL)
    assert result.exit_code == 1 and "ZeroDivisionError: a bug" in result.stderr and "Traceback" not in result.output
    monkeypatch.setenv("ENGRAX_TRACEBACK", "1")
    assert isinstance(engrax("train", "digits", *SMALL).exception, ZeroDivisionError)


def test_ctrl_c_prints_what_there_is_and_exits_1(monkeypatch):
    fit = sys.modules["engrax.training.fit"]
    measure = fit.measure
    seen = []

    def interrupted(nets, task, split, *rest):
        seen.append(split)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return measure(nets, task, split, *rest)

    monkeypatch.setattr(fit, "measure", interrupted)
    result = engrax("train", "digits", *SMALL, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["interrupted"] is True and "Ctrl-C" in result.stderr


@pytest.mark.slow
def test_python_m_engrax():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "engrax", "list", "rules"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and "eprop" in done.stdout
    wrong = subprocess.run([*command[:-1], "rulez"], capture_output=True, text=True, env=environment, check=False)
    assert wrong.returncode == 2 and "rulez" in wrong.stderr and not wrong.stdout


def test_optimisers_of_recipes_are_public():
    assert "adam_tensorflow" in optim.NAMES and "adam" in optim.NAMES


def test_doctor_says_which_path_networks_take(monkeypatch):
    monkeypatch.setenv("ENGRAX_EVENTS", "off")
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 0 and "networks run by  XLA" in result.stdout
    monkeypatch.setenv("ENGRAX_EVENTS", "auto")
    found = json.loads(RUNNER.invoke(app, ["doctor", "--json"]).stdout)
    assert found["native"]["path"] == ("native loops" if kernels.load() else "XLA")
    assert found["versions"]["jax"] and not found["broken"]
    monkeypatch.setenv("ENGRAX_EVENTS", "sometimes")
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 1 and "unknown value of ENGRAX_EVENTS 'sometimes'" in result.stderr


def test_doctor_finds_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("ENGRAX_EVENTS", "auto")
    monkeypatch.setattr("engrax.kernels.library.built", lambda: None)
    monkeypatch.setattr(kernels, "load", lambda: False)
    monkeypatch.setenv("ENGRAX_DATA", str(tmp_path / "nowhere"))
    result = RUNNER.invoke(app, ["doctor"])
    assert result.exit_code == 1 and "Install a compiler" in result.stdout and "is no folder" in result.stderr
