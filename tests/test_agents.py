"""Agents as one trains them: they learn, are resumed, refuse what has no meaning, and obey the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import engrax as ex
from agents import agent
from engrax.errors import ArgumentError, RuleError
from engrax.papers import bellec2020_reward
from engrax.papers.runs import frozen
from engrax.rl import ActorCritic, Played, play
from engrax.rl.environments import CartPole, Catch
from engrax.training.build import build
from engrax.training.recipe import load


@pytest.mark.nightly
def test_an_agent_learns_to_catch(key):
    world = Catch(rows=5, columns=5, brightness=3.0, hold=6)
    net = agent(world, key, ex.neurons.LIF(40, refractory=2.0))
    rule = ActorCritic(ex.rules.EProp(feedback="random"), entropy=0.01)
    run = ex.fit(net, world, rule, optax.adam(5e-3), 300, batch=32, seeds=1, validate_every=100, progress=False)
    assert run.metric == "return" and run.test_return == pytest.approx(ex.evaluate(run)["return"], abs=1e-6)
    before = ex.evaluate(net, world)["return"]
    assert before < 0.5 and run.test_return > 0.7
    assert run.validation[0] == max(h["validation_return"] for h in run.history)


@pytest.mark.nightly
def test_resumed_it_is_the_same_run(key, tmp_path):
    world = Catch(rows=4, columns=3, brightness=4.0, hold=4, episodes=20, validation_episodes=20)
    net, rule = agent(world, key), ActorCritic(ex.rules.EProp(feedback="random"))
    options = {"batch": 4, "validate_every": 5, "progress": False}
    whole = ex.fit(net, world, rule, optax.adam(1e-2), 20, **options)

    def stop(step, nets):
        if step == 10:
            raise KeyboardInterrupt
        return {}

    first = ex.fit(net, world, rule, optax.adam(1e-2), 20, out=tmp_path / "run", watch=stop, **options)
    assert first.interrupted
    again = ex.fit(net, world, rule, optax.adam(1e-2), 20, out=tmp_path / "run", resume=True, **options)
    np.testing.assert_array_equal(again.losses, whole.losses)
    np.testing.assert_array_equal(
        again.network.projections["input->hidden"].weight, whole.network.projections["input->hidden"].weight
    )


@pytest.mark.nightly
def test_a_curriculum_of_longer_episodes(key):
    """No pole falls within six actions, so the first stage ends at its first validation."""
    short, long = (CartPole(length=n, hold=4, episodes=8, validation_episodes=8) for n in (6, 30))
    net, rule = agent(short, key), ActorCritic(ex.rules.EProp(), entropy=0.01)
    options = {"batch": 4, "validate_every": 2, "progress": False}
    first, last = ex.curriculum(net, [short, long], rule, optax.adam(5e-3), 6, until=6.0, **options)
    assert (first.steps, first.test_return) == (2, 6.0)
    assert last.steps == 6 and 6 < last.test_return <= 30


def test_what_an_agent_refuses(key):
    world = Catch()
    net = agent(world, key)
    for options in ({"discount": 1.5}, {"decay": -0.1}, {"value": -1.0}, {"entropy": float("nan")}):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            ActorCritic(ex.rules.EProp(), **options)
    with pytest.raises(ArgumentError, match="rule that makes its gradients"):
        ActorCritic()
    with pytest.raises(ArgumentError, match="loss of its own"):
        ActorCritic(ex.rules.EProp(loss="mse"))
    with pytest.raises(RuleError, match="episodes"):
        ActorCritic(ex.rules.EProp()).value_and_grad(net, ex.Trial(jnp.zeros((3, 2, 100))))
    with pytest.raises(ArgumentError, match="ActorCritic"):
        ex.rules.EProp().value_and_grad(net, world.sample(key, 2))
    single = ex.Network({"p": ex.neurons.LI(3)}, [ex.Dense("x", "p")], inputs={"x": 100}, outputs="p", key=key)
    with pytest.raises(RuleError, match="'policy' with 3 units and 'value' with 1"):
        play(single, world.sample(key, 2), greedy=True)
    assert isinstance(play(net, world.sample(key, 2), greedy=True)[0], Played)
    running = ex.rules.EProp(regularizers=[ex.losses.FiringRate(0.1, running=True)])
    for rule, message in (
        (ActorCritic(ex.rules.BPTT(), evaluation="online"), "BPTT has no traces"),
        (ActorCritic(ex.rules.EProp(), evaluation="online", normalize=True), "whole batch"),
        (ActorCritic(running, evaluation="online"), "running=False"),
    ):
        with pytest.raises(RuleError, match=message):
            rule.value_and_grad(net, world.sample(key, 2))


@pytest.mark.nightly
def test_an_environment_of_ones_own(key):
    """The one that docs/rewards.md shows."""
    import pathlib

    text = (pathlib.Path(__file__).parents[1] / "docs" / "rewards.md").read_text()
    shown = text.split("```python")[1].split("```")[0]
    made: dict = {"ex": ex, "jax": jax, "jnp": jnp}
    exec(shown, made)
    world = made["Coin"]()
    net = agent(world, key)
    played, _ = play(net, world.sample(key, 16), greedy=False)
    assert played.alive.sum(0).tolist() == [5.0] * 16 and 0 < float(played.rewards.sum()) < 16
    loss, _ = ActorCritic(ex.rules.EProp()).value_and_grad(net, world.sample(key, 4))
    assert np.isfinite(float(loss)) and ex.evaluate(net, world, batch=100)["actions"] == 5


@pytest.mark.nightly
def test_an_agent_from_the_command_line(tmp_path, monkeypatch):
    """train, evaluate, compare, play: an environment is a task like any other."""
    import json

    from PIL import Image
    from typer.testing import CliRunner

    from engrax.cli import app

    monkeypatch.chdir(tmp_path)
    small = ["task.rows=4", "task.columns=3", "network.populations.hidden.size=10"]
    small += [
        "network.populations.hidden.beta=0.1",
        "training.steps=4",
        "training.validate_every=2",
        "training.batch=4",
    ]
    small += ["task.episodes=6", "task.validation_episodes=6"]
    settings = [x for pair in small for x in ("--set", pair)]

    def ask(*words: str) -> dict:
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.splitlines()[-1])

    made = ask("train", "catch", *settings, "--out", "run")
    assert -1 <= made["test_return"] <= 1 and "return" in (tmp_path / "run" / "report.html").read_text()
    assert ask("evaluate", "run")["test_return"] == pytest.approx(made["test_return"])
    played = ask("play", "run", "--episode", "2", "--out", "film.gif")
    assert played["actions"] == 3 and played["return"] in (-1, 1)
    with Image.open("film.gif") as film:
        assert film.n_frames == 4
    wrong = CliRunner().invoke(app, ["play", "run", "--out", "film.png"])
    assert wrong.exit_code == 2 and ".gif" in wrong.stderr
    wrong = CliRunner().invoke(app, ["play", "run", "--episode", "6"])
    assert wrong.exit_code == 2 and "6 test episodes" in wrong.stderr
    pair = ask("compare", "catch", *settings, "--rules", "bptt,eprop", "--out", "pair")["rules"]
    assert all(-1 <= pair[rule]["test_return"] <= 1 for rule in ("bptt", "eprop"))
    cosines = {rule: [at["projections"]["all"]["cosine"] for at in one["alignment"]] for rule, one in pair.items()}
    assert cosines["bptt"] == pytest.approx([1, 1], abs=1e-5) and max(cosines["eprop"]) < 0.9999


@pytest.mark.parametrize("recipe", bellec2020_reward.BARS)
@pytest.mark.parametrize("agent", bellec2020_reward.AGENTS)
def test_every_agent_of_the_paper_takes_each_recipe(recipe, agent):
    rule = agent if agent in ("bptt", "rewardstdp") else None
    built = build(load(recipe, frozen(recipe) if agent == "frozen" else (), rule))
    hidden = [p for p in built.net.projections.values() if p.post == "hidden"]
    assert all(p.trainable == (agent != "frozen") for p in hidden)
