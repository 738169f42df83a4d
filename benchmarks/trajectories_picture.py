"""Draw what Pearlmutter 1989's experiments left: docs/images/trajectories.png and docs/images/applications.png.

python benchmarks/trajectories_picture.py    # after engrax reproduce pearlmutter1989; or trains what is missing
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from records import ROOT

import engrax as ex
from engrax.network.solve import field
from engrax.papers import pearlmutter1989 as paper
from engrax.papers import pearlmutter1989_applications as applied
from engrax.parameter import resolve
from engrax.training.store import read_json

FOLDER = ROOT / "runs" / "papers" / "pearlmutter1989"
# Okabe and Ito's colours, told apart by all eyes.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def main() -> None:
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    circles, errors = paper.circles(FOLDER / "circle", print)
    eights, others = paper.eights(10, FOLDER / "eight", print)
    circle, eight = circles[int(np.argmin(errors))], eights[int(np.argmin(others))]
    _orbit(axes[0, 0], circle, "a circle, 4 hidden units", errors)
    _orbit(axes[0, 1], eight, "a figure eight, 10 hidden units", others)
    _recovery(axes[0, 2], {"circle": (circle, BLUE), "figure eight": (eight, ORANGE)})
    _constants(axes[1, 0])
    _adjoints(axes[1, 1])
    _few(axes[1, 2])
    figure.savefig(ROOT / "docs" / "images" / "trajectories.png", dpi=110)

    if not list((FOLDER / "applications-runs").glob("*.json")):
        return
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(1.6, 1, 1))
    _forecast(first, second)
    _swings(third)
    figure.savefig(ROOT / "docs" / "images" / "applications.png", dpi=110)


def _orbit(axis: Any, net: ex.Network, title: str, errors: list[float]) -> None:
    """Where the outputs go in two turns of a free run, and how they would move from around it: with the hidden units as
    they are where the orbit is nearest."""
    record = net.run(jnp.zeros((round((paper.BEGIN + 4 * paper.TURN) / paper.DT), 1, 1)), record=("hidden",))
    outputs, hidden = np.asarray(record.outputs[:, 0]), np.asarray(record["hidden"][:, 0])
    kept = slice(round((paper.BEGIN + 2 * paper.TURN) / paper.DT), None)
    low, high = outputs[kept].min(0) - 0.12, outputs[kept].max(0) + 0.12
    grid = np.stack(np.meshgrid(*(np.linspace(a, b, 13) for a, b in zip(low, high, strict=True))), -1).reshape(-1, 2)
    nearest = np.linalg.norm(grid[:, None] - outputs[kept][None], axis=-1).argmin(axis=1)
    start = net.init_state(len(grid))
    neurons = {
        "hidden": start.neurons["hidden"]._replace(rate=jnp.asarray(hidden[kept][nearest])),
        "out": start.neurons["out"]._replace(rate=jnp.asarray(grid, jnp.float32)),
    }
    moved = _rates(net, neurons)
    axis.quiver(*grid.T, *np.asarray(moved).T, color="#AAAAAA", angles="xy", width=0.004)
    axis.plot(*outputs[: kept.start].T, color=ORANGE, lw=0.8, label="on the way")
    axis.plot(*outputs[kept].T, color=BLUE, lw=1.6, label="turns 3 and 4")
    axis.set(title=f"{title}\nrms errors {min(errors):.3f} to {max(errors):.3f}", xlabel="output 1", ylabel="output 2")
    axis.set_aspect("equal")
    axis.legend(frameon=False, fontsize=7)


def _rates(net: ex.Network, neurons: dict[str, Any]) -> Any:
    """Derivatives of the outputs of many states."""
    batch = len(neurons["out"].rate)
    return field(net, neurons, {"input": jnp.zeros((batch, 1))})[0]["out"].rate


def _recovery(axis: Any, nets: dict[str, tuple[ex.Network, str]], kicks: int = 10) -> None:
    """Distance from the orbit after every unit was moved by up to 0.1: median and middle half over kicks."""
    for name, (net, colour) in nets.items():
        orbit = paper.path_of(net, paper.BEGIN + 4 * paper.TURN)[0][round((paper.BEGIN + 2 * paper.TURN) / paper.DT) :]
        away = []
        for number in range(kicks):
            state = paper.kicked(net, jax.random.fold_in(jax.random.key(7), number))
            away.append(paper.apart(paper.path_of(net, 64.0, state)[0], orbit))
        times = paper.DT * np.arange(len(away[0]))
        low, middle, high = np.percentile(away, (25, 50, 75), axis=0)
        axis.plot(times, middle, color=colour, label=name)
        axis.fill_between(times, low, high, color=colour, alpha=0.2, lw=0)
    axis.set(yscale="log", xlabel="time after a kick / units of time", ylabel="distance from the orbit", title="kicks")
    axis.set_ylim(bottom=1e-4)
    axis.legend(frameon=False, fontsize=8)


def _constants(axis: Any) -> None:
    """Time constants while a circle is learnt."""
    seen: list[np.ndarray] = []

    def watch(step: int, net: ex.Network) -> dict[str, Any]:
        taus = [resolve(net.populations[n]).tau for n in ("hidden", "out")]
        seen.append(np.concatenate([np.asarray(t) for t in taus]))
        return {}

    ex.fit(
        paper.network(4),
        ex.tasks.get("orbit"),
        ex.rules.BPTT(),
        paper.optimizer(paper.CIRCLE["rate"]),
        2400,
        batch=1,
        validate_every=40,
        watch=watch,
        progress=False,
    )
    steps = 40 * (1 + np.arange(len(seen)))
    for i, path in enumerate(np.transpose(seen)):
        axis.plot(
            steps, path, color=ORANGE if i >= 4 else BLUE, lw=1.2, label=("hidden", "output")[i >= 4] * (i in (0, 4))
        )
    axis.set(xlabel="updates", ylabel="time constant / units of time", title="time constants of a circle's units")
    handles, labels = axis.get_legend_handles_labels()
    named = [(h, n) for h, n in zip(handles, labels, strict=True) if n]
    axis.legend(*zip(*named, strict=True), frameon=False, fontsize=8)


def _adjoints(axis: Any) -> None:
    """Gradients by the adjoint of Euler's steps and by the adjoint's equations on the same grid, against the network's
    own in continuous time and against the steps'."""
    steps = np.array([0.2, 0.1, 0.05, 0.025, 0.0125])
    with jax.enable_x64(True):
        rows = np.array([_apart(dt) for dt in steps])
    names = ("equations, from the steps'", "equations, from the true one", "steps' adjoint, from the true one")
    for row, name, colour in zip(rows.T, names, (ORANGE, GREEN, BLUE), strict=True):
        axis.plot(steps, 100 * row, "o-", color=colour, label=name, ms=4)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="dt / units of time",
        ylabel="gradient's error / %",
        title="two adjoints",
        xticks=steps,
        xticklabels=[f"{dt:g}" for dt in steps],
    )
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=7)


def _apart(dt: float, end: float = 4.0, units: int = 5) -> tuple[float, float, float]:
    """Relative differences of the weights' gradients."""
    keys = jax.random.split(jax.random.key(0), 3)
    weight = 2 * jax.random.normal(keys[0], (units, units))
    tau = jax.random.uniform(keys[1], (units,), minval=0.6, maxval=2.0)
    wanted = jax.random.uniform(keys[2], (units,))
    steps = round(end / dt)

    def loss(weight: Any, dt: float, steps: int) -> Any:
        def step(y: Any, _: None) -> tuple[Any, Any]:
            y = y + dt / tau * (-y + jax.nn.sigmoid(y @ weight.T))
            return y, y

        ys = jax.lax.scan(step, jnp.full(units, 0.5), None, steps)[1]
        return dt * jnp.sum((ys - wanted) ** 2) / 2

    def equations() -> Any:
        """z by Euler's steps backwards, both sides of every product at the same time."""

        def forth(y: Any, _: None) -> tuple[Any, Any]:
            return y + dt / tau * (-y + jax.nn.sigmoid(y @ weight.T)), y

        _, ys = jax.lax.scan(forth, jnp.full(units, 0.5), None, steps + 1)

        def back(carry: Any, y: Any) -> tuple[Any, None]:
            z, gradient = carry
            squashed = jax.nn.sigmoid(weight @ y)
            pulled = lambda z: squashed * (1 - squashed) * z / tau
            z = z - dt * (z / tau - (y - wanted) - weight.T @ pulled(z))
            return (z, gradient + dt * pulled(z)[:, None] * y[None]), None

        return jax.lax.scan(back, (jnp.zeros(units), jnp.zeros((units, units))), ys, reverse=True)[0][1]

    with jax.numpy_rank_promotion("allow"):
        discrete = jax.grad(loss)(weight, dt, steps)
        # Richardson's step from two fine grids is the continuous network's to 1e-6.
        fine = [jax.grad(loss)(weight, h, round(end / h)) for h in (0.002, 0.001)]
        true = 2 * fine[1] - fine[0]
        naive = equations()
    away = lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
    return away(naive, discrete), away(naive, true), away(discrete, true)


def _few(axis: Any) -> None:
    """Errors of the figure eight's networks by their size."""
    for place, hidden in enumerate((4, 10)):
        errors = paper.eights(hidden, FOLDER / "eight", lambda text: None)[1]
        axis.plot(np.full(len(errors), place), errors, "o", color=(ORANGE, BLUE)[place], alpha=0.6)
    axis.axhline(0.01, color=GREY, ls="--", lw=0.8)
    axis.set(
        yscale="log",
        xticks=(0, 1),
        xticklabels=("4 hidden units", "10"),
        xlim=(-0.5, 1.5),
        ylabel="rms error",
        title="figure eights, ten networks each",
    )


def _forecast(axis: Any, delays: Any) -> None:
    """One continued series and, for all, delay and time constant along training."""
    folder = FOLDER / "applications-runs"
    runs = [read_json(p) for p in sorted(folder.glob(f"series-*-{applied.SERIES['steps']}.json"))]
    shown = runs[int(np.argsort([r["smape"] for r in runs])[len(runs) // 2])]
    times = np.arange(len(shown["truth"])) / 75
    axis.plot(times, shown["truth"], color=GREY, lw=1.4, label="Mackey-Glass")
    axis.plot(times, shown["forecast"], color=ORANGE, lw=1, label="continued by the network")
    axis.set(
        xlabel="Lyapunov times after what was seen", ylabel="x", title=f"the median series, sMAPE {shown['smape']:.1f}"
    )
    axis.set_ylim(top=1.65)
    axis.legend(frameon=False, fontsize=8, ncols=2)
    for run in runs:
        steps, late, constant = np.transpose(run["path"])
        delays.plot(steps, late, color=BLUE, lw=0.9, alpha=0.7)
        delays.plot(steps, constant, color=ORANGE, lw=0.9, alpha=0.7)
    for value, colour, name in ((17, BLUE, "delay"), (10, ORANGE, "time constant")):
        delays.axhline(value, color=colour, ls="--", lw=0.8, label=f"{name}: dashed, the equation's")
    delays.set(xlabel="updates", ylabel="units of the equation's time", title="what ten networks find", ylim=(0, 30))
    delays.legend(frameon=False, fontsize=7)


def _swings(axis: Any) -> None:
    """Pendulums that hang at first, by one controller."""
    net, found = applied.controlled(0, int(applied.PENDULUM["steps"]))
    ran = applied.swing(net, jnp.linspace(jnp.pi - 0.5, jnp.pi + 0.5, 9), jnp.zeros(9), 200)
    axis.plot(applied.DT * np.arange(200), np.asarray(ran.height), color=BLUE, lw=0.9, alpha=0.7)
    title = f"{100 * found['upright']:.0f} of 100 stay up"
    axis.set(xlabel="time / s", ylabel="height of the tip / length", title=title)


if __name__ == "__main__":
    Path(ROOT / "docs" / "images").mkdir(exist_ok=True)
    main()
