"""What `engrax plan` foretells: memory that grows as each rule's does, time of whole trials, refusals in words."""

import json

import jax
import jax.numpy as jnp
import pytest
from typer.testing import CliRunner

import engrax as ex
from engrax.cli.app import app
from engrax.training.plan import STEPS, plan


def trial(steps, batch=4):
    inputs = jax.random.bernoulli(jax.random.key(1), 0.2, (steps, batch, 6)).astype(jnp.float32)
    return ex.Trial(inputs, jax.random.normal(jax.random.key(2), (steps, batch, 2)))


@pytest.fixture(scope="module")
def net():
    return ex.Network(
        {"hidden": ex.neurons.LIF(20), "readout": ex.neurons.LI(2)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": 6},
        outputs="readout",
        key=jax.random.key(0),
    )


def test_bptt_grows_with_the_trial_and_online_eprop_does_not(net):
    for rule, low, high in ((ex.rules.BPTT(), 1.7, 2.1), (ex.rules.EProp(evaluation="online"), 0.9, 1.2)):
        short, long = (plan(net, rule, trial(t)).memory - 8 * t * 4 * 4 for t in (400, 800))
        assert low < long / short < high, rule


def test_time_is_that_of_some_steps_made_longer(net):
    found = plan(net, ex.rules.BPTT(), trial(1000))
    assert found.steps == 1000 and found.timed == STEPS[1] and found.seconds > 0
    short = plan(net, ex.rules.BPTT(), trial(20))
    assert short.steps == short.timed == 20


@pytest.mark.parametrize(("start", "each", "found"), [(0.5, 0.001, 1.5), (2.0, 0.1, 500.0)])
def test_what_a_rule_takes_once_is_foretold_once_unless_one_start_takes_long(start, each, found, net, monkeypatch):
    monkeypatch.setattr("engrax.training.plan._timed", lambda program, given: start + each * given[1].steps)
    assert plan(net, ex.rules.BPTT(), trial(1000)).seconds == pytest.approx(found)


def test_command_prints_rules_and_refusals():
    said = CliRunner().invoke(
        app, ["plan", "pattern", "--rules", "eprop,bptt:checkpoint=true,rtrl", "--set", "training.batch=2", "--json"]
    )
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert list(found) == ["eprop", "bptt:checkpoint=true", "rtrl"]
    assert (
        found["eprop"]["memory_bytes"] > 0 and found["eprop"]["training_seconds"] > found["eprop"]["gradient_seconds"]
    )
    table = CliRunner().invoke(app, ["plan", "pattern", "--rules", "bptt,rflo:timing=never"])
    assert table.exit_code == 2 and "timing" in table.output


def test_environments_are_refused():
    said = CliRunner().invoke(app, ["plan", "catch", "--rules", "eprop"])
    assert said.exit_code == 0 and "episodes are as long" in said.output
