"""What trained time constants cost in BPTT: native loops against JAX's scan, and against fixed ones.

    python benchmarks/trained.py        # two minutes; nothing else should run

The networks are those of `engrax bench` in size (W1, W2) and the one of the recipe yin2021/ecg. All forms are compiled
programs of one process that take a step in turn: results/trained.json.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from records import ROOT, origin, save

import engrax as ex
from engrax.training.plan import compiled

# Batch, steps, inputs, share of ones among them, units, outputs.
SIZES = {"W1": (128, 250, 700, 0.02, 256, 20), "W2": (64, 2250, 40, 0.02, 100, 2), "ecg": (64, 1301, 4, 0.1, 36, 6)}
FORMS = {"fixed, native": (False, "on"), "trained, native": (True, "on"), "trained, scan": (True, "off")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "trained.json")
    options = parser.parse_args()
    rows = {}
    for name, sizes in SIZES.items():
        rows[name] = timed(*sizes, options.repeats)
        print(name, rows[name], flush=True)
    head = origin("seconds of a gradient by BPTT, median", "python benchmarks/trained.py")
    save(options.out, {**head, "cores": os.cpu_count(), "repeats": options.repeats, "rows": rows})


def timed(
    batch: int, steps: int, inputs: int, share: float, units: int, outputs: int, repeats: int
) -> dict[str, float]:
    """Seconds by form, and how many times as fast the native one is."""
    draw = np.random.default_rng(0)
    spikes = jnp.asarray(draw.random((steps, batch, inputs)) < share, jnp.float32)
    trial = ex.Trial(spikes, jnp.asarray(draw.integers(0, outputs, batch)))
    programs: dict[str, Any] = {}
    for form, (learns, mode) in FORMS.items():
        os.environ["ENGRAX_EVENTS"] = mode
        jax.clear_caches()
        net = network(inputs, units, outputs, learns)
        programs[form] = compiled(net, ex.rules.BPTT(loss="cross_entropy_mean"), trial, jax.random.key(0))
        program, arrays = programs[form]
        jax.block_until_ready(program(arrays))
    took: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(repeats):
        for form, (program, arrays) in programs.items():
            started = time.perf_counter()
            jax.block_until_ready(program(arrays))
            took[form].append(time.perf_counter() - started)
    found = {form: round(statistics.median(x), 4) for form, x in took.items()}
    return {**found, "ratio": round(found["trained, scan"] / found["trained, native"], 2)}


def network(inputs: int, units: int, outputs: int, learns: bool) -> ex.Network:
    """ALIF units as in the recipe yin2021/ecg, and a leaky readout."""
    tau = lambda size, value: ex.trainable(jnp.full(size, value), "log") if learns else jnp.full(size, value)
    surrogate = ex.surrogates.MultiGaussian(sigma=0.5, dampening=0.5)
    unit = {"threshold": 0.1, "beta": 1.8, "reset": "threshold", "input_scale": "leak", "surrogate": surrogate}
    populations: dict[str, ex.Neuron] = {
        "hidden": ex.neurons.ALIF(units, tau=tau(units, 20.0), tau_adaptation=tau(units, 150.0), **unit),
        "readout": ex.neurons.LI(outputs, tau=tau(outputs, 10.0)),
    }
    projections = [
        ex.Dense("input", "hidden", bias=True, init="glorot_uniform"),
        ex.Dense("hidden", "hidden", init="orthogonal"),
        ex.Dense("hidden", "readout", bias=True),
    ]
    return ex.Network(populations, projections, inputs={"input": inputs}, outputs="readout", key=jax.random.key(0))


if __name__ == "__main__":
    main()
