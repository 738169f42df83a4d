"""Analyses: eligibility traces against the gradient they make, confusion against the accuracy it explains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.analysis import alignment, confusion, eligibility_traces, learning_signals
from engrax.errors import ArgumentError


def network(hidden: ex.Neuron, key: jax.Array, inputs: int = 3, outputs: int = 2) -> ex.Network:
    target = "hidden.forget" if hidden.ports else "hidden"
    return ex.Network(
        {"hidden": hidden, "readout": ex.neurons.LI(outputs, tau=5.0)},
        [
            ex.Dense("input", "hidden"),
            ex.Dense("hidden", "hidden", delay=2),
            ex.Dense("input", target, name="extra"),
            ex.Dense("hidden", "readout"),
        ],
        inputs={"input": inputs},
        outputs="readout",
        key=key,
    )


@pytest.mark.x64
@pytest.mark.parametrize(
    "hidden",
    [
        ex.neurons.LIF(4, threshold=0.3),
        ex.neurons.ALIF(4, threshold=0.3, beta=0.5, tau_adaptation=30.0, refractory=3.0),
        ex.neurons.Rate(4, tau=5.0),
        ex.neurons.LSTM(4),
    ],
    ids=lambda h: type(h).__name__,
)
@pytest.mark.parametrize("name", ["input->hidden", "hidden->hidden", "extra"])
def test_traces_times_learning_signals_are_the_gradient_of_eprop(hidden: ex.Neuron, name: str, key: jax.Array) -> None:
    """Bellec et al. 2020, Eq. 1: dE/dW_ji = sum_t L_j(t) e_ji(t), the readout's filter on the side of L."""
    net = network(hidden, key)
    inputs = 2 * jax.random.normal(key, (25, 2, 3))
    outputs = net.run(inputs).outputs
    trial = ex.Trial(inputs, jnp.zeros_like(outputs))
    _, grads = ex.rules.EProp(feedback="symmetric").value_and_grad(net, trial)
    # dE/dy for the mean squared error, through the readout's leak back in time, then through its weights.
    error = 2 * np.asarray(outputs) / outputs.size
    leak = np.exp(-1 / 5.0)
    readout = net.populations["readout"]
    gain = 1 - leak if getattr(readout, "input_scale", "one") == "leak" else 1.0
    back, carried = np.zeros_like(error), 0.0
    for t in range(len(error) - 1, -1, -1):
        carried = error[t] + leak * carried
        back[t] = gain * carried
    signal = back @ np.asarray(net.projections["hidden->readout"].weight)
    wanted = np.asarray(grads.projections[name].weight)
    for unit in range(wanted.shape[-1]):
        traces = np.asarray(eligibility_traces(net, trial, name, unit))
        column = ((signal[:, :, None] if traces.ndim == 4 else signal) * traces).sum((0, 1))
        np.testing.assert_allclose(column, wanted[..., unit], rtol=1e-9, atol=1e-14)
    assert np.abs(wanted).max() > 0


@pytest.mark.x64
@pytest.mark.parametrize("feedback", ["symmetric", "random", "shuffled"])
def test_signals_are_errors_times_feedback(feedback: str, key: jax.Array) -> None:
    net = network(ex.neurons.LIF(4, threshold=0.3), key)
    inputs = 2 * jax.random.normal(key, (25, 2, 3))
    trial = ex.Trial(inputs, jax.random.normal(key, (25, 2, 2)))
    rule = ex.rules.EProp(feedback=feedback)
    net = rule.bind(net, key)
    found = learning_signals(net, trial, rule, key)
    assert list(found) == ["hidden"]
    error = 2 * np.asarray(net.run(inputs).outputs - trial.targets) / trial.targets.size
    weight = np.asarray(net.projections["hidden->readout"].weight)
    if feedback == "random":
        weight = np.asarray(net.feedback["readout->hidden"].weight).T
    if feedback == "shuffled":
        # Some order of the units, the same at all steps.
        signals = np.asarray(found["hidden"])
        order = [int(np.argmin([np.abs(signals[..., j] - error @ w).max() for w in weight.T])) for j in range(4)]
        assert sorted(order) == [0, 1, 2, 3]
        weight = weight[:, order]
    np.testing.assert_allclose(found["hidden"], error @ weight, rtol=1e-9, atol=1e-14)


@pytest.mark.unchecked
def test_signals_refuse_what_broadcasts_nothing(key: jax.Array) -> None:
    net = network(ex.neurons.LIF(4), key)
    trial = ex.Trial(jnp.zeros((5, 1, 3)), jnp.zeros((5, 1, 2)))
    with pytest.raises(ArgumentError, match="BPTT"):
        learning_signals(net, trial, ex.rules.BPTT())
    with pytest.raises(ArgumentError, match="key"):
        learning_signals(net, trial, ex.rules.EProp(feedback="shuffled"))
    with pytest.raises(ex.errors.RuleError, match="bind"):
        learning_signals(net, trial, ex.rules.EProp(feedback="random"))


@pytest.mark.unchecked
def test_traces_refuse_what_is_not_there(key: jax.Array) -> None:
    net = network(ex.neurons.LIF(4), key)
    trial = ex.Trial(jnp.zeros((5, 1, 3)), jnp.zeros((5, 1, 2)))
    with pytest.raises(ArgumentError, match=r"hidden->hiden.*hidden->hidden"):
        eligibility_traces(net, trial, "hidden->hiden", 0)
    for unit in (3, -1, True, "0"):
        with pytest.raises(ArgumentError, match="unit must be one of the 3"):
            eligibility_traces(net, trial, "input->hidden", unit)


@pytest.mark.parametrize("name", ["digits", "evidence"])
def test_confusion_explains_the_accuracy(name: str, key: jax.Array) -> None:
    settings = {"evidence": {"cues": 3, "cue": 20, "gap": 5, "delay": 10, "recall": 20, "trials": 100}}
    task = ex.tasks.get(name, **settings.get(name, {}))
    net = network(ex.neurons.LIF(20, threshold=0.3), key, task.input_size, task.output_size)
    counts = confusion(net, task, batch=30)
    assert counts is not None and counts.shape == (task.output_size,) * 2
    accuracy = ex.evaluate(net, task, batch=30)["accuracy"]
    assert np.trace(counts) / counts.sum() == pytest.approx(accuracy, rel=1e-6)
    if name == "digits":
        digits = np.asarray(task.rows["test"][1])
        assert counts.sum(axis=1).tolist() == np.bincount(digits).tolist()
    assert confusion(network(ex.neurons.LIF(5), key, 100, 1), ex.tasks.get("pattern")) is None


@pytest.mark.x64
def test_alignment_of_a_rule_with_itself_and_with_its_reference(key: jax.Array) -> None:
    net = network(ex.neurons.Rate(6, tau=5.0), key)
    trial = ex.Trial(jax.random.normal(key, (20, 4, 3)), jnp.ones((20, 4, 2)))
    same = alignment(net, trial, ex.rules.BPTT())
    assert same.reference == "exact gradient" and set(same.projections) == {*net.projections, "all"}
    for angle in same.projections.values():
        assert angle.cosine == pytest.approx(1, abs=1e-12) and angle.norm_ratio == pytest.approx(1, abs=1e-12)
    assert same.decrease == same.reference_decrease > 0
    # A short step along the gradient lowers the loss by step length times slope.
    _, grads = ex.rules.BPTT().value_and_grad(net, trial)
    slopes = np.concatenate([np.ravel(x) for x in jax.tree.leaves(grads.projections)])
    size = np.sqrt(sum(float((p.weight**2).sum()) for p in net.projections.values()))
    assert same.decrease == pytest.approx(1e-3 * size * np.linalg.norm(slopes), rel=0.05)
    local = alignment(net, trial, ex.rules.EProp())
    other = ex.rules.EProp().value_and_grad(net, trial)[1]
    a, b = (np.ravel(g.projections["input->hidden"].weight) for g in (other, grads))
    assert local.projections["input->hidden"].cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert local.projections["input->hidden"].norm_ratio == pytest.approx(np.linalg.norm(a) / np.linalg.norm(b))
    # The readout's gradient is exact; the recurrent one is not.
    assert local.projections["hidden->readout"].cosine == pytest.approx(1, abs=1e-12)
    assert 0 < local.projections["hidden->hidden"].cosine < 0.9999
    assert 0 < local.decrease < same.decrease


def test_alignment_names_its_reference_and_zero_gradients(key: jax.Array) -> None:
    net = network(ex.neurons.LIF(6, threshold=0.3), key)
    trial = ex.Trial(jax.random.normal(key, (20, 4, 3)), jnp.ones((20, 4, 2)))
    rule = ex.rules.EProp(feedback="random")
    found = alignment(rule.bind(net, key), trial, rule)
    assert found.reference == "surrogate-gradient BPTT"
    still = alignment(net, ex.Trial(trial.inputs, net.run(trial.inputs).outputs), ex.rules.BPTT())
    assert np.isnan(still.projections["all"].cosine) and still.decrease == 0
