"""What the abstract of Pearlmutter 1989 promises: signal processing and control, here by its own means.

A Mackey-Glass series is continued by a unit that decays, drives itself through a delay, and learns both; a pendulum is
swung up by a continuous-time network that learns through the pendulum's equations.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..network import Network, trainable_leaves
from ..neurons.ctrnn import CTRNN
from ..neurons.relay import Relay
from ..parameter import trainable
from ..rules.bptt import BPTT
from ..synapses import Dense
from ..synapses.delayed import AxonDelayed
from ..tasks import get
from ..tasks.mackey_glass import SAMPLES, MackeyGlass, smape
from ..training import fit
from ..training.store import read_json, write_json
from .experiment import Experiment, Found
from .pearlmutter1989 import PAPER, SOURCE

SERIES = {"hidden": 12, "fine": 8, "steps": 1200, "longest": 30.0, "start": 13.0}
FREE = {"steps": 150, "samples": 30, "windows": 24}
# Samples before the end from which a network goes on by itself: the spline is less sure over about its order.
LEAD = 6
PENDULUM = {"hidden": 16, "steps": 600, "rate": 0.01, "horizon": 120, "batch": 64}
DT, TORQUE, SPEED = 0.05, 2.0, 8.0
# What comes back through a step of the loop is multiplied by this: an unstable pendulum multiplies it by more.
FADING = 0.9


def predictor(seed: int, dt: float) -> Network:
    """dt later a unit is what it keeps of itself and what a layer makes of it some time ago: Euler's step of
    T dx/dt = -x + f(x(t - delay)), T = dt / (1 - keep). Weights, keep and delay train; the delay starts at 13."""
    units, longest = int(SERIES["hidden"]), SERIES["longest"]
    draw = np.random.RandomState(seed)
    bias, weight = draw.uniform(-3, 3, units), draw.normal(0, 3, (units, 1))
    late: dict[str, Any] = {
        "max_delay": int(longest / dt),
        "delays": jnp.asarray([SERIES["start"] / dt]),
        "kernel": "linear",
        "bias": jnp.asarray(bias),
        "weight": jnp.asarray(weight),
    }
    return Network(
        {"hidden": Relay(units, activation=jnp.tanh), "out": Relay(1)},
        [
            AxonDelayed("x", "hidden", **late),
            Dense("hidden", "out", bias=True, init={"name": "normal", "scale": 0.01}),
            Dense("x", "out", name="keep", weight=jnp.ones((1, 1))),
        ],
        inputs={"x": 1},
        outputs="out",
        dt=dt,
        key=jax.random.key(seed),
    )


def learnt(net: Network, dt: float) -> dict[str, float]:
    """The delay and the time constant that a predictor has come to, in the equation's own time."""
    late, keep = net.projections["x->hidden"], net.projections["keep"].weight
    assert isinstance(late, AxonDelayed) and late.delays is not None and keep is not None
    return {"delay": float(late.delays[0] * dt), "time_constant": float(dt / (1 - keep[0, 0]))}


def freed(net: Network, task: MackeyGlass, steps: int) -> Network:
    """A predictor trained further without its teacher: in windows that begin with what the series was, and go on for
    0.4 Lyapunov times with what the network makes of it. The error is that at the samples, not between them."""
    fine, ahead = task.fine, int(FREE["samples"])
    before = -(-int(SERIES["longest"] / task.dt) // fine) * fine + fine
    samples = task.series[: 751 - SAMPLES]
    firsts = np.linspace(0, len(samples) - 2 - ahead - before // fine, int(FREE["windows"])).astype(int)
    shown = jnp.stack([task.shown["train"][f * fine : f * fine + before + 1] for f in firsts], axis=1)[..., None]
    wanted = jnp.stack([samples[f + before // fine + 1 :][:ahead] for f in firsts], axis=1)
    moving, fixed = eqx.partition(net, trainable_leaves(net))

    def loss(moving: Network) -> Float[Array, ""]:
        whole = eqx.combine(moving, fixed)
        ran = whole.run(shown)

        def on(carry: Any, _: None) -> tuple[Any, Array]:
            state, x = carry
            state, said = whole.step(state, x)
            return (state, said), x[:, 0]

        # The last output is what comes one step after the last that was shown, which was a sample.
        made = jax.lax.scan(on, (ran.state, ran.outputs[-1]), None, ahead * fine)[1]
        return 1e4 * jnp.mean((made[fine - 1 :: fine] - wanted) ** 2)

    optimizer = optax.lbfgs(memory_size=30)

    @jax.jit
    def update(moving: Network, state: Any) -> tuple[Network, Any]:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            value, grads = jax.value_and_grad(loss)(moving)
            updates, state = optimizer.update(grads, state, moving, value=value, grad=grads, value_fn=loss)
        return eqx.apply_updates(moving, updates), state

    state = optimizer.init(moving)
    for _ in range(steps):
        moving, state = update(moving, state)
    trained: Network = eqx.combine(moving, fixed)
    return trained


def continued(number: int, steps: int) -> dict[str, Any]:
    """One of the series, half a Lyapunov time after the last, and its continuation."""
    with jax.enable_x64(True):
        task: Any = get("mackey_glass", offset=0.5 * number, fine=int(SERIES["fine"]))
        run = fit(
            predictor(number, task.dt),
            task,
            BPTT(scale=1e4),
            optax.lbfgs(memory_size=30),
            steps,
            batch=1,
            validate_every=max(steps // 30, 1),
            progress=False,
            watch=lambda step, net: learnt(net, task.dt),
        )
        if run.interrupted:
            raise KeyboardInterrupt
        net = freed(run.network, task, min(steps, int(FREE["steps"])))
        predictions, truth = task.forecast(net, LEAD)
        path = [[entry["step"], entry["delay"], entry["time_constant"]] for entry in run.history]
        return {
            "smape": smape(predictions, truth),
            "smape with a teacher alone": smape(*task.forecast(run.network, LEAD)),
            **learnt(net, task.dt),
            "path": path,
            "forecast": np.asarray(predictions).round(4).tolist(),
            "truth": np.asarray(truth).round(4).tolist(),
            "seconds": run.seconds,
        }


class Swing(NamedTuple):
    """Pendulums by step: cosine of the angle from upright, angular velocity, torque, (time, batch)."""

    height: Float[Array, "time batch"]
    speed: Float[Array, "time batch"]
    torque: Float[Array, "time batch"]


def controller(seed: int) -> Network:
    """Told cosine, sine and velocity, a continuous-time network says the torque, from -1 to 1 times the limit."""
    units = int(PENDULUM["hidden"])
    return Network(
        {
            "hidden": CTRNN(units, tau=trainable(jnp.full(units, 0.1), "log"), activation=jnp.tanh),
            "out": Relay(1, activation=jnp.tanh),
        },
        [
            Dense("input", "hidden.net", bias=True, init={"name": "fan_in_normal", "scale": 2.0}),
            Dense("hidden", "hidden.net", init="orthogonal"),
            Dense("hidden", "out", init="fan_in_uniform"),
            Dense("input", "out", init="fan_in_uniform"),
        ],
        inputs={"input": 3},
        outputs="out",
        dt=DT,
        key=jax.random.key(seed),
    )


def swing(
    net: Network, angle: Float[Array, " batch"], speed: Float[Array, " batch"], steps: int, fading: float = 1.0
) -> Swing:
    """Pendulums of Gymnasium's masses and lengths, hanging from a network's torque: 15 sin(angle) + 3 torque is the
    acceleration. A torque of at most 2 does not lift them: they must be swung."""

    def fade(x: Any) -> Any:
        return fading * x + (1 - fading) * jax.lax.stop_gradient(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    def step(carry: Any, _: None) -> tuple[Any, Swing]:
        state, angle, speed = jax.tree.map(fade, carry)
        state, said = net.step(state, jnp.stack([jnp.cos(angle), jnp.sin(angle), speed / SPEED], axis=-1))
        torque = TORQUE * said[:, 0]
        speed = speed + DT * (15 * jnp.sin(angle) + 3 * torque)
        angle = angle + DT * speed
        return (state, angle, speed), Swing(jnp.cos(angle), speed, torque)

    return jax.lax.scan(step, (net.init_state(len(angle)), angle, speed), None, steps)[1]


def cost(net: Network, key: PRNGKeyArray) -> Float[Array, ""]:
    """Low height, an energy that is not that of standing upright, speed up there, torque; means over time."""
    above, pushed = jax.random.split(key)
    batch = (int(PENDULUM["batch"]),)
    angle = jax.random.uniform(above, batch, minval=-jnp.pi, maxval=jnp.pi)
    speed = jax.random.uniform(pushed, batch, minval=-1.0, maxval=1.0)
    ran = swing(net, angle, speed, int(PENDULUM["horizon"]), FADING)
    energy = (ran.speed**2 / 2 + 15 * (ran.height - 1)) / 15
    up = (ran.height > 0).astype(ran.speed.dtype)
    return jnp.mean(1 - ran.height + energy**2 + 0.01 * up * ran.speed**2 + 0.002 * ran.torque**2)


def controlled(seed: int, steps: int) -> tuple[Network, dict[str, Any]]:
    """A trained controller, and the share of a hundred pendulums that it keeps upright from second 18 to 20."""
    schedule = optax.cosine_decay_schedule(PENDULUM["rate"], steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    net = controller(seed)
    marks = trainable_leaves(net)

    @eqx.filter_jit
    def update(net: Network, state: Any, key: PRNGKeyArray) -> tuple[Network, Any]:
        moving, fixed = eqx.partition(net, marks)
        grads = jax.grad(lambda moving: cost(eqx.combine(moving, fixed), key))(moving)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, state = optimizer.update(grads, state, moving)
        return eqx.apply_updates(net, updates), state

    state = optimizer.init(eqx.filter(net, marks))
    for number in range(steps):
        net, state = update(net, state, jax.random.fold_in(jax.random.key(1000 + seed), number))
    angles = jnp.linspace(-jnp.pi, jnp.pi, 101)[:-1]
    ran = swing(net, angles, jnp.zeros(100), 400)
    upright = jnp.min(ran.height[-40:], axis=0) > 0.95
    return net, {"upright": float(jnp.mean(upright)), "torque": float(jnp.mean(jnp.abs(ran.torque[-40:])))}


class Pearlmutter1989Applications(Experiment):
    """Ten series continued for ten Lyapunov times, ten controllers of a pendulum."""

    paper, name, source = PAPER, "applications", f"{SOURCE}, abstract; tasks: NeuroBench and Gymnasium"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        count, steps, updates = (1, 60, 30) if quick else (10, int(SERIES["steps"]), int(PENDULUM["steps"]))
        series, pendulums = [], []
        for number in range(count):
            path = folder.parent / "applications-runs" / f"series-{number}-{steps}.json"
            found = read_json(path) if path.is_file() else continued(number, steps)
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, found)
            series.append(found)
            say(
                f"series {number}: sMAPE {found['smape']:.2f}, delay {found['delay']:.2f}, "
                f"time constant {found['time_constant']:.2f}, {found['seconds']:.0f} s"
            )
        for seed in range(count):
            pendulums.append(controlled(seed, updates)[1])
            say(f"pendulum {seed}: {100 * pendulums[-1]['upright']:.0f} % upright")
        errors = [run["smape"] for run in series]
        kept = [run["upright"] for run in pendulums]
        succeeded = sum(share >= 0.95 for share in kept)
        measured = {
            "smape": [round(x, 2) for x in errors],
            "mean smape": float(np.mean(errors)),
            "mean smape with a teacher alone": float(np.mean([run["smape with a teacher alone"] for run in series])),
            "delays": [round(run["delay"], 3) for run in series],
            "time constants": [round(run["time_constant"], 3) for run in series],
            "pendulums upright": kept,
            "controllers that succeed": succeeded,
        }
        parts = int(np.mean(errors) <= 13.4) + int(succeeded >= 8)
        why = (
            f"mean sMAPE {np.mean(errors):.1f}, bar 13.4 (NeuroBench's LSTM 13.37); "
            f"{succeeded} of {count} controllers keep 95 of 100 pendulums upright, bar 8 of 10"
        )
        if quick:
            return Found(measured, "untested", "60 of 1200 and 30 of 600 updates, one of ten", seeds=1)
        return Found(measured, ("fails", "partly", "holds")[parts], why, seeds=count)
