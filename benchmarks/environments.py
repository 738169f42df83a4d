"""How fast environments are played, and how much of the time is the network's.

    python benchmarks/environments.py              # some minutes; nothing else should run meanwhile

Steps are actions of all episodes of a batch together, until the last is over. Each environment is timed twice in turn,
by the median of several plays, compilation apart: with an agent of 100 recurrent LIF units whose policy is even, and
without one, where the same random actions are drawn in a loop of the same kind: the same episodes. Compiled
environments have one core; those outside JAX step in 2 worker processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from records import ROOT, origin, save

import engrax as ex
from engrax.rl import Environment, play
from engrax.rl.environments import CartPole, Catch, Gym, Pong

BATCH, UNITS = 32, 100
LIMITS = {"low": [-2.4, -3.0, -0.21, -3.0], "high": [2.4, 3.0, 0.21, 3.0]}
WORLDS: dict[str, Any] = {
    "catch, compiled": lambda: Catch(hold=5),
    "cartpole, compiled": lambda: CartPole(hold=5, length=100),
    "gym CartPole-v1, 2 workers": lambda: Gym("CartPole-v1", hold=5, length=100, workers=2, **LIMITS),
    "pong, 2 workers": lambda: Pong(hold=5, length=100, workers=2),
}


def agent(world: Environment) -> ex.Network:
    """100 recurrent LIF units with a value, and a policy that hears nothing of them."""
    populations = {
        "hidden": ex.neurons.LIF(UNITS),
        "policy": ex.neurons.LI(world.actions.outputs, tau=5.0),
        "value": ex.neurons.LI(1, tau=5.0),
    }
    ends = [("input", "hidden"), ("hidden", "hidden"), ("hidden", "value")]
    deaf = ex.Dense("hidden", "policy", weight=jnp.zeros((world.actions.outputs, UNITS)))
    return ex.Network(
        populations,
        [*(ex.Dense(a, b, autapses=a != b) for a, b in ends), deaf],
        inputs={"input": world.input_size},
        outputs={"policy": "policy", "value": "value"},
        key=jax.random.key(0),
    )


@eqx.filter_jit
def with_network(net: ex.Network, world: Environment, key: jax.Array) -> jax.Array:
    """Actions taken in a play of a batch."""
    return jnp.sum(play(net, world.sample(key, BATCH), greedy=False)[0].alive)


@eqx.filter_jit
def without(net: ex.Network, world: Environment, key: jax.Array) -> jax.Array:
    """The same with random actions."""
    keys = world.sample(key, BATCH).keys
    policy = jnp.zeros(world.actions.outputs)

    def one(now: tuple[Any, jax.Array, jax.Array, jax.Array]) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        t, states, alive, count = now
        mine = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, t), 3))(keys)
        actions = jax.vmap(lambda k: world.actions.sample(k, policy))(mine[:, 1])
        states, _, _, over = world.advance(states, actions, mine[:, 2])
        return t + 1, states, alive & ~over, count + jnp.sum(alive)

    going = lambda now: (now[0] < world.length) & jnp.any(now[2])
    first = world.begin(jax.vmap(lambda k: jax.random.fold_in(k, 2**32 - 1))(keys))[0]
    start = jnp.asarray(0), first, jnp.ones(BATCH, bool), jnp.asarray(0)
    return jax.lax.while_loop(going, one, start)[3]


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Steps a second with and without the network, and its share of the time of a step."""
    world = WORLDS[name]()
    net = agent(world)
    rates: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(repeats + 1):
        taken = set()
        for kind, function in (("with", with_network), ("without", without)):
            key = jax.random.fold_in(jax.random.key(1), turn)
            start = time.perf_counter()
            steps = float(function(net, world, key))
            taken.add(steps)
            if turn:
                rates[kind].append(steps / (time.perf_counter() - start))
        assert len(taken) == 1, f"{name}: other episodes were played with the network: {taken}"
    found = {kind: statistics.median(values) for kind, values in rates.items()}
    return {
        "steps_per_second": round(found["with"]),
        "steps_per_second_without_network": round(found["without"]),
        "share_of_time_in_network": round(1 - found["with"] / found["without"], 3),
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=tuple(WORLDS), help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "environments.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.repeats)))
        return
    runs = {}
    for name in WORLDS:
        # A process each; JAX's threads keep to the cores that it may use when it starts.
        cores = sorted(os.sched_getaffinity(0))
        pinned = ["taskset", "-c", str(cores[0])] if "compiled" in name else []
        command = [*pinned, sys.executable, __file__, "--one", name, "--repeats", str(options.repeats)]
        words = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
        runs[name] = json.loads(words[-2])
        print(name, runs[name], file=sys.stderr)
    report = {
        **origin(
            "environment steps a second, of a batch, with and without a network of 100 LIF units (5 steps an action)",
            "python benchmarks/environments.py",
        ),
        "batch": BATCH,
        "cores": len(os.sched_getaffinity(0)),
        "runs": runs,
    }
    save(options.out, report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
