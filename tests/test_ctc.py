"""The loss "ctc": against the sum over all alignments, its gradient, padding, frames, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax import FrameTrial, Trial
from engrax.errors import ArgumentError, LossError
from engrax.losses import CTC, as_loss


def brute_force(outputs: np.ndarray, labels: list[int]) -> float:
    """-log of the summed probabilities of every alignment that says `labels`; outputs (frames, symbols)."""
    p = np.exp(outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True)))
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=len(p)):
        said = [symbol for symbol, _ in itertools.groupby(path) if symbol != 0]
        if said == labels:
            total += float(np.prod(p[np.arange(len(p)), path]))
    return -np.log(total)


STRINGS = [[1], [2, 1], [1, 1], [2, 2, 1], []]


def batch(key: jax.Array, frames: int = 6, hold: int = 1) -> tuple[jax.Array, FrameTrial]:
    outputs = jax.random.normal(key, (frames * hold, len(STRINGS), 3))
    targets = jnp.asarray([s + [0] * (3 - len(s)) for s in STRINGS], jnp.int32).T
    lengths = jnp.asarray([6, 4, 3, 6, 2]) * hold
    return outputs, FrameTrial(jnp.zeros((frames * hold, len(STRINGS), 1)), targets, lengths=lengths, hold=hold)


@pytest.mark.x64
def test_it_is_the_sum_over_all_alignments(key):
    outputs, trial = batch(key)
    found = CTC().function(outputs, trial)
    for i, (labels, length) in enumerate(zip(STRINGS, trial.lengths)):
        assert float(found[i]) == pytest.approx(brute_force(np.asarray(outputs)[: int(length), i], labels), rel=1e-12)
    assert float(CTC().value(outputs, trial)) == pytest.approx(float(found.mean()))
    assert float(CTC(reduction="sum", scale=2.0).value(outputs, trial)) == pytest.approx(2 * float(found.sum()))


@pytest.mark.x64
def test_its_gradient_is_that_of_finite_differences(key):
    outputs, trial = batch(key, hold=2)
    value = jax.jit(lambda y: CTC().value(y, trial))
    gradient = np.asarray(jax.grad(value)(outputs))
    assert np.abs(gradient).max() > 0.01
    for place in itertools.product(range(12), range(len(STRINGS)), range(3)):
        step = jnp.zeros_like(outputs).at[place].set(1e-5)
        numeric = (value(outputs + step) - value(outputs - step)) / 2e-5
        assert gradient[place] == pytest.approx(float(numeric), abs=1e-9)


def test_padding_of_time_and_of_labels_changes_nothing(key):
    outputs, trial = batch(key, hold=2)
    more = jnp.concatenate([outputs, 50 * jnp.ones((4, *outputs.shape[1:]))])
    targets = jnp.concatenate([trial.targets, jnp.zeros((2, 5), jnp.int32)])
    padded = FrameTrial(jnp.zeros((16, 5, 1)), targets, lengths=trial.lengths, hold=2)
    value, gradient = jax.value_and_grad(CTC().value)(more, padded)
    assert float(value) == pytest.approx(float(CTC().value(outputs, trial)), rel=1e-6)
    beyond = np.arange(16)[:, None] >= np.asarray(trial.lengths)[None]
    assert not np.asarray(gradient)[beyond].any()
    assert np.asarray(gradient)[~beyond].any(axis=-1).all()


def test_the_steps_of_a_frame_are_averaged(key):
    outputs, trial = batch(key, hold=3)
    frames = outputs.reshape(6, 3, 5, 3).mean(axis=1)
    plain = Trial(jnp.zeros((6, 5, 1)), trial.targets, lengths=trial.lengths // 3)
    assert float(CTC().value(frames, plain)) == pytest.approx(float(CTC().value(outputs, trial)), rel=1e-6)
    assert float(CTC().value(outputs[:6], plain)) != pytest.approx(float(CTC().value(frames, plain)), rel=1e-2)


def test_a_string_that_does_not_fit_has_a_loss_that_shows_it(key):
    trial = Trial(jnp.zeros((2, 1, 1)), jnp.asarray([[1], [1]]))
    assert float(CTC().value(jax.random.normal(key, (2, 1, 3)), trial)) > 1e4
    assert float(CTC().value(jax.random.normal(key, (2, 1, 3)), trial.replace(targets=jnp.asarray([[1], [2]])))) < 20


def net(key: jax.Array) -> ex.Network:
    return ex.Network(
        {"hidden": ex.neurons.LSTM(6), "readout": ex.neurons.LI(3, tau=3.0)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout", bias=True)],
        inputs={"input": 2},
        outputs="readout",
        key=key,
    )


@pytest.mark.nightly
def test_rules_take_it_by_name_and_e_prop_offline_alone(key):
    trial = FrameTrial(
        jax.random.normal(key, (12, 4, 2)),
        jnp.asarray([[1, 2, 1, 2], [2, 2, 0, 1]]),
        lengths=jnp.asarray([12, 10, 6, 8]),
        hold=2,
    )
    network = net(key)
    full, exact = ex.rules.BPTT(loss="ctc").value_and_grad(network, trial)
    local, gradient = ex.rules.EProp(loss="ctc").value_and_grad(network, trial)
    assert float(full) == pytest.approx(float(local), rel=1e-6)
    expected = jax.grad(lambda w: _loss(network, w, trial))(network.projections["hidden->readout"].weight)
    for found in (exact, gradient):
        np.testing.assert_allclose(found.projections["hidden->readout"].weight, expected, rtol=1e-4, atol=1e-6)
    inner = [np.asarray(g.projections["hidden->hidden"].weight) for g in (exact, gradient)]
    assert np.abs(inner[0]).max() > 1e-4
    assert np.abs(inner[0] - inner[1]).max() > 1e-3 * np.abs(inner[0]).max()
    for evaluation in ("online", "chunked"):
        with pytest.raises(LossError, match="whole sequence"):
            ex.rules.EProp(loss="ctc", evaluation=evaluation).value_and_grad(network, trial)


def _loss(network: ex.Network, weight: jax.Array, trial: Trial) -> jax.Array:
    projections = dict(network.projections)
    projections["hidden->readout"] = projections["hidden->readout"].replace(weight=weight)
    changed = network.replace(projections=type(network.projections)(projections))
    return CTC().value(changed.run(trial.inputs).outputs, trial)


def test_targets_that_are_no_strings_are_refused(key):
    network, trial = net(key), Trial(jnp.zeros((6, 4, 2)), jnp.asarray([[1, 2, 1, 2], [2, 2, 0, 1]]))
    with pytest.raises(ArgumentError, match='loss="ctc"'):
        ex.rules.BPTT().value_and_grad(network, trial)
    for wrong in (jnp.asarray([1, 2, 1, 2]), jnp.zeros((6, 4, 3)), jnp.zeros((2, 4))):
        with pytest.raises(LossError, match="ctc needs"):
            ex.rules.BPTT(loss="ctc").value_and_grad(network, trial.replace(targets=wrong))
        with pytest.raises(LossError, match="ctc needs"):
            CTC().value(jnp.zeros((6, 4, 3)), trial.replace(targets=wrong))
        with pytest.raises(LossError, match="ctc needs"):
            as_loss("ctc", wrong)
    with pytest.raises(LossError, match=r"shape \(labels, 4\)"):
        ex.rules.BPTT(loss="ctc").value_and_grad(network, trial.replace(targets=jnp.ones((4, 2), jnp.int32)))
    for wrong in ([[1, 0, 1, 2], [2, 2, 0, 1]], [[1, -1, 1, 2], [2, 2, 0, 1]]):
        with pytest.raises(LossError, match="at their end only"):
            ex.rules.BPTT(loss="ctc").value_and_grad(network, trial.replace(targets=jnp.asarray(wrong)))
    with pytest.raises(LossError, match="no targets"):
        ex.rules.BPTT(loss="ctc").value_and_grad(network, trial.replace(targets=None))
    assert isinstance(as_loss("ctc", trial.targets, "sum", 3.0), CTC)
    assert as_loss("ctc", trial.targets, "sum", 3.0).scale == 3.0


@pytest.mark.unchecked
def test_frames_are_whole():
    trial = FrameTrial(jnp.zeros((6, 2, 1)), hold=3, lengths=jnp.asarray([6, 3]))
    np.testing.assert_array_equal(trial.valid_frames(), [[1, 1], [1, 0]])
    np.testing.assert_array_equal(trial.by_frame(jnp.arange(12.0).reshape(6, 2, 1))[..., 0], [[2, 3], [8, 9]])
    for hold in (4, 0, True, 2.0):
        with pytest.raises(ArgumentError, match="FrameTrial"):
            FrameTrial(jnp.zeros((6, 2, 1)), hold=hold)
