"""Spoken digits at irregular times, by a network in continuous time: results/irregular.json.

    python benchmarks/irregular.py            # three seeds
    python benchmarks/irregular.py --seeds 1 --updates 50

Of the frames of a recording a random half is kept in training, another half in each batch. The network is integrated
between the frames that are left, at the times that they have. A second network is told that they came evenly. Both are
measured on all frames, and on random halves and quarters, of a speaker whom they have not heard.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from records import ROOT, origin, save

import engrax as ex
from engrax.rules.rule import total_loss

UNITS, BATCH, KEPT = 64, 64, 0.5
SHARES = (1.0, 0.5, 0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "irregular.json")
    options = parser.parse_args()
    task = ex.tasks.get("fsdd_digits", features="mfcc", normalise="speaker", test=["theo"])
    rows: dict[str, Any] = {}
    for told in ("times", "evenly"):
        for seed in range(options.seeds):
            started = time.perf_counter()
            net = trained(task, seed, options.updates, told == "times")
            found = {f"{share:g}": accuracy(net, task, share, told == "times") for share in SHARES}
            rows.setdefault(told, []).append(found)
            print(f"{told}, seed {seed}: {found}, {time.perf_counter() - started:.0f} s", flush=True)
            head = origin(
                "accuracy on an unheard speaker by the share of frames kept", "python benchmarks/irregular.py"
            )
            save(options.out, {**head, "units": UNITS, "updates": options.updates, "rows": rows})


def network(seed: int) -> ex.Network:
    """Recurrent units with time constants of their own, in ms, and a leaky readout."""
    tau = ex.trainable(bounds=(15.0, 300.0))
    return ex.Network(
        {"hidden": ex.neurons.CTRNN(UNITS, tau=tau, activation=jnp.tanh), "out": ex.neurons.LI(10, tau=100.0)},
        [
            ex.Dense("input", "hidden.net", bias=True, init="fan_in_normal"),
            ex.Dense("hidden", "hidden.net", init="orthogonal"),
            ex.Dense("hidden", "out", bias=True),
        ],
        inputs={"input": 39},
        outputs="out",
        dt=10.0,
        key=jax.random.key(seed),
    )


def places(key: Any, steps: int, share: float) -> Any:
    """Which frames are kept: the first, the last, and others at random, in their order."""
    count = max(round(share * steps), 2)
    inner = 1 + jax.random.permutation(key, steps - 2)[: count - 2]
    return jnp.sort(jnp.concatenate([jnp.array([0, steps - 1]), inner]))


def outputs(net: ex.Network, inputs: Any, kept: Any, times: bool) -> Any:
    """At every step of the grid, from the frames that were kept."""
    steps = len(inputs)
    grid = net.dt * jnp.arange(steps).astype(net.dtype)
    when = grid[kept] if times else jnp.linspace(0.0, grid[-1], len(kept))
    return net.solve(inputs[kept], when, save=grid, solver="heun", step=net.dt, max_steps=4 * steps).outputs


def trained(task: ex.tasks.Task, seed: int, updates: int, times: bool) -> ex.Network:
    """By Adam on the task's own loss."""
    net = network(seed)
    rule = ex.rules.ContinuousAdjoint()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(3e-3, updates)))
    marks = ex.trainable_leaves(net)

    @eqx.filter_jit
    def update(net: ex.Network, state: Any, key: Any, task: Any) -> tuple[ex.Network, Any]:
        drawn, left = jax.random.split(key)
        trial = task.sample(drawn, BATCH)
        kept = places(left, trial.steps, KEPT)
        moving, fixed = eqx.partition(net, marks)

        def loss(moving: Any) -> Any:
            whole = eqx.combine(moving, fixed)
            said = {whole.output_specs[0].label: outputs(whole, trial.inputs, kept, times)}
            return total_loss(rule.losses(whole, trial), said, trial, whole)

        updates, state = optimizer.update(jax.grad(loss)(moving), state, moving)
        return eqx.apply_updates(net, updates), state

    state = optimizer.init(eqx.filter(net, marks))
    for number in range(updates):
        net, state = update(net, state, jax.random.fold_in(jax.random.key(seed), number), task)
    return net


def accuracy(net: ex.Network, task: ex.tasks.Task, share: float, times: bool) -> float:
    """On test trials; each batch has frames of its own."""
    run = eqx.filter_jit(lambda net, inputs, kept: outputs(net, inputs, kept, times))
    right, count = 0.0, 0
    for number, trial in enumerate(task.batches("test", 100)):
        kept = places(jax.random.key(number), trial.steps, share)
        right += float(task.score(run(net, trial.inputs, kept), trial)) * trial.batch
        count += trial.batch
    return float(np.round(right / count, 4))


if __name__ == "__main__":
    main()
