"""Convolutions and pooling: against matrices made by hand, the yardstick, and counts; and who refuses them."""

import itertools
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex
from engrax.errors import ArgumentError, NetworkError, RuleError
from engrax.meter import bill, observe
from engrax.testing.reference import dense_matrix, finite_differences, reference_gradient

STEPS, BATCH, OUTPUTS = 14, 2, 2
SHAPE = (2, 6, 5)
KERNELS = {
    "one place at a time": {"channels": 3, "kernel": 3},
    "strides": {"channels": 2, "kernel": (3, 2), "stride": (2, 1)},
    "zeros around": {"channels": 2, "kernel": (2, 3), "stride": (1, 2), "padding": "same"},
    "larger than the image": {"channels": 1, "kernel": (8, 7), "stride": 3, "padding": "same"},
}
WINDOWS = {
    "window": {"window": 2},
    "overlap": {"window": (3, 2), "stride": 1},
    "zeros": {"window": 3, "padding": "same"},
}


def units(shape):
    return math.prod(shape)


def numbers(key, shape, dtype):
    """An initialiser that compiles nothing."""
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape) / shape[-1] ** 0.5, dtype)


def made(kind, options):
    """A projection by itself, with its arrays."""
    p = kind("a", "b", shape=SHAPE, **({"init": numbers} if kind is ex.Convolution else {}), **options)
    return p.build(jax.random.key(0), (units(p.output_shape), units(SHAPE)), jnp.zeros(()).dtype)


def by_hand(p, image):
    """One image through a kernel, number by number, with the zeros that TensorFlow's "same" puts around."""
    (outs, rows, columns), (_, height, width) = p.output_shape, p.shape
    weight, found = np.asarray(p.weight), np.zeros(p.output_shape)
    pads = [0, 0]
    if p.padding == "same":
        wanted = [-(-n // s) for n, s in zip((height, width), p.stride)]
        pads = [max((m - 1) * s + k - n, 0) // 2 for m, s, k, n in zip(wanted, p.stride, p.kernel, (height, width))]
    for o, y, x in np.ndindex(outs, rows, columns):
        for c, i, j in np.ndindex(p.shape[0], *p.kernel):
            row, column = p.stride[0] * y + i - pads[0], p.stride[1] * x + j - pads[1]
            if 0 <= row < height and 0 <= column < width:
                pooled = weight.shape[1] < p.shape[0]
                w = weight[0, 0, i, j] * (o == c) if pooled else weight[o, c, i, j]
                found[o, y, x] += w * image[c, row, column]
    return found


CASES = [(ex.Convolution, o) for o in KERNELS.values()] + [(ex.AveragePool, o) for o in WINDOWS.values()]


@pytest.mark.x64
@pytest.mark.parametrize(("kind", "options"), CASES, ids=[*KERNELS, *WINDOWS])
def test_it_is_the_sum_over_the_kernel(kind, options):
    p, image = made(kind, options), numbers(None, (3, units(SHAPE)), jnp.zeros(()).dtype)
    found = p.drive(p.fan_out(p.effective()), image)
    assert found.shape == (3, units(p.output_shape))
    for one, x in zip(found, image, strict=True):
        np.testing.assert_allclose(one, by_hand(p, np.asarray(x).reshape(SHAPE)).ravel(), atol=1e-12)
    matrix = dense_matrix(p)
    np.testing.assert_allclose(image @ matrix.T, found, atol=1e-12)
    np.testing.assert_allclose(p.transpose(p.weight, found), found @ matrix, atol=1e-12)
    tied = jax.vjp(lambda w: dense_matrix(p.replace(weight=w)), p.weight)[1]
    if p.trainable:
        np.testing.assert_allclose(p.gradient(found[None], image[None]), tied(found.T @ image)[0], atol=1e-11)
    reached = np.count_nonzero(np.asarray(dense_matrix(p.replace(weight=jnp.ones_like(p.weight)))), axis=0)
    np.testing.assert_array_equal(p.connections(), reached)


def spiking(size):
    return ex.neurons.LIF(size, tau=8.0, threshold=0.6, refractory=2.0)


def front_end(model, **options):
    """Two convolutional layers, the second one recurrent; the spikes of both are pooled and read out."""
    first = ex.Convolution("input", "first", shape=SHAPE, bias=True, **{"channels": 2, "kernel": 3, **options})
    second = ex.Convolution("first", "second", shape=first.output_shape, channels=3, kernel=2, bias=True, name="deep")
    again = {"shape": second.output_shape, "channels": 3, "kernel": 3, "padding": "same"}
    near = ex.AveragePool("first", "near", shape=first.output_shape, window=2)
    far = ex.AveragePool("second", "far", shape=second.output_shape, window=2, stride=1, padding="same")
    populations = {
        "first": model(units(first.output_shape)),
        "second": model(units(second.output_shape)),
        "near": ex.neurons.Relay(units(near.output_shape)),
        "far": ex.neurons.Relay(units(far.output_shape)),
        "readout": ex.neurons.LI(OUTPUTS, tau=6.0),
    }
    projections = [first, second, ex.Convolution("second", "second", **again), near, far]
    projections += [ex.Dense("near", "readout"), ex.Dense("far", "readout", bias=True)]
    return populations, projections


def network(populations, projections):
    drawn = [p if p.given or not p.trainable else p.replace(init=numbers) for p in projections]
    ends = {"inputs": {"input": units(SHAPE)}, "outputs": "readout"}
    return ex.Network(populations, drawn, **ends, key=jax.random.key(0))


def trial_of():
    draw = np.random.default_rng(1)
    inputs = jnp.asarray(2 * draw.standard_normal((STEPS, BATCH, units(SHAPE))))
    targets = jnp.asarray(draw.standard_normal((STEPS, BATCH, OUTPUTS)))
    return ex.Trial(inputs, targets, lengths=jnp.array([STEPS, STEPS - 5]))


def as_matrices(net):
    """The same network without a convolution."""
    projections = []
    for p in net.projections.values():
        weight = p.weight if p.matrix else dense_matrix(p)
        bias = False if p.bias is None else jnp.repeat(p.bias, len(weight) // len(p.bias))
        projections.append(ex.Dense(p.pre, p.target, weight=weight, bias=bias, delay=p.delay, name=p.name))
    return network(dict(net.populations), projections)


def tied(net, gradient):
    """What a gradient by matrices is by kernels and channels: sums over what is tied."""
    found = {}
    for name, p in net.projections.items():
        weight, bias = gradient.projections[name].weight, gradient.projections[name].bias
        if not p.matrix:
            weight = jax.vjp(lambda w, p=p: dense_matrix(p.replace(weight=w)), p.weight)[1](weight)[0]
            bias = None if bias is None else jnp.sum(bias.reshape(p.channels, -1), axis=1)
        found[name] = (weight, bias)
    return found


def same(net, found, wanted, tolerance=1e-10):
    """Weights' and biases' gradients of what trains agree, and none is zero."""
    for name, p in net.projections.items():
        if not p.trainable:
            assert found.projections[name].weight is None, name
            continue
        for a, b in zip((found.projections[name].weight, found.projections[name].bias), wanted[name], strict=True):
            if a is not None:
                error, size = float(jnp.linalg.norm(a - b)), float(jnp.linalg.norm(b))
                assert error <= tolerance * size and size > 1e-6, (name, error, size)


def own(gradient):
    return {name: (p.weight, p.bias) for name, p in gradient.projections.items()}


MODELS = {"LIF": spiking, "Rate": ex.neurons.Rate, "ALIF": lambda n: ex.neurons.ALIF(n, threshold=0.6, beta=0.3)}
DENSE_CASES = [
    pytest.param(m, k, c, marks=() if (m, k, c) == ("LIF", "zeros around", 5) else pytest.mark.nightly)
    for m, k, c in itertools.product(MODELS, ("one place at a time", "strides", "zeros around"), (None, 5))
]


@pytest.mark.x64
@pytest.mark.parametrize(("model", "kernel", "checkpoint"), DENSE_CASES)
def test_it_is_a_matrix_with_tied_weights(model, kernel, checkpoint):
    """Outputs, and gradients by BPTT, whole and in chunks, with delays of convolutions."""
    net, trial = network(*front_end(MODELS[model], **KERNELS[kernel], delay=2)), trial_of()
    wide = as_matrices(net)
    record = net.run(trial.inputs, record=("first", "second"))
    np.testing.assert_allclose(record.outputs, wide.run(trial.inputs).outputs, atol=1e-11)
    if model != "Rate":
        assert all(0.02 < float(record[name].mean()) < 0.9 for name in ("first", "second"))
    loss, gradient = ex.rules.BPTT().value_and_grad(wide, trial)
    wanted = tied(net, gradient)
    value, found = ex.rules.BPTT(checkpoint=checkpoint).value_and_grad(net, trial)
    assert float(value) == pytest.approx(float(loss), rel=1e-12)
    same(net, found, wanted)


@pytest.mark.x64
def test_bptt_against_finite_differences():
    net, trial = network(*front_end(ex.neurons.Rate)), trial_of()
    _, found = ex.rules.BPTT().value_and_grad(net, trial)
    names = ("input->first", "deep", "second->second")
    whole, apart = jax.flatten_util.ravel_pytree([net.projections[name].weight for name in names])

    def value(weights):
        moved = dict(net.projections)
        for name, weight in zip(names, apart(weights), strict=True):
            moved[name] = moved[name].replace(weight=weight)
        error = net.replace(projections=type(net.projections)(moved)).run(trial.inputs).outputs - trial.targets
        return jnp.sum(trial.valid()[..., None] * error**2) / jnp.sum(trial.valid()) / OUTPUTS

    for name, wanted in zip(names, apart(finite_differences(value, whole)), strict=True):
        np.testing.assert_allclose(found.projections[name].weight, wanted, atol=1e-8)
        assert float(jnp.linalg.norm(wanted)) > 1e-4


def told_directly(net):
    """The network with projections of zeros wherever feedback has none to answer: errors go there all the same."""
    there = {(p.post, p.pre) for p in net.projections.values()}
    more = []
    for readout, learner in (name.split("->") for name in net.feedback):
        if (readout, learner) not in there:
            sizes = net.populations[readout].size, net.populations[learner].size
            more.append(ex.Dense(learner, readout, weight=jnp.zeros(sizes), trainable=False))
    wider = network(dict(net.populations), [*net.projections.values(), *more])
    kept = {name: net.projections.get(name, p) for name, p in wider.projections.items()}
    return wider.replace(feedback=net.feedback, projections=type(net.projections)(kept))


FEEDBACK = ("symmetric", "random", "adaptive", "uniform")
FEEDBACK_CASES = [
    pytest.param(m, f, marks=() if (m, f) in {("LIF", "random"), ("ALIF", "adaptive")} else pytest.mark.nightly)
    for m, f in itertools.product(MODELS, FEEDBACK)
]


@pytest.mark.x64
@pytest.mark.parametrize(("model", "feedback"), FEEDBACK_CASES)
def test_eprop_is_the_yardstick_that_cuts(model, feedback, key):
    net, trial = network(*front_end(MODELS[model])), trial_of()
    rule = ex.rules.EProp(feedback=feedback, regularizers=[] if model == "Rate" else [ex.losses.FiringRate(0.1)])
    bound = rule.bind(net, key)
    told = {"symmetric": set(), "adaptive": {"readout->near", "readout->far"}}
    assert set(bound.feedback) == told.get(feedback, {"readout->first", "readout->second"})
    loss, found = rule.value_and_grad(bound, trial)
    value, wanted = reference_gradient(rule, told_directly(bound), trial, True)
    assert float(loss) == pytest.approx(float(value), rel=1e-12)
    same(net, found, own(wanted))
    for name in () if feedback != "adaptive" else ("near", "far"):
        followed = found.projections[f"{name}->readout"].weight.T
        np.testing.assert_array_equal(found.feedback[f"readout->{name}"].weight, followed)


STRAIGHT = {"symmetric": ex.rules.EProp(), "random": ex.rules.EProp(feedback="random"), "bptt": ex.rules.BPTT()}


def straight():
    first = ex.Convolution("input", "first", shape=SHAPE, channels=2, kernel=3, reverse=True)
    gate = ex.Convolution("first", "cell.forget", shape=first.output_shape, channels=1, kernel=2, name="gate")
    onto = ex.Convolution("first", "readout", shape=first.output_shape, channels=2, kernel=(4, 3))
    populations = {"first": spiking(units(first.output_shape)), "cell": ex.neurons.LSTM(units(gate.output_shape))}
    populations |= {"readout": ex.neurons.LI(OUTPUTS)}
    return network(populations, [first, ex.Dense("input", "cell"), gate, onto, ex.Dense("cell", "readout")])


@pytest.mark.x64
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "symmetric" else pytest.mark.nightly) for n in STRAIGHT]
)
def test_straight_onto_a_readout_and_a_port_and_in_reversed_time(name, key):
    net, trial, rule = straight(), trial_of(), STRAIGHT[name]
    bound = rule.bind(net, key)
    _, found = rule.value_and_grad(bound, trial)
    same(net, found, own(reference_gradient(rule, bound, trial, rule.reference == "local")[1]))


def test_feedback_that_needs_a_matrix_refuses_a_kernel(key):
    net = straight()
    with pytest.raises(RuleError, match=r"cannot follow the convolution 'first->readout'.*Relay"):
        ex.rules.EProp(feedback="adaptive").bind(net, key)
    with pytest.raises(RuleError, match=r"deal out.*first->readout"):
        ex.rules.EProp(feedback="shuffled").value_and_grad(net, trial_of(), key)


def test_adaptive_feedback_goes_only_where_something_learns(key):
    """Units without state that no learner is behind are told nothing; where nothing can be followed it is said."""
    pool = ex.AveragePool("input", "small", shape=SHAPE, window=2)
    conv = ex.Convolution("input", "hidden", shape=SHAPE, channels=3, kernel=3)
    behind = ex.AveragePool("hidden", "pooled", shape=conv.output_shape, window=2)
    sizes = {"small": units(pool.output_shape), "pooled": units(behind.output_shape)}
    populations = {n: ex.neurons.Relay(size) for n, size in sizes.items()}
    populations |= {"hidden": spiking(units(conv.output_shape)), "readout": ex.neurons.LI(OUTPUTS)}
    onto = [ex.Dense("small", "readout"), ex.Dense("pooled", "readout")]
    rule = ex.rules.EProp(feedback="adaptive")
    assert set(rule.bind(network(populations, [pool, conv, behind, *onto]), key).feedback) == {"readout->pooled"}
    del populations["pooled"]
    with pytest.raises(RuleError, match="'hidden' needs a projection hidden->readout"):
        rule.bind(network(populations, [pool, conv, onto[0]]), key)


def events_of(net):
    raster = jnp.asarray(np.random.default_rng(2).random((STEPS, BATCH, units(SHAPE))) < 0.3, net.dtype)
    trial = trial_of().replace(inputs=raster)
    return trial, trial.replace(inputs=ex.Events.of(raster))


@pytest.mark.x64
@pytest.mark.parametrize("delay", [3, *(pytest.param(d, marks=pytest.mark.nightly) for d in (0, STEPS + 1))])
def test_events_are_rasters(delay):
    conv = ex.Convolution("input", "hidden", shape=SHAPE, channels=2, kernel=3, bias=True, delay=delay)
    populations = {"hidden": spiking(units(conv.output_shape)), "readout": ex.neurons.LI(OUTPUTS)}
    net = network(populations, [conv, ex.Dense("hidden", "readout")])
    raster, events = events_of(net)
    np.testing.assert_allclose(net.run(events.inputs).outputs, net.run(raster.inputs).outputs, atol=1e-12)
    (a, found), (b, wanted) = (ex.rules.BPTT().value_and_grad(net, t) for t in (events, raster))
    assert float(a) == pytest.approx(float(b), rel=1e-12)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)
    assert delay > STEPS or float(jnp.linalg.norm(found.projections["input->hidden"].weight)) > 1e-3


@pytest.mark.x64
@pytest.mark.parametrize("evaluation", ["online", pytest.param("chunked", marks=pytest.mark.nightly)])
def test_what_is_fixed_may_be_there_online(evaluation):
    """A pooled input, and pooled spikes under broadcast feedback, have nothing that shares a trained weight."""
    pool = ex.AveragePool("input", "small", shape=SHAPE, window=2)
    sizes = units(pool.output_shape)
    populations = {"small": ex.neurons.Relay(sizes), "hidden": spiking(9), "pooled": ex.neurons.Relay(3)}
    populations |= {"readout": ex.neurons.LI(OUTPUTS)}
    projections = [pool, ex.Dense("small", "hidden", bias=jnp.ones(9)), ex.Dense("hidden", "hidden", autapses=False)]
    projections += [ex.AveragePool("hidden", "pooled", shape=(3, 3, 1), window=(3, 1)), ex.Dense("pooled", "readout")]
    net, trial = network(populations, projections), trial_of()
    wanted = own(ex.rules.EProp(feedback="random").value_and_grad(net, trial)[1])
    rule = ex.rules.EProp(feedback="random", evaluation=evaluation, chunk=6)
    same(net, rule.value_and_grad(net, trial)[1], wanted)


def test_step_by_step_rules_refuse_it_by_name():
    net, trial = network(*front_end(spiking)), trial_of()
    refused = r"'input->first' is a convolution.*evaluation='offline'"
    for evaluation in ("online", "chunked"):
        with pytest.raises(RuleError, match=refused):
            ex.rules.EProp(evaluation=evaluation).value_and_grad(net, trial)
    with pytest.raises(RuleError, match=refused):
        ex.rules.EProp().init(net, BATCH)
    with pytest.raises(RuleError, match=refused):
        ex.meter.learning(net, trial, ex.rules.EProp())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (2, 6)}, r"shape must be \(channels, height, width\)"),
        ({"shape": 6}, "shape must be"),
        ({"shape": (2, 0, 5)}, "shape must be"),
        ({"channels": 0}, "channels must be an integer"),
        ({"channels": True}, "channels must be an integer"),
        ({"kernel": (1, 2, 3)}, "kernel must be one or two integers"),
        ({"kernel": 2.5}, "kernel must be"),
        ({"stride": 0}, "stride must be"),
        ({"padding": "sam"}, "padding.*sam.*same"),
        ({"kernel": 6}, r"6 x 6 does not fit into an image of 6 x 5.*padding='same'"),
        ({"autapses": False}, "autapses=False has no meaning"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    with pytest.raises(ArgumentError, match=f"(?s)'a->b'.*{message}|{message}"):
        ex.Convolution("a", "b", **{"shape": SHAPE, "channels": 2, "kernel": 3, **options})


def test_wrong_sizes_are_refused_with_the_right_ones(key):
    def net(inputs=60, hidden=24, neuron=ex.neurons.LIF, **options):
        conv = ex.Convolution("input", "hidden", **{"shape": SHAPE, "channels": 2, "kernel": 3, **options})
        ends = {"hidden": neuron(hidden), "readout": ex.neurons.LI(OUTPUTS)}
        return ex.Network(
            ends, [conv, ex.Dense("hidden", "readout")], inputs={"input": inputs}, outputs="readout", key=key
        )

    assert net(bias=True).projections["input->hidden"].bias.shape == (2,)
    with pytest.raises(NetworkError, match=r"'input->hidden': 'input' must have 2 x 6 x 5 = 60 units.*has 61"):
        net(inputs=61)
    with pytest.raises(NetworkError, match=r"'input->hidden': 'hidden' must have 2 x 4 x 3 = 24 units.*has 25"):
        net(hidden=25)
    with pytest.raises(NetworkError, match=r"weight must have shape \(2, 2, 3, 3\)"):
        net(weight=jnp.ones((2, 2, 3)))
    with pytest.raises(NetworkError, match=r"bias must have shape \(2,\)"):
        net(bias=jnp.ones(24))
    with pytest.raises(NetworkError, match="name a port of 'hidden'"):
        net(neuron=ex.neurons.LSTM)


def test_operations_are_those_that_brute_force_counts():
    """Each event at each place, each place that the kernel reaches it from."""
    kernel = {"shape": SHAPE, "channels": 3, "kernel": (3, 2), "stride": (2, 1), "padding": "same"}
    conv = ex.Convolution("input", "hidden", **kernel)
    pool = ex.AveragePool("hidden", "relay", shape=conv.output_shape, window=2, stride=1)
    populations = {"hidden": ex.neurons.LIF(units(conv.output_shape), threshold=0.3)}
    populations |= {"relay": ex.neurons.Relay(units(pool.output_shape)), "readout": ex.neurons.LI(OUTPUTS)}
    net = network(populations, [conv, pool, ex.Dense("relay", "readout")])
    trial, _ = events_of(net)

    def counted(trial):
        return bill(net, observe(net, trial, net.run(trial.inputs, record=("hidden",)))).items

    def reached(p, c, row, column):
        """Targets whose kernel covers a place of the source, by trying all."""
        total, (_, height, width) = 0, p.shape
        for o, y, x, i, j in np.ndindex(*p.output_shape, *p.kernel):
            pads = [0, 0]
            if p.padding == "same":
                around = zip(p.output_shape[1:], p.stride, p.kernel, (height, width))
                pads = [max((m - 1) * s + k - n, 0) // 2 for m, s, k, n in around]
            here = (y * p.stride[0] + i - pads[0], x * p.stride[1] + j - pads[1])
            total += here == (row, column) and (o == c or not isinstance(p, ex.AveragePool))
        return total

    found, valid = counted(trial), np.asarray(trial.valid())[..., None]
    spikes = np.asarray(net.run(trial.inputs, record="hidden")["hidden"]) * valid
    assert 0 < spikes.sum() < spikes.size
    for name, p, sent in (("hidden", conv, np.asarray(trial.inputs) * valid), ("relay", pool, spikes)):
        events = np.sum(sent != 0, axis=(0, 1)).reshape(p.shape)
        wanted = sum(n * reached(p, *place) for place, n in np.ndenumerate(events))
        assert found[name].ac == pytest.approx(wanted / BATCH) and found[name].mac == 0
    every = sum(reached(conv, *place) for place in np.ndindex(SHAPE))
    graded = counted(trial.replace(inputs=trial.inputs.at[0, 0, 0].set(0.5)))["hidden"]
    assert graded.ac == 0 and graded.mac == pytest.approx(valid.sum() * every / BATCH)
    assert found["readout"].mac == valid.sum() / BATCH * units(pool.output_shape) * OUTPUTS
    assert found["relay"].update == 0
