"""Correct code with one argument replaced by garbage: a typed error comes, and its message names the argument."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import engrax as ex

pytestmark = pytest.mark.unchecked

NAN, INF = float("nan"), float("inf")
THING = object()
WORDS = ("abc", "", THING, None)
NO_NUMBER = (*WORDS, True, {}, [1.0, "a"], 1j, NAN)
NO_POSITIVE = (*NO_NUMBER, -1.0, 0.0)
NO_PARAMETER = (
    "abc",
    None,
    THING,
    {},
    True,
    [1.0, "a"],
    [],
    1j,
    NAN,
    INF,
    [1.0, NAN, 2.0],
    np.ones(2),
    np.ones((3, 1)),
)
NO_COUNT = ("abc", None, THING, True, 1.5, NAN, 0, -1, [2], np.ones(2))
NO_STEPS = ("abc", THING, True, 1.5, NAN, 0, -1, [2])
NO_CHOICE = ("abc", "", None, 5, THING, ["one"], np.ones(2))
NO_FLAG = ("yes", None, 1, 0.0, THING, [True], np.ones(2))
NO_KEY = ("abc", 5, 1.5, THING, [0, 1], jnp.zeros(3), np.ones((2, 2)))
N, S = ex.neurons, ex.surrogates

SIZED = {"size": NO_COUNT, "dt": (*NO_POSITIVE, INF, [1.0])}
TAU = (*NO_PARAMETER, 0.0, -1.0, [1.0, 0.0, 2.0])
SURROGATE = ("abc", None, 5, S.Triangular, [1.0])
LIF = {
    **SIZED,
    "tau": TAU,
    "threshold": TAU,
    "refractory": (*NO_PARAMETER, -1.0, ex.trainable(2.0)),
    "reset": NO_CHOICE,
    "input_scale": NO_CHOICE,
    "surrogate": SURROGATE,
}
WIDTH = tuple(x for x in (*NO_POSITIVE, INF, [1.0]) if x is not None)
REAL = (*NO_POSITIVE, INF, [1.0])
PROJECTION = {
    "pre": ("", THING, None, 5, ["a"]),
    "post": ("", THING, None, 5, ["a"], "h."),
    "weight": ("abc", THING, {}, [[1.0, 2.0], [3.0]], NAN, INF, 1j * np.ones((3, 2))),
    "bias": ("abc", THING, {}, [[1.0, 2.0], [3.0]], [NAN], 1j * np.ones(3)),
    "delay": ("abc", THING, True, 1.5, NAN, -1, [1]),
    "init": ("abc", "", None, 5, [1.0]),
    "autapses": NO_FLAG,
    "trainable": NO_FLAG,
    "name": ("", 5, THING, ["a"]),
}
LOSS = {
    "loss": ("abc", "", 5, [1.0], {"r": 5}, {"r": "abc"}),
    "reduction": NO_CHOICE[:-1],
    "scale": (*NO_NUMBER, INF, [1.0]),
    "regularizers": ("abc", 5, None, THING, [5], ex.losses.FiringRate),
}


@functools.cache
def net():
    return ex.Network(
        {"h": N.LIF(3), "r": N.LI(2)},
        [ex.Dense("x", "h"), ex.Dense("h", "h"), ex.Dense("h", "r")],
        inputs={"x": 2},
        outputs="r",
        key=jax.random.key(0),
    )


def inputs(*shape):
    return jnp.ones(shape or (4, 3, 2))


def trial(**changed):
    return ex.Trial(**{"inputs": inputs(), "targets": jnp.zeros((4, 3, 2)), **changed})


def on_trial(**changed):
    """Use a trial: shapes can only be compared there."""
    return ex.rules.BPTT().value_and_grad(net(), trial(**changed))


EPROP = ex.rules.EProp()


@functools.cache
def stream():
    return EPROP.init(net(), 3)


# What to call, with which correct arguments, and the garbage for each of them.
CALLS = {
    "LIF": (N.LIF, {"size": 3}, LIF),
    "ALIF": (N.ALIF, {"size": 3}, {**LIF, "tau_adaptation": TAU, "beta": (*NO_PARAMETER, -1.0)}),
    "CuBaLIF": (N.CuBaLIF, {"size": 3}, {**LIF, "tau_synapse": TAU}),
    "LI": (N.LI, {"size": 3}, {**SIZED, "tau": TAU, "input_scale": NO_CHOICE}),
    "Rate": (N.Rate, {"size": 3}, {**SIZED, "tau": TAU, "activation": ("abc", "", None, 5, [1.0])}),
    "LSTM": (N.LSTM, {"size": 3}, {**SIZED, "forget_bias": NO_PARAMETER}),
    "Triangular": (S.Triangular, {}, {"dampening": REAL, "width": WIDTH}),
    "Gaussian": (S.Gaussian, {}, {"sigma": REAL, "dampening": REAL}),
    "MultiGaussian": (S.MultiGaussian, {}, {"sigma": REAL, "h": REAL, "s": REAL, "dampening": REAL}),
    "FastSigmoid": (S.FastSigmoid, {}, {"height": REAL, "width": WIDTH}),
    "Arctan": (S.Arctan, {}, {"height": REAL, "width": WIDTH}),
    "Exponential": (S.Exponential, {}, {"height": REAL, "width": WIDTH}),
    "Custom": (S.Custom, {"function": jnp.cos}, {"function": ("abc", None, 5)}),
    "trainable": (
        ex.trainable,
        {"x": 1.0, "positive": True},
        {"x": ("abc", None, THING, {}, True, [1.0, "a"], 1j, NAN, INF, 0.0, -1.0), "positive": NO_FLAG},
    ),
    "Dense": (ex.Dense, {"pre": "a", "post": "b"}, PROJECTION),
    "Masked": (
        ex.Masked,
        {"pre": "a", "post": "b", "mask": [[1.0]]},
        {**PROJECTION, "mask": ("abc", THING, {}, [[1.0, 2.0], [3.0]], [[NAN]], [[0.5]], [[-1.0]], None)},
    ),
    "Masked by density": (
        ex.Masked,
        {"pre": "a", "post": "b", "density": 0.5},
        {"density": ("abc", THING, True, NAN, 0.0, -0.5, 1.5, [0.5], None)},
    ),
    "Network": (
        ex.Network,
        {
            "populations": {"h": N.LIF(3), "r": N.LI(2)},
            "projections": [ex.Dense("x", "h"), ex.Dense("h", "r")],
            "inputs": {"x": 2},
            "outputs": "r",
            "key": jax.random.key(0),
        },
        {
            "populations": ("abc", None, 5, {}, [N.LIF(3)], {"h": 5}, {"h": N.LIF}, {5: N.LIF(3)}, {"": N.LIF(3)}),
            "projections": (
                "abc",
                None,
                5,
                ex.Dense("x", "h"),
                [5],
                ["x->h"],
                {"x->h": ex.Dense("x", "h")},
                [ex.Dense],
            ),
            "inputs": ("abc", None, 5, {}, ["x"], {"x": 0}, {"x": -1}, {"x": 2.5}, {"x": None}, {5: 2}, {"x": True}),
            "outputs": ("abc", "", None, 5, {}, ["r"], {"y": "abc"}, {"y": 5}, {5: "r"}, "r.abc", "r.current", THING),
            "dt": (*NO_POSITIVE, INF, [1.0]),
            "key": (*NO_KEY, None),
        },
    ),
    "Trial": (
        ex.Trial,
        {"inputs": inputs(), "targets": jnp.zeros((4, 3, 2))},
        {
            "inputs": ("abc", None, 5, THING, {}, inputs(4, 3), {"x": "abc"}, {"x": inputs(4, 3)}, [inputs()]),
            "targets": ("abc", 5, THING, {}, {"y": "abc"}),
            "mask": (
                "abc",
                5,
                THING,
                jnp.ones(4),
                jnp.ones((4, 3, 2, 1)),
                jnp.ones((5, 3)),
                jnp.ones((4, 2)),
                {"y": jnp.ones((4, 3))},
            ),
            "lengths": (
                "abc",
                5,
                THING,
                jnp.ones(2, int),
                jnp.ones(3),
                jnp.array([4, 5, 1]),
                jnp.array([0, -1, 1]),
                jnp.ones((3, 1), int),
            ),
        },
    ),
    "a trial's shapes": (
        on_trial,
        {},
        {
            "inputs": (inputs(4, 3, 5), {"y": inputs()}),
            "targets": (
                None,
                jnp.zeros((4, 3)),
                jnp.zeros((4, 3, 5)),
                jnp.zeros((5, 3, 2)),
                jnp.zeros((4, 5), int),
                jnp.zeros(5, int),
            ),
            "mask": (jnp.ones((4, 3, 5)),),
        },
    ),
    "FiringRate": (
        ex.losses.FiringRate,
        {"coefficient": 1.0},
        {
            "coefficient": (*NO_NUMBER, INF, -1.0, [1.0]),
            "target": (*NO_NUMBER, INF, -1.0, [1.0]),
            "populations": (5, THING, [5], {"h": 1}, [""]),
            "average": NO_CHOICE,
            "running": NO_FLAG,
        },
    ),
    "BPTT": (
        ex.rules.BPTT,
        {},
        {
            **LOSS,
            "checkpoint": ("abc", THING, False, 1.5, NAN, 0, -1, [2]),
            "truncation": NO_STEPS,
            "memory_budget": tuple(x for x in (*NO_POSITIVE, [1.0]) if x is not None),
        },
    ),
    "BPTT's two blocks": (ex.rules.BPTT, {"checkpoint": 3, "truncation": 6}, {"truncation": (7,), "checkpoint": (4,)}),
    "EProp": (
        EPROP.__class__,
        {},
        {
            **LOSS,
            "feedback": NO_CHOICE,
            "evaluation": NO_CHOICE,
            "chunk": NO_STEPS,
            "seed": ("abc", None, THING, True, 1.5, NAN, -1),
            "memory_budget": (*NO_POSITIVE, [1.0]),
        },
    ),
    "value_and_grad": (
        lambda **a: ex.rules.BPTT().value_and_grad(**a),
        {"net": net, "trial": trial},
        {"net": ("abc", None, N.LIF(3)), "trial": ("abc", None, inputs()), "key": NO_KEY},
    ),
    "bind": (
        lambda **a: ex.rules.EProp(feedback="random").bind(**a),
        {"net": net, "key": jax.random.key(0)},
        {"net": ("abc", None, N.LIF(3)), "key": (*NO_KEY, None)},
    ),
    "init": (
        lambda **a: EPROP.init(**a),
        {"net": net, "batch": 3},
        {"net": ("abc", None, N.LIF(3)), "batch": NO_COUNT, "key": NO_KEY},
    ),
    "update": (
        lambda **a: EPROP.update(**a),
        {"net": net, "state": stream, "x": jnp.ones((3, 2)), "target": jnp.zeros((3, 2))},
        {
            "net": ("abc", None, N.LIF(3)),
            "state": ("abc", None, 5, lambda: net().init_state(3), lambda: EPROP.init(net(), 2)),
            "x": ("abc", None, 5, THING, jnp.ones((3, 5)), jnp.ones(2), {"y": jnp.ones((3, 2))}, jnp.ones((2, 2))),
            "target": ("abc", THING, {"r": jnp.zeros((3, 2))}, jnp.zeros((3, 5)), jnp.zeros(3), jnp.zeros(4, int), 5),
            "mask": ("abc", None, THING, jnp.ones(2), jnp.ones((3, 3))),
            "reset": ("abc", 5, THING, jnp.ones(2, bool), jnp.ones((3, 3), bool), jnp.ones(3)),
            "signal": (jnp.zeros((3, 2)),),
        },
    ),
    "update by signal": (
        lambda **a: EPROP.update(**a),
        {"net": net, "state": stream, "x": jnp.ones((3, 2)), "signal": jnp.zeros((3, 2))},
        {"signal": ("abc", THING, 5, jnp.zeros((3, 5)), jnp.zeros(3), {"r": jnp.zeros((3, 2))})},
    ),
    "run": (
        lambda **a: net().run(**a),
        {"inputs": inputs()},
        {
            "inputs": (
                "abc",
                None,
                5,
                THING,
                {},
                inputs(4, 3),
                inputs(4, 3, 5),
                {"y": inputs()},
                {"x": "abc"},
                inputs().astype(complex),
            ),
            "state": ("abc", 5, {}, lambda: net().init_state(2), lambda: net().init_state(3).neurons),
            "key": NO_KEY,
            "record": (5, None, THING, ["abc"], ["h.abc"], [5], "abc", [None]),
        },
    ),
    "step": (
        lambda **a: net().step(**a),
        {"state": lambda: net().init_state(3), "x": jnp.ones((3, 2))},
        {
            "state": ("abc", None, 5, {}, lambda: net().init_state(2)),
            "x": (
                "abc",
                None,
                5,
                THING,
                {},
                jnp.ones(2),
                jnp.ones((3, 5)),
                jnp.ones((1, 3, 2)),
                {"y": jnp.ones((3, 2))},
            ),
        },
    ),
    "init_state": (lambda **a: net().init_state(**a), {"batch": 3}, {"batch": NO_COUNT}),
    "initialize": (lambda **a: net().initialize(**a), {"key": jax.random.key(0)}, {"key": (*NO_KEY, None)}),
}

TABLE = [
    pytest.param(name, argument, value, id=f"{name}-{argument}-{i}")
    for name, (_, _, garbage) in CALLS.items()
    for argument, values in garbage.items()
    for i, value in enumerate(values)
]
# What a message may call an argument besides its own name.
ALSO = {
    "populations": "population",
    "projections": "projection",
    "inputs": "input",
    "outputs": "output",
    "x": "inputs?",
    "init": "initialiser",
}


def _built(arguments):
    lazy = (net, trial, stream)
    return {
        n: x() if any(x is f for f in lazy) or getattr(x, "__name__", "") == "<lambda>" else x
        for n, x in arguments.items()
    }


@pytest.mark.parametrize("name", CALLS)
def test_the_correct_call_is_accepted(name):
    call, arguments, garbage = CALLS[name]
    assert call(**_built(arguments)) is not None
    assert garbage


@pytest.mark.parametrize(("name", "argument", "value"), TABLE)
def test_garbage_is_named(name, argument, value):
    call, arguments, _ = CALLS[name]
    with pytest.raises(ex.EngraxError) as caught:
        call(**{**_built(arguments), **_built({argument: value})})
    named = rf"\b({argument}|{ALSO.get(argument, argument)})\b"
    assert re.search(named, str(caught.value)), f"{argument!r} is not named in: {caught.value}"


@pytest.mark.parametrize("name", [n for n in dir(ex.errors) if n.endswith("Error")])
def test_every_error_is_one_family(name):
    error = getattr(ex.errors, name)
    assert issubclass(error, ex.EngraxError)
    outside = ("DataError", "WorldError")  # a file's or another program's failure, not a wrong value
    assert name in ("EngraxError", *outside) or issubclass(error, ValueError)
