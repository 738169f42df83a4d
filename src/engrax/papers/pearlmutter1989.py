"""Pearlmutter 1989: learning state space trajectories in recurrent neural networks (Neural Computation 1:263-269).

Settings that the paper does not give (radius, amplitudes, optimisers) are ours: `tasks.orbit`, and below.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ..network import Network, NetworkState, trainable_leaves
from ..neurons.ctrnn import CTRNN
from ..parameter import trainable
from ..rules.bptt import BPTT
from ..synapses import Dense
from ..synapses.delayed import Delayed
from ..tasks import get
from ..training import curriculum, fit
from ..training.store import read_arrays, write_arrays
from ..trial import Trial
from .experiment import Experiment, Found

PAPER, SOURCE = "pearlmutter1989", "Pearlmutter 1989, Neural Computation 1:263-269"
DT, TURN, BEGIN = 0.1, 16.0, 5.0
HORIZONS = (9.0, 13.0, 17.0, 21.0, 29.0, 37.0)
CIRCLE = {"hidden": 4, "steps": 2400, "rate": 0.02, "seeds": 6}
EIGHT = {"steps": 4000, "rate": 0.02, "seeds": 10}
# Of the eight's time constants: without the lower one, one network's fell below half a step, where Euler's steps grow.
BOUNDS = (2 * DT, 10.0)


def network(hidden: int, outputs: int = 2, inputs: int = 1, bounds: tuple[float, float] | None = None) -> Network:
    """All units joined to all, with biases; weights from -1 to 1, time constants of 1, which train, within `bounds` or
    as long as they are positive. Inputs come from outside the squashing, onto the hidden units; with two, each to a
    unit that hears them alone."""
    sizes = {"hidden": hidden, "out": outputs}
    ranged: dict[str, Any] = {"positive": "log"} if bounds is None else {"bounds": bounds}
    populations = {n: CTRNN(k, tau=trainable(jnp.ones(k), **ranged)) for n, k in sizes.items()}
    projections = [
        Dense(a, f"{b}.net", bias=a == "hidden", init={"name": "fan_in_uniform", "scale": float(sizes[a]) ** 0.5})
        for a in sizes
        for b in sizes
    ]
    eye = jnp.zeros((hidden, inputs)).at[jnp.arange(inputs), jnp.arange(inputs)].set(float(inputs > 1))
    projections.append(Dense("input", "hidden.drive", weight=eye, trainable=False))
    return Network(populations, projections, inputs={"input": inputs}, outputs="out", dt=DT, key=jax.random.key(0))


def optimizer(rate: float, steps: int | None = None) -> optax.GradientTransformation:
    """Adam with clipped gradients: second-order optimisers stall on the figure eight. With `steps` its rate falls to
    nothing over so many."""
    falling = rate if steps is None else optax.cosine_decay_schedule(rate, steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))


def remembered(path: Path, make: Callable[[], tuple[Network, dict[str, Any]]], empty: Network) -> Any:
    """A trained network and its figures, made once."""
    if path.is_file():
        return read_arrays(path, empty)
    path.parent.mkdir(parents=True, exist_ok=True)
    net, figures = make()
    write_arrays(path, net, figures)
    return net, figures


def circles(folder: Path, say: Callable[[str], None], share: int = 1) -> tuple[list[Network], list[float]]:
    """Networks trained on the circle, and their root mean squared errors."""
    seeds = CIRCLE["seeds"] if share == 1 else 2
    steps = int(CIRCLE["steps"]) // share
    run = fit(
        network(int(CIRCLE["hidden"])),
        get("orbit"),
        BPTT(),
        optimizer(CIRCLE["rate"]),
        steps,
        batch=1,
        seeds=int(seeds),
        validate_every=max(steps // 6, 1),
        out=folder.parent / "circle-run" if share == 1 else None,
        resume=share == 1,
        progress=False,
    )
    if run.interrupted:
        raise KeyboardInterrupt
    errors = [float(x) for x in run.test["rmse"]]
    say(f"circle: {', '.join(f'{x:.4f}' for x in errors)}, {run.seconds:.0f} s")
    assert run.networks is not None
    return [
        jax.tree.map(lambda x, i=i: x[i] if eqx.is_array(x) else x, run.networks) for i in range(int(seeds))
    ], errors


def eights(hidden: int, folder: Path, say: Callable[[str], None], share: int = 1) -> tuple[list[Network], list[float]]:
    """The same on the figure eight, by horizons that grow."""
    nets, errors = [], []
    steps = int(EIGHT["steps"]) // len(HORIZONS) // share
    for seed in range(int(EIGHT["seeds"]) if share == 1 else 1):

        def make(seed: int = seed) -> tuple[Network, dict[str, Any]]:
            tasks = [get("orbit", shape="eight", horizon=h) for h in HORIZONS]
            start = network(hidden, bounds=BOUNDS).initialize(jax.random.fold_in(jax.random.key(1), seed))
            # No loss is below zero: every stage has its time. The rate falls in the last alone.
            options: dict[str, Any] = {"batch": 1, "progress": False}
            runs = curriculum(start, tasks[:-1], BPTT(), optimizer(EIGHT["rate"]), steps, until=0.0, **options)
            if not runs[-1].interrupted:
                runs.append(fit(runs[-1].network, tasks[-1], BPTT(), optimizer(EIGHT["rate"], steps), steps, **options))
            if runs[-1].interrupted:
                raise KeyboardInterrupt
            return runs[-1].network, {"rmse": float(runs[-1].test["rmse"][0]), "seconds": sum(r.seconds for r in runs)}

        net, found = remembered(
            folder.parent / "eight-runs" / f"{hidden}-{seed}-{share}.safetensors", make, network(hidden, bounds=BOUNDS)
        )
        nets.append(net)
        errors.append(found["rmse"])
        say(f"eight, {hidden} hidden units, seed {seed}: {found['rmse']:.4f}, {found['seconds']:.0f} s")
    return nets, errors


def path_of(
    net: Network, time: float, state: NetworkState | None = None
) -> tuple[Float[Array, "time 2"], NetworkState]:
    """Outputs of a free run, and the state after it."""
    record = net.run(jnp.zeros((round(time / DT), 1, 1)), state)
    return record.outputs[:, 0], record.state


def apart(points: Array, orbit: Array) -> Float[np.ndarray, " points"]:
    """Distance of points from the nearest of an orbit's."""
    return np.linalg.norm(np.asarray(points)[:, None] - np.asarray(orbit)[None], axis=-1).min(axis=1)


def drift(net: Network, turns: int = 10) -> float:
    """How far two turns lie from those `turns` before, at the most."""
    path, _ = path_of(net, BEGIN + TURN * (turns + 2))
    at = lambda turn: path[round((BEGIN + turn * TURN) / DT) : round((BEGIN + (turn + 2) * TURN) / DT)]
    return float(apart(at(turns), at(0)).max())


def kicked(net: Network, key: Array, size: float = 0.1) -> NetworkState:
    """The state two turns after the beginning, every unit moved by up to `size`."""
    _, state = path_of(net, BEGIN + 2 * TURN)
    moves = {
        n: jax.random.uniform(jax.random.fold_in(key, i), s.rate.shape, minval=-size, maxval=size)
        for i, (n, s) in enumerate(state.neurons.items())
    }
    neurons = {n: s._replace(rate=s.rate + moves[n]) for n, s in state.neurons.items()}
    # What others hear of a unit is its rate.
    history = {n: h + moves[n][None] if n in moves and h.size else h for n, h in state.history.items()}
    return NetworkState(neurons, history)


def recoveries(net: Network, kicks: int = 10, times: Sequence[float] = (0.0, 8.0, 16.0, 48.0)) -> list[float]:
    """Mean distance from the orbit in the turn that begins so long after a kick; at first, that of its first step."""
    orbit = path_of(net, BEGIN + 4 * TURN)[0][round((BEGIN + 2 * TURN) / DT) :]
    found = []
    for number in range(kicks):
        path, _ = path_of(net, max(times) + TURN, kicked(net, jax.random.fold_in(jax.random.key(7), number)))
        away = apart(path, orbit)
        spans = [slice(round(t / DT), round((t + TURN) / DT) if t else 1) for t in times]
        found.append([float(away[span].mean()) for span in spans])
    return np.mean(found, axis=0).tolist()


class Pearlmutter1989Gradient(Experiment):
    """The discrete adjoint against finite differences: weights, biases, time constants, starts, inputs, delays."""

    paper, name, source = PAPER, "gradient", f"{SOURCE}, Eqs. of the adjoint and of mutable time delays"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.key(0), 6)
            tau = trainable(jax.random.uniform(keys[0], (5,), minval=0.6, maxval=2.0), "log")
            start = trainable(jax.random.uniform(keys[1], (5,)))
            delays = 1 + 6 * jax.random.uniform(keys[2], (5, 5))
            around = Delayed("unit", "unit.net", max_delay=8, delays=delays, kernel="linear", bias=True)
            net = Network(
                {"unit": CTRNN(5, tau=tau, initial=start)},
                [Dense("input", "unit.drive"), around],
                inputs={"input": 3},
                outputs="unit",
                dt=DT,
                key=keys[3],
            )
            inputs = jax.random.normal(keys[4], (30, 2, 3))
            targets = jax.random.uniform(keys[5], (30, 2, 5))
            moving, fixed = eqx.partition(net, trainable_leaves(net))
            flat, back = jax.flatten_util.ravel_pytree((moving, inputs))

            @jax.jit
            def loss(x: Array) -> Array:
                moving, inputs = back(x)
                return jnp.mean((eqx.combine(moving, fixed).run(inputs).outputs - targets) ** 2)

            step = 1e-5
            moved = lambda i, h: loss(flat.at[i].add(h))
            wanted, wanted_inputs = back(
                jnp.stack([(moved(i, step) - moved(i, -step)) / (2 * step) for i in range(len(flat))])
            )
            found = BPTT().value_and_grad(net, Trial(inputs, targets))[1]
            found_inputs = jax.grad(lambda x: jnp.mean((net.run(x).outputs - targets) ** 2))(inputs)
            pairs = {
                jax.tree_util.keystr(path): (a, b)
                for (path, a), b in zip(
                    jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True
                )
            }
            pairs["inputs"] = found_inputs, wanted_inputs
            measured = {n: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for n, (a, b) in pairs.items()}
        worst = max(measured.values())
        why = f"largest relative difference {worst:.1e}; the bar is 1e-6"
        return Found(measured, "holds" if worst <= 1e-6 else "fails", why)


class Pearlmutter1989XOR(Experiment):
    """Exclusive or in time with one hidden unit, by gradient descent with momentum; L-BFGS beside it."""

    paper, name, source = PAPER, "xor", f"{SOURCE}, simulations"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        seeds = 2 if quick else 10
        ways = {"momentum": (optax.sgd(1.0, momentum=0.9), 3000), "L-BFGS": (optax.lbfgs(), 400)}
        measured: dict[str, Any] = {}
        seconds = 0.0
        for name, (way, steps) in ways.items():
            steps = 20 if quick else steps
            options: dict[str, Any] = {"batch": 4, "seeds": seeds, "progress": False, "validate_every": steps}
            run = fit(network(3, 1, 2), get("xor"), BPTT(), way, steps, **options)
            seconds += run.seconds
            errors = [float(x) for x in run.test["rmse"]]
            measured[f"rmse by {name}"] = [round(e, 4) for e in errors]
            measured[f"below 0.1 by {name}"] = sum(e < 0.1 for e in errors)
        reached = measured["below 0.1 by momentum"]
        why = f"{reached} of {seeds} networks have a root mean squared error below 0.1 by momentum; the bar is 8 of 10"
        verdict = "untested" if quick else "holds" if reached >= 8 else "fails"
        return Found(measured, verdict, why, seeds=seeds, seconds=seconds)


class Pearlmutter1989Circle(Experiment):
    """A circle, learnt and kept."""

    paper, name, source = PAPER, "circle", f"{SOURCE}, simulations"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        nets, errors = circles(folder, say, 100 if quick else 1)
        good = [net for net, error in zip(nets, errors, strict=True) if error < 0.02]
        drifts = [drift(net) for net in (nets[:1] if quick else good)]
        measured = {"rmse": [round(e, 4) for e in errors], "drift over ten turns": [round(d, 4) for d in drifts]}
        if quick:
            return Found(measured, "untested", "24 of 2400 updates, two of six networks", seeds=2)
        parts = (len(good) >= 5) + (bool(drifts) and max(drifts) <= 0.03)
        why = f"{len(good)} of 6 below 0.02; largest drift of those {max(drifts, default=float('nan')):.3f}, bar 0.03"
        return Found(measured, ("fails", "partly", "holds")[parts], why, seeds=len(nets))


class Pearlmutter1989Eight(Experiment):
    """The figure eight with ten hidden units and with four."""

    paper, name, source = PAPER, "eight", f"{SOURCE}, simulations"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        found = {k: eights(k, folder, say, 100 if quick else 1)[1] for k in ((10,) if quick else (10, 4))}
        measured = {f"rmse, {k} hidden units": [round(e, 4) for e in errors] for k, errors in found.items()}
        if quick:
            return Found(measured, "untested", "a hundredth of the updates, one of ten networks", seeds=1)
        ten, four = sum(e < 0.01 for e in found[10]), sum(e < 0.02 for e in found[4])
        parts = (ten >= 8) + (four <= 2)
        why = f"ten hidden units: {ten} of 10 below 0.01, bar 8; four: {four} of 10 below 0.02, bar 2 at most"
        return Found(measured, ("fails", "partly", "holds")[parts], why, seeds=int(EIGHT["seeds"]))


class Pearlmutter1989Stable(Experiment):
    """Back to the orbit after every unit was moved."""

    paper, name, source = PAPER, "stable", "Pearlmutter 1990, CMU-CS-90-196, stability experiments"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        share = 100 if quick else 1
        kinds = {"circle": circles(folder, say, share), "eight": eights(10, folder, say, share)}
        if quick:
            measured: dict[str, Any] = {n: recoveries(nets[0], 2) for n, (nets, _) in kinds.items()}
            return Found(measured, "untested", "networks that have hardly learnt", seeds=1)
        measured, late = {}, {}
        for name, (nets, errors) in kinds.items():
            learnt = [net for net, error in zip(nets, errors, strict=True) if error < 0.02][:6]
            rows = np.array([recoveries(net) for net in learnt])
            measured[name] = {
                f"{t:g} time units later": round(float(np.median(rows[:, i])), 4) for i, t in enumerate((0, 8, 16, 48))
            }
            late[name] = float(np.median(rows[:, -1]))
        parts = sum(x < 0.005 for x in late.values())
        why = (
            "median over networks of the mean distance from the orbit in the turn from 48 on; the bar is 0.005 for both"
        )
        return Found(measured, ("fails", "partly", "holds")[parts], why, seeds=6)
