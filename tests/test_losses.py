"""Losses and rate regularisers against their formulas in NumPy (DESIGN.md, "Details that checks rely on")."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.losses import NAMES, FiringRate, Running, Sequence, Terminal, as_loss, cross_entropy, mean_squared_error

T, B, K = 9, 4, 3
RNG = np.random.default_rng(7)
Y = RNG.normal(size=(T, B, K))
REAL = RNG.normal(size=(T, B, K))
LABELS = RNG.integers(0, K, (T, B))
CLASSES = RNG.integers(0, K, B)
MASK = RNG.uniform(size=(T, B)) * (RNG.uniform(size=(T, B)) < 0.7)
WIDE = RNG.uniform(size=(T, B, K)) * (RNG.uniform(size=(T, B, K)) < 0.7)
LENGTHS = np.array([9, 5, 1, 7])
VALID = (np.arange(T)[:, None] < LENGTHS).astype(float)
X = np.zeros((T, B, 1))

pytestmark = pytest.mark.x64


def xent(y, classes):
    y = y - y.max(-1, keepdims=True)
    return np.log(np.exp(y).sum(-1)) - np.take_along_axis(y, classes[..., None], -1)[..., 0]


def trial(targets, mask=None, lengths=None):
    as_jax = lambda x: None if x is None else jnp.asarray(x)
    return ex.Trial(jnp.asarray(X), as_jax(targets), as_jax(mask), as_jax(lengths))


def value(loss, targets, mask=None, lengths=None, outputs=Y, **options):
    made = as_loss(loss, jnp.asarray(targets), **options)
    return float(made.value(jnp.asarray(outputs), trial(targets, mask, lengths)))


def mean_over_valid(lengths):
    valid = np.ones((T, B)) if lengths is None else VALID
    return (Y * valid[..., None]).sum(0) / valid.sum(0)[:, None]


PER_STEP = {"mse": (REAL, np.square(Y - REAL).mean(-1)), "cross_entropy": (LABELS, xent(Y, LABELS))}


@pytest.mark.parametrize("name", PER_STEP)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "mask"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_running_losses(name, mask, lengths):
    """sum(mask f(y, y*)) / sum(mask), over the whole batch; the default for real targets and for classes per step."""
    targets, each = PER_STEP[name]
    weight = (1 if mask is None else mask) * (np.ones((T, B)) if lengths is None else VALID)
    total, count = (weight * each).sum(), weight.sum()
    for chosen in (name, None):
        assert value(chosen, targets, mask, lengths) == pytest.approx(total / count, rel=1e-12)
        assert value(chosen, targets, mask, lengths, reduction="sum") == pytest.approx(total, rel=1e-12)
        assert value(chosen, targets, mask, lengths, scale=-2.5) == pytest.approx(-2.5 * total / count, rel=1e-12)
        assert value(chosen, targets, mask, lengths, reduction="sum", scale=0.5) == pytest.approx(total / 2, rel=1e-12)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_a_mask_may_have_an_axis_of_outputs(lengths):
    weight = WIDE * (np.ones((T, B)) if lengths is None else VALID)[..., None]
    total = (weight * np.square(Y - REAL)).sum()
    assert value("mse", REAL, WIDE, lengths) == pytest.approx(total / weight.sum(), rel=1e-12)
    assert value("mse", REAL, WIDE, lengths, reduction="sum") == pytest.approx(total, rel=1e-12)
    # A mask that is the same for all outputs is the mask without that axis.
    same = np.repeat(MASK[..., None], K, -1)
    assert value("mse", REAL, same, lengths) == pytest.approx(value("mse", REAL, MASK, lengths), rel=1e-12)
    with pytest.raises(ex.errors.LossError, match="mask"):
        value("cross_entropy", LABELS, WIDE)


OVER = {
    "mean": mean_over_valid,
    "last": lambda lengths: Y[-1] if lengths is None else Y[LENGTHS - 1, np.arange(B)],
    "count": lambda lengths: Y.sum(0) if lengths is None else (Y * VALID[..., None]).sum(0),
}


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "mask"])
def test_terminal_losses_use_lengths_and_never_the_mask(over, lengths, mask):
    m = OVER[over](lengths)
    each = xent(m, CLASSES)
    assert value(f"cross_entropy_{over}", CLASSES, mask, lengths) == pytest.approx(each.mean(), rel=1e-12)
    assert value(f"cross_entropy_{over}", CLASSES, mask, lengths, reduction="sum", scale=3.0) == pytest.approx(
        3 * each.sum(), rel=1e-12
    )
    if over == "mean":
        assert value(None, CLASSES, mask, lengths) == pytest.approx(each.mean(), rel=1e-12)
    if over != "count":
        wanted = np.square(m - REAL[0]).mean(-1).mean()
        assert value(f"mse_{over}", REAL[0], mask, lengths) == pytest.approx(wanted, rel=1e-12)


def test_the_default_is_chosen_by_the_targets():
    kinds = {"mse": REAL, "cross_entropy": LABELS, "cross_entropy_mean": CLASSES}
    for name, targets in kinds.items():
        default, named = as_loss(None, jnp.asarray(targets)), as_loss(name, jnp.asarray(targets))
        assert type(default) is type(named) and default.function is named.function
        assert getattr(default, "over", "") == getattr(named, "over", "")
    assert isinstance(as_loss(None, jnp.asarray(REAL)), Running) and isinstance(
        as_loss(None, jnp.asarray(CLASSES)), Terminal
    )


def test_a_function_of_one_step_and_a_loss_of_the_whole_sequence():
    cubic = lambda y, target: jnp.sum(jnp.abs(y - target) ** 3, axis=-1)
    each = (np.abs(Y - REAL) ** 3).sum(-1)
    weight = MASK * VALID
    assert value(cubic, REAL, MASK, LENGTHS) == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-12)
    smooth = Sequence(lambda y, t: jnp.mean(jnp.square(y[1:] - y[:-1]), axis=(0, 2)), scale=2.0)
    assert value(smooth, REAL) == pytest.approx(2 * np.square(np.diff(Y, axis=0)).mean(), rel=1e-12)
    own = Terminal(mean_squared_error, "last", reduction="sum")
    assert value(own, REAL[0]) == pytest.approx(np.square(Y[-1] - REAL[0]).mean(-1).sum(), rel=1e-12)
    with pytest.raises(ex.errors.LossError, match="one number a trial"):
        value(lambda y, target: jnp.square(y - target), REAL)


def test_a_mask_of_zeros_is_a_loss_of_zero_with_a_finite_gradient():
    outputs = jnp.asarray(Y)
    for targets in (REAL, LABELS):
        loss, empty = as_loss(None, jnp.asarray(targets)), trial(targets, np.zeros((T, B)))
        number, gradient = jax.value_and_grad(loss.value)(outputs, empty)
        assert number == 0 and np.all(np.asarray(gradient) == 0)


def test_gradients_are_the_textbooks():
    """d mse / dy = 2 (y - y*) mask / (K sum mask); d cross-entropy / dy = (softmax - onehot) mask / sum mask."""
    weight = MASK * VALID / (MASK * VALID).sum()
    of = lambda targets: jax.grad(
        lambda y: as_loss(None, jnp.asarray(targets)).value(y, trial(targets, MASK, LENGTHS))
    )(jnp.asarray(Y))
    assert np.allclose(of(REAL), weight[..., None] * 2 * (Y - REAL) / K, rtol=1e-12, atol=1e-15)
    softmax = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)
    assert np.allclose(of(LABELS), weight[..., None] * (softmax - np.eye(K)[LABELS]), rtol=1e-12, atol=1e-15)
    m = mean_over_valid(LENGTHS)
    share = (VALID / LENGTHS / B)[..., None]
    softmax = np.exp(m) / np.exp(m).sum(-1, keepdims=True)
    assert np.allclose(of(CLASSES), share * (softmax - np.eye(K)[CLASSES]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_votes_are_softmaxes_of_steps_that_count(lengths):
    counts = np.ones((T, B)) if lengths is None else VALID
    share = np.exp(Y) / np.exp(Y).sum(-1, keepdims=True)
    total = (counts[..., None] * share).sum(0)
    wanted = np.log(np.exp(total).sum(-1)) - total[np.arange(B), CLASSES]
    assert value("cross_entropy_votes", CLASSES, lengths=lengths) == pytest.approx(wanted.mean(), rel=1e-13)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "mse_mean"])
def test_padding_changes_nothing(name):
    targets = {
        "mse": REAL,
        "mse_last": REAL[0],
        "cross_entropy": LABELS,
        "ctc": LABELS[:1],
        "soft_cross_entropy": REAL,
    }.get(name, CLASSES)
    pad = lambda x: np.concatenate([x, np.full((5, *x.shape[1:]), 2, x.dtype)]) if x.shape[0] == T else x
    loss = as_loss(name, jnp.asarray(targets))
    wanted, gradient = jax.value_and_grad(loss.value)(jnp.asarray(Y), trial(targets, MASK, LENGTHS))
    longer = ex.Trial(jnp.asarray(pad(X)), jnp.asarray(pad(targets)), jnp.asarray(pad(MASK)), jnp.asarray(LENGTHS))
    found, padded = jax.value_and_grad(loss.value)(jnp.asarray(pad(Y)), longer)
    assert float(found) == pytest.approx(float(wanted), rel=1e-13)
    assert np.allclose(padded[:T], gradient, rtol=1e-13, atol=0) and np.all(np.asarray(padded[T:]) == 0)


@pytest.mark.unchecked
def test_what_does_not_fit_is_refused():
    for loss, targets, message in [
        ("cross_entropi", LABELS, "Did you mean 'cross_entropy'"),
        ("cross_entropy", REAL, "integer classes"),
        ("cross_entropy", CLASSES, r"\(time, batch\)"),
        ("cross_entropy_mean", LABELS, r"\(batch,\)"),
        ("mse", LABELS, "classes"),
        (None, REAL[0], r"\(time, batch, outputs\)"),
        (None, np.zeros((T, B, K), int), "class targets"),
    ]:
        with pytest.raises(ex.errors.ArgumentError, match=message):
            value(loss, targets)
    with pytest.raises(ex.errors.LossError, match="no targets"):
        as_loss(None, None)


# Through a rule: the loss that value_and_grad reports is the loss of the network's outputs.


@pytest.fixture(scope="module")
def net():
    with jax.enable_x64(True):
        return ex.Network(
            {"r": ex.neurons.LI(K, tau=3.0)}, [ex.Dense("x", "r")], inputs={"x": 2}, outputs="r", key=jax.random.key(0)
        )


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (None, REAL),
        (None, LABELS),
        (None, CLASSES),
        ("cross_entropy_last", CLASSES),
        ("mse_last", REAL[0]),
        ("mse_mean", REAL[0]),
    ],
)
def test_a_rule_reports_the_loss_of_the_outputs(net, loss, targets):
    inputs = jnp.asarray(RNG.normal(size=(T, B, 2)))
    given = trial(targets, MASK, LENGTHS).replace(inputs=inputs)
    outputs = np.asarray(net.run(inputs).outputs)
    rule = ex.rules.BPTT(loss=loss, reduction="sum", scale=0.5)
    wanted = value(loss, targets, MASK, LENGTHS, outputs, reduction="sum", scale=0.5)
    assert float(rule.value_and_grad(net, given)[0]) == pytest.approx(wanted, rel=1e-12)


def test_a_dict_of_losses_and_targets(net):
    inputs = jnp.asarray(RNG.normal(size=(T, B, 2)))
    two = ex.Network(
        {"r": ex.neurons.LI(K, tau=3.0), "s": ex.neurons.LI(K, tau=5.0)},
        [ex.Dense("x", "r"), ex.Dense("x", "s")],
        inputs={"x": 2},
        outputs={"a": "r", "b": "s"},
        key=jax.random.key(0),
    )
    given = ex.Trial(inputs, {"a": jnp.asarray(REAL), "b": jnp.asarray(CLASSES)}, jnp.asarray(MASK))
    outputs = {n: np.asarray(y) for n, y in two.run(inputs).outputs.items()}
    rule = ex.rules.BPTT(loss={"b": "cross_entropy_count"})
    parts = value("mse", REAL, MASK, outputs=outputs["a"]), value("cross_entropy_count", CLASSES, outputs=outputs["b"])
    assert float(rule.value_and_grad(two, given)[0]) == pytest.approx(sum(parts), rel=1e-12)
    with pytest.raises(ex.errors.ArgumentError, match="Did you mean 'b'"):
        dataclasses.replace(rule, loss={"bb": "mse"}).value_and_grad(two, given)
    with pytest.raises(ex.errors.ArgumentError, match="targets must be a dict"):
        rule.value_and_grad(two, given.replace(targets=jnp.asarray(REAL)))


# Firing rates.

DT, TARGET, C = 0.5, 40.0, 7.0
SPIKES = (RNG.uniform(size=(T, B, K)) < 0.3).astype(float)


@pytest.mark.parametrize("average", ["batch", "sample"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_firing_rate(average, lengths):
    """c/2 sum_j (f_j - f*)^2 with f_j in spikes/ms over all valid steps of all trials, or of each trial by itself."""
    valid = np.ones((T, B)) if lengths is None else VALID
    steps = valid.sum(0)
    regularizer = FiringRate(C, TARGET, average=average)

    def penalty(spikes):
        counts = jnp.einsum("tb,tbk->bk", jnp.asarray(valid), spikes)
        return regularizer.value(counts, jnp.asarray(steps), DT)

    counts = (SPIKES * valid[..., None]).sum(0)
    if average == "batch":
        wanted = C / 2 * np.square(counts.sum(0) / (steps.sum() * DT) - TARGET / 1000).sum()
    else:
        wanted = C / 2 * np.square(counts / (steps[:, None] * DT) - TARGET / 1000).sum(1).mean()
    assert wanted > 0.1
    assert float(penalty(jnp.asarray(SPIKES))) == pytest.approx(wanted, rel=1e-12)
    each = np.asarray(regularizer.cotangent(jnp.asarray(counts), jnp.asarray(steps), DT))
    slope = np.asarray(jax.grad(penalty)(jnp.asarray(SPIKES)))
    assert (
        np.allclose(slope, valid[..., None] * each, rtol=1e-12, atol=1e-16)
        and np.abs(slope).min(where=valid[..., None] > 0, initial=1) > 0
    )


def test_firing_rate_of_one_trial_is_the_same_in_both_conventions():
    counts, steps = jnp.array([[3.0, 0.0, 8.0]]), jnp.array([20.0])
    batch, sample = (FiringRate(C, TARGET, average=a) for a in ("batch", "sample"))
    assert float(batch.value(counts, steps, DT)) == pytest.approx(float(sample.value(counts, steps, DT)), rel=1e-14)
    assert np.allclose(batch.cotangent(counts, steps, DT), sample.cotangent(counts, steps, DT), rtol=1e-14)
    assert float(FiringRate(C, 0.0).value(jnp.zeros((2, 3)), jnp.array([5.0, 6.0]), DT)) == 0


def test_firing_rate_names_what_it_cannot_find(net):
    given = trial(REAL).replace(inputs=jnp.ones((T, B, 2)))
    for regularizer, message in [(FiringRate(1.0), "no spiking population"), (FiringRate(1.0, populations="q"), "'q'")]:
        with pytest.raises(ex.errors.RuleError, match=message):
            ex.rules.BPTT(regularizers=regularizer).value_and_grad(net, given)


def test_the_functions_of_one_step():
    assert np.allclose(mean_squared_error(jnp.asarray(Y[0]), jnp.asarray(REAL[0])), np.square(Y[0] - REAL[0]).mean(-1))
    assert np.allclose(cross_entropy(jnp.asarray(1e4 * Y[0]), jnp.asarray(LABELS[0])), xent(1e4 * Y[0], LABELS[0]))
