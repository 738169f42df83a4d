"""Evidence accumulation by four rules: which of them get below 10 % error within 500 iterations?

    python benchmarks/evidence.py                 # about an hour on two cores; resumes run by run
    python benchmarks/evidence.py --rules random --seeds 1 --steps 100

Network, task and optimiser as in Bellec et al. 2020 (Fig. 3 and the authors' program): 50 LIF and 50 ALIF units, Adam
in TensorFlow's form, rate regularisation towards 10 Hz. Ours is the learning rate, 1e-2 decaying by a cosine: with
their constant 5e-3 the error still jumps between 5 and 15 % at 500 iterations. The network with the best validation
figure is tested on 1,000 fresh trials with frozen weights. `lif`: the control without adaptation, by random e-prop.

The decay of adaptive feedback, 1e-4 (their value for CTC), was chosen on seed 11, which is none of those reported:
6.8 % error against 15 % with 1e-2. With 1e-3 the reported seeds ended at 8.8, 11.5 and 11.9 %.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
import optax
from records import ROOT, add, load

import engrax as ex

RULES = ("symmetric", "random", "adaptive", "bptt", "lif")


def network(adaptive: bool) -> ex.Network:
    """The network of Bellec et al. 2020, Fig. 3."""
    alpha, rho = np.exp(-1 / 20), np.exp(-1 / 2000)
    beta = 1.7 * (1 - rho) / (1 - alpha) if adaptive else 0.0
    neuron = ex.neurons.ALIF(
        100,
        tau=20.0,
        threshold=0.6,
        refractory=5.0,
        tau_adaptation=2000.0,
        beta=np.concatenate([np.zeros(50), np.full(50, beta)]),
    )
    return ex.Network(
        {"hidden": neuron, "readout": ex.neurons.LI(2, tau=20.0)},
        [
            ex.Dense("input", "hidden"),
            ex.Dense("hidden", "hidden", autapses=False),
            ex.Dense("hidden", "readout", init="glorot_uniform"),
        ],
        inputs={"input": 40},
        outputs="readout",
        key=jax.random.key(0),
    )


def rule_and_optimizer(name: str, steps: int, schedule: str) -> tuple[ex.rules.Rule, optax.GradientTransformation]:
    """The rule of a name, and Adam (followed by the feedback's decay for the adaptive one)."""
    # The authors' coefficient 1 has no factor 1/2: 2 here.
    rates = ex.losses.FiringRate(2.0, 10.0)
    adam = ex.optim.adam_tensorflow(optax.cosine_decay_schedule(1e-2, steps) if schedule == "cosine" else 5e-3)
    if name == "bptt":
        return ex.rules.BPTT(regularizers=rates), adam
    feedback = "random" if name == "lif" else name
    rule = ex.rules.EProp(feedback=feedback, regularizers=rates)
    return rule, optax.chain(adam, ex.optim.kolen_pollack(1e-4)) if name == "adaptive" else adam


def run(name: str, seed: int, steps: int, batch: int, schedule: str) -> dict:
    """Train one network and test it."""
    rule, optimizer = rule_and_optimizer(name, steps, schedule)
    task = ex.tasks.get("evidence", validation_trials=320, trials=1000, seed=1)
    draw, train = jax.random.split(jax.random.key(seed))
    net = network(name != "lif").initialize(draw)
    result = ex.fit(net, task, rule, optimizer, steps, batch=batch, key=train, validate_every=25)
    assert result.test_accuracy is not None
    return {
        "test_error": round(1 - result.test_accuracy, 4),
        "firing_rate_hz": round(result.firing_rate_hz or 0, 2),
        "seconds": round(result.seconds, 1),
        "iterations": [entry["step"] for entry in result.history],
        "validation_error": [round(1 - entry["validation_accuracy"], 4) for entry in result.history],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--schedule", choices=("cosine", "constant"), default="cosine")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "evidence.json")
    options = parser.parse_args()
    settings = {"steps": options.steps, "batch": options.batch, "schedule": options.schedule}
    what = "evidence accumulation: error on 1,000 fresh trials of each run's best validated network"
    for name in options.rules.split(","):
        for seed in range(1, options.seeds + 1):
            if str(seed) in load(options.out, settings)["runs"].get(name, {}):
                continue
            found = run(name, seed, options.steps, options.batch, options.schedule)
            add(options.out, settings, what, "python benchmarks/evidence.py", name, str(seed), found)
            print(f"{name}, seed {seed}: test error {found['test_error']:.1%}", file=sys.stderr)


if __name__ == "__main__":
    main()
