"""Murray 2019: local online learning in recurrent networks with random feedback (eLife 8:e43299), Fig. 2."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..network import Network
from ..neurons.rate import Rate
from ..neurons.relay import Relay
from ..rules.bptt import BPTT
from ..rules.feedback_bptt import FeedbackBPTT
from ..rules.rflo import RFLO
from ..rules.rtrl import RTRL
from ..rules.rule import Rule
from ..synapses import Dense, Projection, Signed
from ..tasks import get
from ..training import TrainingError, fit
from ..training.store import read_json, write_json
from ..trial import Trial
from .experiment import Experiment, Found, interval

PAPER = "murray2019"
SOURCE = "Murray 2019, eLife 8:e43299"
TAU, UNITS, SEEDS, TRIALS = 10.0, 30, 9, 10000
# Mean squared error of no output at all: twice the paper's loss, which has a factor of one half.
SILENCE = (1 + 1 / 4 + 1 / 16) / 2

# By rule: the learning rate at 20, 40, 80 and 160 time constants. The paper's; `locality` finds those of single
# approximations.
RATES = {"rflo": (0.03, 0.01, 0.001, 0.0003), "bptt": (0.03, 0.03, 0.01, 0.03)}
LENGTHS = (20, 40, 80, 160)
GRID = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


def network(units: int = UNITS, variant: str = "", gain: float = 1.5) -> Network:
    """The paper's network: leaky rate units without input, started at 0.1.

    variant: "readout frozen"; "readout alone": nothing else learns, and the readout drives the units by fixed random
    weights; "dale": half the units excite, half inhibit, balanced unit by unit, and a weight that would change its
    sign becomes zero.
    """
    alone, hidden = variant == "readout alone", {"name": "fan_in_normal", "scale": gain}
    around: Projection = (
        Signed("hidden", "hidden", excitatory=0.5, init=hidden)
        if variant == "dale"
        else Dense("hidden", "hidden", init=hidden, trainable=not alone)
    )
    out = Dense("hidden", "readout", init="fan_in_uniform", trainable=variant != "readout frozen")
    back = [Dense("readout", "hidden", init="fan_in_normal", trainable=False)] if alone else []
    return Network(
        {"hidden": Rate(units, tau=TAU, initial=0.1), "readout": Relay(1)},
        [around, out, *back],
        inputs={"input": 1},
        outputs="readout",
        key=jax.random.key(0),
    )


def rule_of(name: str) -> Rule:
    """The rule, or one of its approximations alone; losses with the paper's factor of one half."""
    made: dict[str, Rule] = {
        "rflo": RFLO(scale=0.5),
        "bptt": BPTT(scale=0.5),
        "local only": RFLO(feedback="symmetric", scale=0.5),
        "random only": FeedbackBPTT(scale=0.5),
        "rtrl": RTRL(scale=0.5),
    }
    return made[name]


def trained(
    rule: str,
    periods: int,
    rate: float,
    folder: Path,
    say: Callable[[str], None],
    trials: int = TRIALS,
    seeds: Sequence[int] = tuple(range(SEEDS)),
    units: int = UNITS,
    variant: str = "",
) -> dict[str, Any]:
    """Networks trained on a period of so many time constants: mean loss of the last 100 trials, the curve in 50
    stretches, and the cosine of readout and feedback weights along training, each by seed."""
    label = f"{rule} {variant}".strip().replace(" ", "_")
    name = f"{label}-{periods}-{rate:g}-{trials}-{units}-{len(seeds)}-{seeds[0]}"
    path = folder.parent / "periodic-runs" / f"{name}.json"
    if path.is_file():
        known: dict[str, Any] = read_json(path)
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    overlaps: list[list[float]] = []

    def watch(step: int, nets: Network) -> dict[str, Any]:
        overlaps.append(_cosines(nets))
        return {}

    task = get("periodic", period=int(periods * TAU))
    run = fit(
        network(units, variant),
        task,
        rule_of(rule),
        optax.sgd(rate),
        trials,
        batch=1,
        seeds=list(seeds),
        validate_every=max(1, trials // 10),
        watch=watch,
        progress=False,
    )
    losses = 2 * np.asarray(run.losses, np.float64)  # without the factor of one half
    stretches = losses.reshape(len(seeds), 50, -1).mean(axis=2) if trials % 50 == 0 else losses[:, :1]
    found = {
        "rule": rule,
        "periods": periods,
        "rate": rate,
        "final": losses[:, -100:].mean(axis=1).tolist(),
        "curve": stretches.tolist(),
        "overlap": overlaps,
        "seconds": run.seconds,
    }
    write_json(path, found)
    low, middle, high = np.percentile(found["final"], (25, 50, 75))
    say(f"{name}: {middle:.2e} [{low:.2e}, {high:.2e}], {run.seconds:.0f} s")
    return found


def _cosines(nets: Network) -> list[float]:
    """Of readout and feedback weights, by seed; 0 where there is no feedback."""
    weight = nets.projections["hidden->readout"].weight
    assert weight is not None
    if not nets.feedback:
        return [0.0] * len(weight)
    back = next(iter(nets.feedback.values())).weight
    pairs = zip(np.asarray(weight), np.asarray(back), strict=True)
    return [float(np.vdot(w.T, b) / np.linalg.norm(w) / np.linalg.norm(b)) for w, b in pairs]


def quartiles(values: Sequence[float]) -> list[float]:
    """25, 50, 75 %, three digits."""
    return [float(f"{q:.3g}") for q in np.percentile(values, (25, 50, 75))]


class Murray2019Rule(Experiment):
    """RFLO is the exact gradient where nothing recurs and errors come by the readout's weights."""

    paper, name, source = PAPER, "rule", f"{SOURCE}, Eqs. 5-6"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        worst: dict[str, float] = {}
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.key(0), 4)
            net = Network(
                {"hidden": Rate(20, tau=TAU), "readout": Relay(2)},
                [Dense("input", "hidden"), Dense("hidden", "hidden"), Dense("hidden", "readout")],
                inputs={"input": 3},
                outputs="readout",
                key=keys[0],
            )
            zero = eqx.tree_at(lambda n: n.projections["hidden->hidden"].weight, net, replace_fn=jnp.zeros_like)
            inputs, targets = (jax.random.normal(k, (100, 4, n)) for k, n in ((keys[1], 3), (keys[2], 2)))
            trial = Trial(inputs, targets)
            exact = rule_of("bptt").value_and_grad(zero, trial)[1]
            # By traces carried forwards, so that nothing but the mathematics is shared.
            found = RFLO(feedback="symmetric", evaluation="online", scale=0.5).value_and_grad(zero, trial)[1]
            for name, projection in exact.projections.items():
                a, b = projection.weight, found.projections[name].weight
                assert a is not None and b is not None
                worst[name] = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(a))
        largest = max(worst.values())
        why = f"largest relative difference {largest:.1e}; the bar is 1e-10"
        return Found(worst, "holds" if largest <= 1e-10 else "fails", why)


class Murray2019Short(Experiment):
    """Periods of 20 time constants."""

    paper, name, source = PAPER, "short", f"{SOURCE}, Fig. 2a"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        trials = 500 if quick else TRIALS
        runs = {rule: trained(rule, 20, RATES[rule][0], folder, say, trials) for rule in RATES}
        if not quick:
            small = trained("rtrl", 20, 0.03, folder, say, trials, units=10)
            runs |= {"rtrl, 10 units": small}
            runs |= {f"{r}, 10 units": trained(r, 20, 0.03, folder, say, trials, units=10) for r in RATES}
        measured = {name: quartiles(run["final"]) for name, run in runs.items()}
        ratio = measured["rflo"][1] / measured["bptt"][1]
        share = max(measured["rflo"][1], measured["bptt"][1]) / SILENCE
        seconds = sum(run["seconds"] for run in runs.values())
        why = (
            f"ratio of medians {ratio:.1f}, the bar is 10; the larger is {100 * share:.2g} % of silence, the bar is 1 %"
        )
        if quick:
            return Found(measured, "untested", f"{trials} of {TRIALS} trials; {why}", seeds=SEEDS, seconds=seconds)
        parts = (ratio <= 10) + (share < 0.01)
        why = f"quartiles over 9 networks; {why}"
        return Found(measured, ("fails", "partly", "holds")[parts], why, seeds=SEEDS, seconds=seconds)


class Murray2019Long(Experiment):
    """Periods of 80 and 160 time constants, 40 beside them, and either approximation alone."""

    paper, name, source = PAPER, "long", f"{SOURCE}, Fig. 2a, b, d"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        lengths = LENGTHS[2:3] if quick else LENGTHS[1:]
        trials, seconds = 200 if quick else TRIALS, 0.0
        measured: dict[str, Any] = {}
        rules = tuple(RATES) if quick else (*RATES, "local only", "random only")
        for length in lengths:
            for rule in rules:
                rates = {"paper's rate": RATES[rule][LENGTHS.index(length)]} if rule in RATES else {}
                if not quick:
                    rates["best rate"] = best(rule, length, folder, say)
                for which, rate in rates.items():
                    run = trained(rule, length, rate, folder, say, trials)
                    measured[f"{rule}, {length} tau, {which} {rate:g}"] = quartiles(run["final"])
                    seconds += run["seconds"]
        if quick:
            return Found(measured, "untested", f"{trials} of {TRIALS} trials", seeds=SEEDS, seconds=seconds)
        ratios = {
            which: [self._ratio(measured, length, which) for length in lengths if length >= 80]
            for which in ("paper's rate", "best rate")
        }
        above = sum(r > 10 for r in ratios["best rate"])
        said = "; ".join(f"{which}s {', '.join(f'{r:.3g}' for r in values)}" for which, values in ratios.items())
        why = (
            f"quartiles over 9 networks; ratios of medians at 80 and 160 time constants, {said}; bar 10, at best rates"
        )
        return Found(measured, ("fails", "partly", "holds")[above], why, seeds=SEEDS, seconds=seconds)

    def _ratio(self, measured: dict[str, Any], length: int, which: str) -> float:
        found = {
            rule: next(v[1] for n, v in measured.items() if n.startswith(f"{rule}, {length} tau, {which}"))
            for rule in RATES
        }
        return float(found["rflo"] / found["bptt"])


def best(rule: str, length: int, folder: Path, say: Callable[[str], None]) -> float:
    """The learning rate of least median loss, of three networks that are not reported; the paper chose so, too."""

    def median(rate: float) -> float:
        try:
            return float(np.median(trained(rule, length, rate, folder, say, seeds=(100, 101, 102))["final"]))
        except TrainingError:
            say(f"{rule}, {length} time constants: diverges at {rate:g}")
            return float("inf")

    return min(GRID, key=median)


class Murray2019Locality(Experiment):
    """Which of the two approximations costs."""

    paper, name, source = PAPER, "locality", f"{SOURCE}, Fig. 2d"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        if quick:
            runs = {r: trained(r, 40, 0.003, folder, say, 200) for r in ("local only", "random only")}
            found = {r: quartiles(run["final"]) for r, run in runs.items()}
            return Found(found, "untested", f"200 of {TRIALS} trials", seeds=SEEDS)
        rates = {r: best(r, 40, folder, say) for r in ("local only", "random only")}
        runs = {r: trained(r, 40, rate, folder, say) for r, rate in rates.items()}
        logs = {r: np.log10(run["final"]) for r, run in runs.items()}
        measured = {f"{r}, rate {rates[r]:g}": quartiles(run["final"]) for r, run in runs.items()}
        low, high = interval(logs["local only"] - logs["random only"])
        verdict = "holds" if low > 0 else "fails" if high < 0 else "unresolved"
        why = "the interval is of the paired difference of log10 of the losses, local only less random only"
        return Found(measured, verdict, why, None, [round(low, 3), round(high, 3)], SEEDS)


class Murray2019Alignment(Experiment):
    """The readout turns towards the feedback, and where it cannot nothing is learnt."""

    paper, name, source = PAPER, "alignment", f"{SOURCE}, Fig. 2c and its second supplement"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        trials = 500 if quick else TRIALS
        run = trained("rflo", 20, RATES["rflo"][0], folder, say, trials)
        kinds = ("readout frozen",) if quick else ("readout frozen", "readout alone", "dale")
        others = {kind: trained("rflo", 20, RATES["rflo"][0], folder, say, trials, variant=kind) for kind in kinds}
        before, after = initial_cosines(), run["overlap"][-1]
        measured = {"before": quartiles(before), "after": quartiles(after), "loss": quartiles(run["final"])}
        measured |= {f"loss, {kind}": quartiles(found["final"]) for kind, found in others.items()}
        if quick:
            return Found(measured, "untested", f"{trials} of {TRIALS} trials", seeds=SEEDS)
        small = abs(measured["before"][1]) <= 0.1
        parts = (small and measured["after"][1] >= 0.5) + (measured["loss, readout frozen"][1] > 0.5 * SILENCE)
        why = (
            "quartiles of cosines over 9 networks; with a frozen readout the loss must stay above half of silence's "
            f"{SILENCE:.3f}"
        )
        return Found(measured, ("fails", "partly", "holds")[parts], why, seeds=SEEDS)


def initial_cosines() -> list[float]:
    """Of the networks before training, as `fit` draws them."""
    from ..training.block import begin

    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(0), n))(np.arange(SEEDS, dtype=np.uint32))
    nets, _ = begin(network(), keys, rule_of("rflo"), optax.sgd(0.1), True)
    return _cosines(nets)
