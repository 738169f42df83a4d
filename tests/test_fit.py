"""The training loop: it is the plain loop, it keeps the best network, it stops well, and it measures exactly."""

import importlib
import json
import os
import sys
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import engrax as ex
from engrax._files import write
from engrax.errors import ArgumentError, DataError
from engrax.training import TrainingError
from engrax.training.store import dumps, read_arrays

FIT = importlib.import_module("engrax.training.fit")
STEPS = 8


class Majority(ex.tasks.Task):
    """Which of two inputs spikes more? Trials have different lengths; a pass ends with a smaller batch."""

    metric: ClassVar[str] = "accuracy"
    input_size: int = eqx.field(static=True, default=2)
    output_size: int = eqx.field(static=True, default=2)
    dt: float = eqx.field(static=True, default=1.0)
    trials: int = eqx.field(static=True, default=50)

    def sample(self, key, batch, split="train"):
        side, noise, length = jax.random.split(jax.random.fold_in(key, len(split)), 3)
        answer = jax.random.bernoulli(side, shape=(batch,)).astype(jnp.int32)
        rate = jnp.where(answer[None, :, None] == jnp.arange(2, dtype=jnp.int32)[None, None, :], 0.8, 0.3)
        spikes = jax.random.bernoulli(noise, rate, (STEPS, batch, 2)).astype(jnp.result_type(float))
        lengths = jax.random.randint(length, (batch,), 3, STEPS + 1)
        return ex.Trial(spikes, answer, lengths=lengths)

    def batches(self, split, batch):
        whole = self.sample(jax.random.key(0), self.trials, split)
        for start in range(0, self.trials, batch):
            part = slice(start, start + batch)
            yield ex.Trial(whole.inputs[:, part], whole.targets[part], lengths=whole.lengths[part])

    def score(self, outputs, trial):
        mean = jnp.sum(outputs * trial.valid()[..., None].astype(outputs.dtype), axis=0)
        return jnp.mean((jnp.argmax(mean, -1).astype(jnp.int32) == trial.targets).astype(outputs.dtype))

    def metrics(self, outputs, trial):
        steps = jnp.sum(trial.valid())
        spikes = jnp.sum(trial.inputs * trial.valid()[..., None].astype(outputs.dtype)) / steps
        return {"largest": jnp.mean(jnp.max(outputs, axis=(0, 2))), "spikes_a_step": (spikes, steps)}


class Spoilt(Majority):
    """The same with an input that is not a number."""

    def sample(self, key, batch, split="train"):
        trial = Majority.sample(self, key, batch, split)
        return ex.Trial(trial.inputs.at[2].set(jnp.nan), trial.targets, lengths=trial.lengths)


class Unheard(Majority):
    """The same with classes that the network has no outputs for."""

    def sample(self, key, batch, split="train"):
        trial = Majority.sample(self, key, batch, split)
        return ex.Trial(trial.inputs, trial.targets + 1, lengths=trial.lengths)


class Miss(Majority):
    """The same with a loss for a metric."""

    metric: ClassVar[str] = "loss"

    def score(self, outputs, trial):
        return 1 - Majority.score(self, outputs, trial)


def network(key=None, hidden=None, dt=1.0, inputs=2, outputs=2):
    populations = {"hidden": hidden or ex.neurons.ALIF(12, tau=5.0, beta=0.2), "readout": ex.neurons.LI(outputs)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")]
    key = jax.random.key(1) if key is None else key
    return ex.Network(populations, projections, inputs={"input": inputs}, outputs="readout", dt=dt, key=key)


TASK, RULE, ADAM = Majority(), ex.rules.EProp(feedback="random"), optax.adam(0.02)


def quick(net=None, task=TASK, rule=RULE, optimizer=ADAM, steps=12, **options):
    options = {"batch": 16, "progress": False, **options}
    return ex.fit(network() if net is None else net, task, rule, optimizer, steps, **options)


def plain(net, rule, optimizer, steps, key, jitted):
    """The loop of fit's first lines, with nothing around it."""
    _, bind = jax.random.split(jax.random.fold_in(key, 2**32 - 1))
    net = rule.bind(net, bind)

    def step(net, state, key):
        sample, learn, repair = jax.random.split(key, 3)
        loss, grads = rule.value_and_grad(net, TASK.sample(sample, 16), learn)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = optimizer.update(grads, state, eqx.filter(net, ex.trainable_leaves(net)))
        return eqx.apply_updates(net, updates).constrain(repair), state, loss

    step = eqx.filter_jit(step) if jitted else step
    state, losses = optimizer.init(eqx.filter(net, ex.trainable_leaves(net))), []
    for i in range(steps):
        net, state, loss = step(net, state, jax.random.fold_in(key, i))
        losses.append(float(loss))
    return net, np.asarray(losses)


def weights(net):
    return [np.asarray(p.weight) for p in net.projections.values()]


@pytest.mark.x64
@pytest.mark.parametrize(
    "rule", [RULE, pytest.param(ex.rules.BPTT(), marks=pytest.mark.nightly)], ids=["eprop", "bptt"]
)
def test_fit_is_the_plain_loop(rule, key):
    # 60 steps: more than two blocks, the last of them cut short. Eager and compiled differ in rounding alone.
    run = quick(rule=rule, steps=60, key=key, validate_every=60)
    net, losses = plain(network(), rule, ADAM, 60, key, jitted=False)
    assert np.ptp(losses) > 0.1 and run.firing_rate_hz > 0
    np.testing.assert_allclose(run.losses, losses, rtol=1e-10)
    for mine, theirs in zip(weights(run.network), weights(net), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.x64
def test_seeds_are_the_runs_they_stand_for(key):
    together = quick(seeds=3, key=key, steps=10)
    assert together.losses.shape == (3, 10)
    for i, own in enumerate(jax.random.split(key, 3)):
        draw, _ = jax.random.split(jax.random.fold_in(own, 2**32 - 1))
        alone = quick(network().initialize(draw), key=own, steps=10)
        np.testing.assert_allclose(together.losses[i], alone.losses, rtol=1e-9)
        np.testing.assert_allclose(together.test["accuracy"][i], alone.test["accuracy"][0], rtol=1e-9)
    assert len({tuple(row) for row in together.losses}) == 3


def test_one_run_is_the_same_run_twice_and_blocks_do_not_matter(key, monkeypatch):
    first, again = quick(key=key, steps=20), quick(key=key, steps=20)
    other_split = quick(key=key, steps=20, validate_every=7)
    assert eqx.tree_equal(first.network, again.network)
    np.testing.assert_array_equal(first.losses, other_split.losses)
    assert not np.array_equal(first.losses, quick(key=jax.random.key(5), steps=20).losses)
    assert [e["step"] for e in other_split.history] == [7, 14, 20]


@pytest.mark.parametrize("task", [TASK, Miss()], ids=["accuracy", "loss"])
@pytest.mark.parametrize("seeds", [pytest.param(None, marks=pytest.mark.nightly), 3])
def test_the_best_on_validation_is_kept(task, seeds, key):
    # It learns, and then climbs the loss: the best network is not the last one.
    sgd = optax.sgd(lambda count: jnp.where(count < 16, 0.5, -3.0))
    run = quick(task=task, optimizer=sgd, steps=24, validate_every=4, seeds=seeds, key=key)
    name = f"validation_{task.metric}"
    curves = np.asarray([e.get(f"{name}_per_seed", [e[name]]) for e in run.history])
    best = curves.max(axis=0) if task.metric == "accuracy" else curves.min(axis=0)
    np.testing.assert_allclose(run.validation, best, rtol=1e-6)
    assert (curves[-1] != best).all(), "the last network is the best: the test shows nothing"
    pick = np.argmax(best if task.metric == "accuracy" else -best)
    measured = ex.evaluate(run, split="validation")[task.metric]
    assert measured == pytest.approx(best[pick], abs=1e-6)
    if seeds:
        one = jax.tree.map(lambda x: x[pick] if eqx.is_array(x) else x, run.networks)
        assert eqx.tree_equal(one, run.network)
    else:
        assert run.networks is None


def test_evaluate_counts_by_hand_whatever_the_batch():
    net = network()
    trial = TASK.sample(jax.random.key(0), TASK.trials, "test")
    record = net.run(trial.inputs, record=("hidden",))
    valid = np.arange(STEPS)[:, None] < np.asarray(trial.lengths)[None, :]
    right = (np.asarray(record.outputs) * valid[..., None]).sum(0).argmax(-1) == np.asarray(trial.targets)
    spikes = (np.asarray(record["hidden"]) * valid[..., None]).sum()
    assert spikes > 0 and 0 < right.mean() < 1
    rate = spikes / (valid.sum() * 12 * 0.001)
    for batch in (7, 16, 50, 64):
        figures = ex.evaluate(net, TASK, batch=batch)
        assert figures["accuracy"] == pytest.approx(right.mean(), rel=1e-6)
        assert figures["firing_rate_hz"] == pytest.approx(rate, rel=1e-5)
        assert figures["spikes_a_step"] == pytest.approx(
            (np.asarray(trial.inputs) * valid[..., None]).sum() / valid.sum(), rel=1e-6
        )
        assert set(figures) == {"accuracy", "largest", "spikes_a_step", "firing_rate_hz", "energy_joules"}
    # Plain means over batches of unequal size would be another number.
    parts = [right[i : i + 16].mean() for i in range(0, 50, 16)]
    assert np.mean(parts) != pytest.approx(right.mean(), rel=1e-6)


def test_firing_rates_are_in_hertz_of_the_networks_own_time_step():
    task = eqx.tree_at(lambda t: t, Majority(dt=0.5), Majority(dt=0.5))
    slow = ex.evaluate(network(), TASK)["firing_rate_hz"]
    hidden = ex.neurons.ALIF(12, tau=2.5, tau_adaptation=100.0, beta=0.2)
    fast_net = network(hidden=hidden, dt=0.5)
    assert fast_net.dt == 0.5
    fast = ex.evaluate(fast_net, task)["firing_rate_hz"]
    assert fast == pytest.approx(2 * slow, rel=1e-5)  # the same spikes in half the time


def test_what_is_watched_joins_the_history():
    seen = []

    def watch(step, nets):
        seen.append((step, nets.projections["hidden->readout"].weight.shape))
        return {"answer": 42 + step}

    run = quick(steps=6, validate_every=3, seeds=2, watch=watch)
    assert seen == [(3, (2, 2, 12)), (6, (2, 2, 12))]
    assert [entry["answer"] for entry in run.history] == [45, 48]
    np.testing.assert_array_equal(run.losses, quick(steps=6, validate_every=3, seeds=2).losses)


def test_networks_that_do_not_spike_have_no_rate():
    run = quick(network(hidden=ex.neurons.Rate(6)), rule=ex.rules.BPTT(), steps=2)
    assert run.firing_rate_hz is None
    assert json.loads(dumps(run.summary()))["firing_rate_hz"] is None


def test_a_loss_that_is_no_number_names_its_step(key):
    bad = optax.sgd(lambda count: jnp.where(count == 6, jnp.nan, 0.0))
    with pytest.raises(TrainingError, match=r"the update is not finite at step 7\."):
        quick(optimizer=bad, steps=40, key=key)
    with pytest.raises(TrainingError, match=r"the update of seed 0 is not finite at step 7\."):
        quick(optimizer=bad, steps=40, key=key, seeds=2)
    with pytest.raises(TrainingError, match=r"finite at step 7\. Weights, inputs, currents and states are finite"):
        quick(optimizer=bad, steps=40, key=key)


def test_a_loss_that_is_no_number_names_the_population_and_the_input(key):
    with pytest.raises(TrainingError, match=r"not finite at step 1\. Input 'input' of its trials is not finite"):
        quick(task=Spoilt(), steps=4, key=key)
    with pytest.raises(TrainingError, match=r"Its targets are classes from 1 to 2; the network has 2 outputs"):
        quick(task=Unheard(), steps=4, key=key)
    net = network()
    huge = eqx.tree_at(lambda n: n.projections["hidden->readout"].weight, net, jnp.full((2, 12), 3e38))
    with pytest.raises(TrainingError, match=r"nan at step 1\. The current of population 'readout' is not finite from"):
        quick(huge, steps=4, key=key)


def test_ctrl_c_gives_the_run_so_far(monkeypatch, tmp_path, capsys):
    calls, measure = [], FIT.measure

    def interrupted(nets, task, split, *rest):
        calls.append(split)
        if calls == ["validation", "validation"]:
            raise KeyboardInterrupt
        return measure(nets, task, split, *rest)

    monkeypatch.setattr(FIT, "measure", interrupted)
    run = quick(steps=30, validate_every=5, out=tmp_path / "run", progress=True)
    assert calls == ["validation", "validation"] and "accuracy" in run.test
    assert run.interrupted and run.steps == 10 and len(run.history) == 1 and run.losses.shape == (10,)
    assert "stopped at step 10 of 30 by Ctrl-C" in capsys.readouterr().err
    assert ex.evaluate(run, split="validation")["accuracy"] == pytest.approx(run.history[0]["validation_accuracy"])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["interrupted"] is True and result["steps"] == 10


@pytest.mark.parametrize("seeds", [None, 2])
def test_files_of_a_run(tmp_path, seeds):
    run = quick(steps=10, validate_every=4, seeds=seeds, out=tmp_path / "a" / "run")
    folder = tmp_path / "a" / "run"
    expected = {"metrics.jsonl", "result.json", "network.safetensors", "checkpoints"}
    expected |= {"networks.safetensors"} if seeds else set()
    assert {f.name for f in folder.iterdir()} == expected
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == run.history and [e["step"] for e in lines] == [4, 8, 10]
    assert json.loads((folder / "result.json").read_text()) == json.loads(dumps(run.summary()))
    file = safetensors.numpy.load_file(folder / "network.safetensors")
    np.testing.assert_array_equal(
        file["projections/input->hidden/weight"], run.network.projections["input->hidden"].weight
    )
    assert "feedback/readout->hidden/weight" in file
    other = RULE.bind(network(jax.random.key(9)), jax.random.key(9))
    assert eqx.tree_equal(read_arrays(folder / "network.safetensors", other)[0], run.network)
    with pytest.raises(ArgumentError, match=r"out: .* already holds a run"):
        quick(steps=2, out=folder)


def test_arrays_of_another_network_are_refused(tmp_path):
    run = quick(steps=2, out=tmp_path / "run")
    with pytest.raises(DataError, match="expected"):
        read_arrays(run.out / "network.safetensors", network(hidden=ex.neurons.ALIF(5)))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write(tmp_path / "f", b"old")

    def fail(handle):
        raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no room"):
        write(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["f"]


def test_adaptive_feedback_trains_with_its_decay(key):
    rule = ex.rules.EProp(feedback="adaptive")
    chain = optax.chain(optax.sgd(0.1), ex.optim.kolen_pollack(0.2))
    run = quick(rule=rule, optimizer=chain, steps=30, key=key, validate_every=30)
    gap = np.abs(run.network.feedback["readout->hidden"].weight - run.network.projections["hidden->readout"].weight.T)
    assert gap.max() < 0.02  # 0.8^30 of what it was
    assert np.abs(run.network.feedback["readout->hidden"].weight).max() > 0


def test_autapses_stay_away_while_training(key):
    populations = {"hidden": ex.neurons.LIF(6), "readout": ex.neurons.LI(2)}
    projections = [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden", autapses=False)]
    net = ex.Network(
        populations, [*projections, ex.Dense("hidden", "readout")], inputs={"input": 2}, outputs="readout", key=key
    )
    trained = quick(net, steps=5, key=key).network.projections["hidden->hidden"].weight
    assert not np.diag(trained).any() and np.asarray(trained).any()


def test_progress_goes_to_standard_error_as_lines(capsys):
    quick(steps=30, validate_every=15, progress=True)
    out, err = capsys.readouterr()
    assert not out
    assert "compiling" in err and "step 15/30" in err and "validation accuracy" in err and "step 30/30" in err
    assert "left" in err.splitlines()[2]
    quick(steps=2)
    assert capsys.readouterr() == ("", "")


def test_fit_learns(key):
    run = quick(steps=150, seeds=3, key=key, validate_every=50)
    assert run.test_accuracy > 0.85
    assert len(run.test_accuracy_per_seed) == 3
    assert run.summary()["test_accuracy"] == run.test_accuracy


def test_tensorboard_gets_the_history(tmp_path):
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    run = quick(steps=6, validate_every=3, seeds=2, out=tmp_path, tensorboard=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, found = file.read_bytes(), {}
    while data:  # records: length, its checksum, an event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        data = data[16 + length :]
    for name in ("loss", "validation_accuracy"):
        expected = [(e["step"], pytest.approx(e[name], rel=1e-6)) for e in run.history]
        assert found[name] == expected
    last = run.history[-1]["validation_accuracy_per_seed"][1]
    assert found["validation_accuracy_per_seed/1"][-1] == (6, pytest.approx(last, rel=1e-6))


@pytest.mark.unchecked
def test_tensorboard_without_its_package_or_a_folder(tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match="tensorboard: give out="):
        quick(steps=2, tensorboard=True)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ArgumentError, match=r'pip install "engrax\[tensorboard\]"'):
        quick(steps=2, out=tmp_path, tensorboard=True)


NAN, THING = float("nan"), object()
COUNTS = ("abc", True, 1.5, NAN, 0, -1, [2])
GARBAGE = {
    "net": ("abc", None, THING, ex.Network),
    "task": ("digits", None, THING, Majority),
    "rule": ("eprop", None, THING, ex.rules.EProp),
    "optimizer": ("adam", None, THING, optax.adam, 0.1),
    "steps": (*COUNTS, None),
    "batch": (*COUNTS, None),
    "seeds": (*COUNTS[:-1], [], [2, 2], [-1], [0.5], [True], ["a"], {}),
    "key": ("abc", 5, 1.5, THING, np.zeros(3)),
    "validate_every": COUNTS,
    "out": (5, THING, True, ""),
    "tensorboard": ("yes", None, 1),
    "progress": ("yes", None, 1),
}


@pytest.mark.unchecked
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GARBAGE.items() for v in values])
def test_nonsense_is_refused_by_name(name, value):
    good = {"net": network(), "task": TASK, "rule": RULE, "optimizer": ADAM, "steps": 2, "progress": False}
    with pytest.raises(ArgumentError, match=rf"^{name}\b"):
        ex.fit(**{**good, name: value})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: network(inputs=3), "input 'input' has 3 units, the task gives 2"),
        (lambda: network(outputs=3), "output 'readout' has 3 units, the task needs 2"),
        (lambda: network(dt=0.5), r"dt is 0\.5 ms, the task's 1 ms"),
    ],
)
def test_a_network_that_does_not_fit_the_task_is_refused(net, words):
    with pytest.raises(ArgumentError, match=words):
        quick(net(), steps=2)
    with pytest.raises(ArgumentError, match=words):
        ex.evaluate(net(), TASK)


@pytest.mark.unchecked
def test_nonsense_for_evaluate_is_refused_by_name():
    for arguments, word in [
        (("abc", TASK), "run"),
        ((network(), None), "task"),
        ((network(), "digits"), "task"),
        ((network(), TASK, "test", 0), "batch"),
    ]:
        with pytest.raises(ArgumentError, match=rf"^{word}\b"):
            ex.evaluate(*arguments)
    with pytest.raises(ArgumentError, match="split"):
        ex.evaluate(network(inputs=4), ex.tasks.get("evidence", group=1, delay=1), "tets")


@pytest.mark.unchecked
def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArgumentError, match=r"^out: the folder .* cannot be made"):
        quick(steps=2, out=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
