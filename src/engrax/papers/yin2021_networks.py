"""The networks that the tables on Yin et al. 2021 compare: recipes by kind, each with as many parameters as another.

    srnn     recurrent ALIF units with trained time constants, as published
    adlif    recurrent units with an adaptation current (SE-adLIF)
    rnn      tanh units without a leak
    lstm, gru
    tcn      three temporal convolutions of ReLU units, five taps each, 1, 4 and 16 steps apart
    ssm      two diagonal linear state-space layers (LRU), each followed by GELU units

All are read by leaky integrators with a trained time constant, answer by their mean (or step by step), and are trained
by BPTT.
"""

from collections.abc import Mapping
from typing import Any

from ..neurons import MODELS
from ..training.recipe import Recipe, parse

Table = dict[str, Any]
KINDS = ("srnn", "adlif", "rnn", "lstm", "gru", "tcn", "ssm")
SPIKING = ("srnn", "adlif")
# Time constants learn faster than weights, as in most published recipes.
FASTER = {"hidden.tau": 3.0, "hidden.tau_adaptation": 2.0}


def recipe(
    kind: str,
    task: Mapping[str, Any],
    units: int,
    training: Mapping[str, Any],
    rate: float,
    *,
    unit: Mapping[str, Any] | None = None,
    recurrent: bool = True,
    dropout: float = 0.0,
    multipliers: Mapping[str, float] | None = None,
) -> Recipe:
    """The recipe of a network of `units` units a layer.

    Args:
        kind: one of `KINDS`.
        task: its name and settings. training: [training]. rate: Adam's learning rate.
        unit: what else the hidden units are; None takes an entry away. recurrent: False leaves out their projection
            onto themselves. dropout: of the inputs, and of what the readout hears. multipliers: of learning rates;
            None: `FASTER` in spiking networks.
    """
    populations, projections = LAYOUTS[kind](units)
    if unit:
        populations["hidden"] = {k: v for k, v in {**populations["hidden"], **unit}.items() if v is not None}
    last = list(populations)[-1]
    readout = {"model": "LI", "size": "output", "tau": _time(10.0), "input_scale": "leak"}
    end = {"pre": last, "post": "readout", "bias": True, "init": "glorot_uniform"}
    projections = [*(p for p in projections if recurrent or p["pre"] != p["post"]), end]
    heard = [p.get("name", f"{p['pre']}->{p['post']}") for p in projections if p["pre"] == "input" or p is end]
    faster = dict((FASTER if kind in SPIKING else {}) if multipliers is None else multipliers)
    optimizer = {"name": "adam", "learning_rate": rate, "clip_norm": 1.5, "schedule": {"name": "cosine"}}
    return parse(
        {
            "description": f"{kind} of {units} units",
            "task": dict(task),
            "network": {
                "outputs": "readout",
                "populations": {**populations, "readout": readout},
                "projections": projections,
            },
            "rule": {"name": "bptt", "dropout": dict.fromkeys(heard, dropout)} if dropout else {"name": "bptt"},
            "optimizer": {**optimizer, "multipliers": faster} if faster else optimizer,
            "training": dict(training),
        }
    )


def units_for(kind: str, budget: int, inputs: int, outputs: int) -> int:
    """Units a layer with which a network of that kind comes nearest to a number of trained parameters."""
    count = lambda n: parameters(kind, n, inputs, outputs)
    upper = 1
    while count(upper) < budget:
        upper *= 2
    return min(range(max(upper // 2, 1), upper + 1), key=lambda n: abs(count(n) - budget))


def parameters(kind: str, units: int, inputs: int, outputs: int) -> int:
    """Trained parameters of such a network."""
    populations, projections = LAYOUTS[kind](units)
    sizes = {"input": inputs, **{name: p["size"] for name, p in populations.items()}}
    total = outputs * (units + 1) + 1  # readout, its bias and its time constant
    for population in populations.values():
        trained = [v for v in population.values() if isinstance(v, dict) and v.get("trainable")]
        # A value that is drawn is one a unit; any other is one for all.
        total += sum(population["size"] if "spread" in v or "value" not in v else 1 for v in trained)
    for projection in projections:
        name, _, port = projection["post"].partition(".")
        ports = 1 if port else len(MODELS[populations[name]["model"]].ports) or 1
        total += ports * sizes[name] * (sizes[projection["pre"]] + bool(projection.get("bias")))
    return total


def _time(value: float) -> Table:
    return {"value": value, "trainable": True, "positive": "log"}


def _drawn(mean: float, spread: float) -> Table:
    return {**_time(mean), "spread": spread}


def _within(low: float, high: float) -> Table:
    return {"bounds": [low, high], "trainable": True}


def _recurrent(unit: Table) -> tuple[dict[str, Table], list[Table]]:
    around = {"pre": "hidden", "post": "hidden", "init": "orthogonal"}
    return {"hidden": unit}, [{"pre": "input", "post": "hidden", "bias": True, "init": "glorot_uniform"}, around]


def _srnn(units: int) -> tuple[dict[str, Table], list[Table]]:
    return _recurrent(
        {
            "model": "ALIF",
            "size": units,
            "tau": _drawn(20.0, 5.0),
            "tau_adaptation": _drawn(150.0, 10.0),
            "threshold": 0.1,
            "beta": 1.8,
            "reset": "threshold",
            "input_scale": "leak",
            "surrogate": {"name": "multi_gaussian", "sigma": 0.5, "dampening": 0.5},
        }
    )


def _adlif(units: int) -> tuple[dict[str, Table], list[Table]]:
    return _recurrent(
        {
            "model": "AdLIF",
            "size": units,
            "tau": _within(5.0, 25.0),
            "tau_adaptation": _within(60.0, 300.0),
            "a": _within(0.0, 1.0),
            "b": _within(0.0, 2.0),
            "surrogate": {"name": "exponential", "height": 0.5, "width": 0.2},
        }
    )


def _rnn(units: int) -> tuple[dict[str, Table], list[Table]]:
    return _recurrent({"model": "Rate", "size": units, "tau": 1.0, "activation": "tanh"})


def _lstm(units: int) -> tuple[dict[str, Table], list[Table]]:
    return _recurrent({"model": "LSTM", "size": units, "forget_bias": 1.0})


def _gru(units: int) -> tuple[dict[str, Table], list[Table]]:
    ports = {"input": ("reset", "update", "candidate"), "hidden": ("reset", "update", "recurrent")}
    projections: list[Table] = [
        {
            "pre": pre,
            "post": f"hidden.{port}",
            "bias": pre == "input" or port == "recurrent",
            "init": "glorot_uniform" if pre == "input" else "orthogonal",
        }
        for pre, onto in ports.items()
        for port in onto
    ]
    return {"hidden": {"model": "GRU", "size": units}}, projections


TAPS = 5


def _tcn(units: int) -> tuple[dict[str, Table], list[Table]]:
    populations: dict[str, Table] = {}
    projections: list[Table] = []
    pre = "input"
    for layer, apart in enumerate((1, 4, 16)):
        post = f"layer{layer + 1}"
        populations[post] = {"model": "Relay", "size": units, "activation": "relu"}
        for tap in range(TAPS):
            name = f"{pre}->{post}.{tap}"
            options = {"name": name, "delay": tap * apart, "bias": tap == 0, "init": "fan_in_uniform"}
            projections.append({"pre": pre, "post": post, **options})
        pre = post
    return populations, projections


def _ssm(units: int) -> tuple[dict[str, Table], list[Table]]:
    populations: dict[str, Table] = {}
    projections: list[Table] = []
    pre = "input"
    for layer in ("1", "2"):
        populations[f"linear{layer}"] = {
            "model": "LRU",
            "size": units,
            "tau": _within(2.0, 200.0),
            "omega": _within(0.0, 0.6),
        }
        populations[f"gelu{layer}"] = {"model": "Relay", "size": units, "activation": "gelu"}
        projections += [
            {"pre": pre, "post": f"linear{layer}"},
            {"pre": f"linear{layer}", "post": f"gelu{layer}", "bias": True},
        ]
        pre = f"gelu{layer}"
    return populations, projections


LAYOUTS = {"srnn": _srnn, "adlif": _adlif, "rnn": _rnn, "lstm": _lstm, "gru": _gru, "tcn": _tcn, "ssm": _ssm}
