"""Teacher forcing on orbits: none, or dying away over the first half of training: results/forcing.json.

    python benchmarks/forcing.py              # six networks each; what is there is not measured again
    python benchmarks/forcing.py --orbits circle --updates 200

All are measured without a teacher.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from records import ROOT, origin, save

import engrax as ex

SEEDS = 6
ORBITS: dict[str, dict[str, Any]] = {
    "circle": {"hidden": 4, "rate": 0.02, "updates": 1200, "batch": 1, "task": {}},
}
# What a teacher does at first, and by which kind of forcing.
TEACHERS = {"none": ("clamp", 0.0), "clamp 0.5": ("clamp", 0.5), "clamp 0.2": ("clamp", 0.2), "nudge 2": ("nudge", 2.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orbits", default=",".join(ORBITS))
    parser.add_argument("--teachers", default=",".join(TEACHERS))
    parser.add_argument("--updates", type=int, help="in place of each orbit's own")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "forcing.json")
    options = parser.parse_args()
    rows: dict[str, Any] = json.loads(options.out.read_text())["rows"] if options.out.exists() else {}
    for orbit in options.orbits.split(","):
        chosen = {**ORBITS[orbit], **({"updates": options.updates} if options.updates else {})}
        found = rows.setdefault(orbit, {**chosen, "rmse": {}})["rmse"]
        for teacher in [t for t in options.teachers.split(",") if t not in found]:
            found[teacher] = errors(chosen, *TEACHERS[teacher])
            print(f"{orbit}, {teacher}: {found[teacher]}", flush=True)
            head = origin("error of free runs by the teacher forcing in training", "python benchmarks/forcing.py")
            save(options.out, {**head, "rows": rows})


def errors(chosen: dict[str, Any], kind: str, forcing: float) -> list[float]:
    """Root mean square errors of free runs, network by network."""
    task, steps = ex.tasks.get("orbit", **chosen["task"]), chosen["updates"]
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(chosen["rate"], steps)))
    dying = optax.linear_schedule(forcing, 0.0, steps // 2)
    run = ex.fit(
        network(task, chosen["hidden"], kind, forcing),
        ex.taught(task),
        ex.rules.BPTT(),
        ex.optim.follow(adam, {"out.forcing": dying}),
        steps=steps,
        batch=chosen["batch"],
        seeds=SEEDS,
    )
    return [round(float(x), 4) for x in np.asarray(run.test["rmse"])]


def network(task: Any, hidden: int, kind: str, forcing: float) -> ex.Network:
    """Units with time constants that train; the outputs can be moved by a teacher."""
    tau = lambda size: ex.trainable(jnp.ones(size), bounds=(0.25, 10.0))
    populations: dict[str, ex.Neuron] = {
        "hidden": ex.neurons.CTRNN(hidden, tau=tau(hidden)),
        "out": ex.neurons.ForcedCTRNN(2, tau=tau(2), kind=kind, forcing=ex.trainable(forcing)),
    }
    return ex.Network(
        populations,
        [
            *(ex.Dense(a, f"{b}.net", bias=a == "hidden") for a in populations for b in populations),
            ex.Dense("input", "hidden.net"),
            ex.Masked("teacher", "out.teacher", mask="identity", weight=jnp.eye(2), trainable=False),
        ],
        inputs={"input": task.input_size, "teacher": 2},
        outputs="out.free",
        dt=task.dt,
        key=jax.random.key(0),
    )


if __name__ == "__main__":
    main()
