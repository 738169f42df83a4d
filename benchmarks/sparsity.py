"""What native loops gain where spikes are sparse, and what they never lose: four measurements, in turn, in one run.

    python benchmarks/sparsity.py                    # all: an hour with Spyx and BrainTrace; nothing else should run
    python benchmarks/sparsity.py rates density      # only these

rates: training steps of W1, W2 and W3 by BPTT and offline e-prop, at given firing rates and after training, against
    the fastest peers' BPTT, with memory and the floor: bytes that events must read, at the speed of the caches.
density: native against dense at shares of sending inputs and of spiking units from 0.1 to 50 %.
growth: seconds by steps, trials and spikes.
forms: e-prop on W2 in all evaluations.

Each form is a process of its own and takes one step at a time in turn. What was measured is saved after each case. The
figure is docs/images/sparsity.png.
"""

import argparse
import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from records import ROOT, origin, save

from engrax.bench import workload as workloads
from engrax.bench.candidate import Variant
from engrax.bench.candidates import CANDIDATES
from engrax.bench.candidates.own import EngraxTrainer
from engrax.bench.race import LOOSE, Worker
from engrax.bench.workload import WORKLOADS, Arrays, Workload

NATIVE, DENSE = Variant("bptt", "-", "events"), Variant("bptt", "-", "dense")
FORMS = {
    "bptt": ("engrax", NATIVE),
    "bptt, listed inputs": ("engrax", Variant("bptt", "-", "listed")),
    "bptt, dense": ("engrax", DENSE),
    "eprop": ("engrax", Variant("eprop", "offline", "events")),
    "eprop, dense": ("engrax", Variant("eprop", "offline", "dense")),
}
# By `engrax bench` the fastest of all peers, by several times on W2 and W3.
PEERS = {name: (name, Variant()) for name in ("spyx", "braintrace") if CANDIDATES[name].installed()}
RATES = {"W1": (0.01, 0.05, 0.1), "W2": (0.035,), "W3": (0.01, 0.05, 0.1)}
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="rates, density, growth, forms; left out: all")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "sparsity.json")
    options = parser.parse_args()
    parts = {"rates": rates, "density": density, "growth": growth, "forms": forms}
    report: dict[str, Any] = {}
    if options.out.exists():
        import json

        report = json.loads(options.out.read_text())
    for part in options.parts or parts:
        for found in parts[part](options.repeats):
            report[part] = found
            made = origin("training steps where spikes are sparse", "python benchmarks/sparsity.py")
            save(options.out, {**report, **made})


def rates(repeats: int) -> Iterator[dict[str, Any]]:
    """By workload and rate: seconds, ratios to the fastest peer, memory, and the floor."""
    found: dict[str, Any] = {}
    for name, wanted in RATES.items():
        w = WORKLOADS[name]
        networks = {f"{100 * rate:g} %": at_rate(w, w.arrays(), rate) for rate in wanted}
        networks["as drawn"] = w.arrays()
        networks["trained"] = trained(w, w.arrays())
        for label, arrays in networks.items():
            seen = activity(w, arrays)
            # Networks that were not made for it part sooner: sums in another order move a spike.
            loose = LOOSE if label == "as drawn" else 10 * LOOSE
            timed = in_turn(name, arrays, {**FORMS, **PEERS}, repeats, loose)
            best = min((timed[peer] for peer in PEERS), key=lambda row: row["seconds"], default=None)
            lean = min((timed[peer]["step_mb"] for peer in PEERS), default=None)
            for row in timed.values():
                if best is not None and lean is not None:
                    row["faster_than_peers"] = round(best["seconds"] / row["seconds"], 2)
                    row["share_of_peers_memory"] = round(row["step_mb"] / lean, 2)
            limits = floor(w, seen)
            for form in ("bptt", "eprop"):
                timed[form]["times_the_floor"] = round(timed[form]["seconds"] / limits[form], 1)
            found[f"{name}, {label}"] = {**seen, "floor_seconds": limits, "steps": timed}
            print(name, label, seen, {form: row.get("faster_than_peers") for form, row in timed.items()}, flush=True)
            yield found


def density(repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds of W1's BPTT, native and dense, by the share of inputs that send, and of units that spike."""
    w = WORKLOADS["W1"]
    found: dict[str, Any] = {"inputs": {}, "units": {}}
    drawn = w.arrays()
    for share in SHARES:
        inputs = (np.random.default_rng(1).random(drawn.inputs.shape) < share).astype(np.float32)
        sent = drawn._replace(inputs=inputs, input=drawn.input * np.float32((w.probability / share) ** 0.5))
        for kind, arrays in (("inputs", sent), ("units", at_rate(w, drawn, share))):
            timed = in_turn("W1", arrays, {"native": ("engrax", NATIVE), "dense": ("engrax", DENSE)}, repeats)
            row = {form: x["seconds"] for form, x in timed.items()}
            found[kind][f"{share:g}"] = {**row, **activity(w, arrays)}
            print(kind, share, found[kind][f"{share:g}"], flush=True)
            yield found


def growth(repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds of native BPTT on networks like W1, by number of steps, of trials, and by firing rate."""
    w, found = WORKLOADS["W1"], {}
    cases = {f"steps {n}": (dataclasses.replace(w, steps=n, window=n), None) for n in (125, 250, 500, 1000)}
    cases |= {f"trials {n}": (dataclasses.replace(w, batch=n), None) for n in (32, 64, 128, 256)}
    cases |= {f"rate {rate}": (w, rate) for rate in (0.01, 0.02, 0.05, 0.1, 0.2)}
    for label, (sized, rate) in cases.items():
        arrays = sized.arrays() if rate is None else at_rate(sized, sized.arrays(), rate)
        os.environ["ENGRAX_EVENTS"] = "auto"
        trainer = EngraxTrainer(sized, arrays, NATIVE)
        trainer.step()
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            trainer.step()
            seconds.append(time.perf_counter() - started)
        found[label] = {"seconds": round(statistics.median(seconds), 4), **activity(sized, arrays)}
        print(label, found[label], flush=True)
        yield found


def forms(repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds and memory of e-prop's evaluations on W2, beside BPTT."""
    cases = {
        "bptt": ("engrax", NATIVE),
        **{f"eprop {form}": ("engrax", Variant("eprop", form, "events")) for form in ("offline", "chunked", "online")},
    }
    timed = in_turn("W2", WORKLOADS["W2"].arrays(), cases, repeats)
    for row in timed.values():
        row["to_offline"] = round(row["seconds"] / timed["eprop offline"]["seconds"], 2)
    print(timed, flush=True)
    yield timed


def in_turn(
    name: str, arrays: Arrays, cases: dict[str, tuple[str, Variant]], repeats: int, loose: float = LOOSE
) -> dict[str, dict[str, Any]]:
    """Median seconds, memory and first loss of each case."""
    with stored(arrays):
        workers = {label: Worker(*case, name, os.cpu_count() or 1) for label, case in cases.items()}
    try:
        losses = {label: worker.ask("step")["loss"] for label, worker in workers.items()}
        times: dict[str, list[float]] = {label: [] for label in workers}
        for _ in range(repeats):
            for label, worker in workers.items():
                times[label].append(worker.ask("step")["seconds"])
        memory = {label: worker.ask("memory")["step_mb"] for label, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    first = next(iter(losses.values()))
    apart = {label: loss for label, loss in losses.items() if not abs(loss / first - 1) < loose}
    if apart:
        raise SystemExit(f"{name}: losses differ: {first} and {apart}")
    return {
        label: {
            "seconds": round(statistics.median(x), 4),
            "fastest": round(min(x), 4),
            "slowest": round(max(x), 4),
            "step_mb": memory[label],
            "loss": losses[label],
        }
        for label, x in times.items()
    }


@contextlib.contextmanager
def stored(arrays: Arrays) -> Iterator[None]:
    """Arrays that workers started here take instead of the workload's own."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, **arrays._asdict())
        file.flush()
        os.environ["ENGRAX_BENCH_ARRAYS"] = file.name
        try:
            yield
        finally:
            del os.environ["ENGRAX_BENCH_ARRAYS"]


def activity(w: Workload, arrays: Arrays) -> dict[str, float]:
    """Shares of inputs that send, of units that spike, and of units whose pseudo-derivative is not zero."""
    trainer = EngraxTrainer(w, arrays, NATIVE)
    names = ("hidden", "hidden.voltage", "hidden.adaptation")
    record = trainer.net.run(trainer.trial.inputs, record=names)
    above = record["hidden.voltage"] - w.threshold - jnp.asarray(arrays.beta) * record["hidden.adaptation"]
    shares = {
        "inputs": np.mean(arrays.inputs != 0),
        "spiking": jnp.mean(record["hidden"]),
        "with_slope": jnp.mean(jnp.abs(above) < w.threshold),
    }
    return {name: round(float(x), 5) for name, x in shares.items()}


def at_rate(w: Workload, arrays: Arrays, rate: float) -> Arrays:
    """The network with input and recurrent weights scaled so that a share `rate` of its units spikes at a step."""
    low, high = np.log(1e-2), np.log(1e3)
    for _ in range(18):
        middle = (low + high) / 2
        scaled = _scaled(arrays, float(np.exp(middle)))
        low, high = (middle, high) if activity(w, scaled)["spiking"] < rate else (low, middle)
    return scaled


def _scaled(arrays: Arrays, gain: float) -> Arrays:
    return arrays._replace(input=np.float32(gain) * arrays.input, recurrent=np.float32(gain) * arrays.recurrent)


def trained(w: Workload, arrays: Arrays, steps: int = 60) -> Arrays:
    """The network after some steps of Adam at the usual rate."""
    usual = workloads.ADAM["learning_rate"]
    workloads.ADAM["learning_rate"] = 1e-3
    try:
        trainer = EngraxTrainer(w, arrays, NATIVE)
    finally:
        workloads.ADAM["learning_rate"] = usual
    for _ in range(steps):
        trainer.step()
    keys = {"input": "input->hidden", "recurrent": "hidden->hidden", "output": "hidden->readout"}
    weights = {name: np.asarray(trainer.net.projections[key].weight) for name, key in keys.items()}
    return arrays._replace(**weights)


def floor(w: Workload, seen: dict[str, float]) -> dict[str, float]:
    """Seconds that the caches need to give the rows that events read: weights forwards, weights of units that have a
    slope backwards, errors for the gradient."""
    rows = w.steps * w.batch
    sent = w.inputs * seen["inputs"] + w.hidden * seen["spiking"]
    forwards = rows * sent * w.hidden
    gradient = rows * sent * w.hidden
    backwards = rows * w.hidden * seen["with_slope"] * w.hidden
    speed = bandwidth(4 * w.hidden * (w.hidden + w.inputs))
    each = {"eprop": forwards + gradient, "bptt": forwards + gradient + backwards}
    return {form: round(4 * numbers / speed, 4) for form, numbers in each.items()}


def bandwidth(size: int) -> float:
    """Bytes a second that all cores together read from memory of this size, again and again."""
    half = size // 8
    x, y = (np.ones(half, np.float32) for _ in range(2))
    best = 0.0
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(20):
            np.dot(x, y)
        best = max(best, 20 * 8 * half / (time.perf_counter() - started))
    return best * (os.cpu_count() or 1)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
