"""Training steps on a GPU: kernels that go through a sequence in one launch, JAX's scan, and the peers, in turn.

    python benchmarks/gpu.py                # W1, W2 and W3: some minutes with Spyx, PyTorch and SpikingJelly

Products are in single precision for all (JAX alone would take TF32, PyTorch would not). The report also says what
bounds a step: bytes of rasters and tapes at the speed of the GPU's memory, and the loop's iterations, two directions,
at the time of one that does nothing; and how far gradients turn when products are rounded to bfloat16.
"""

import os

os.environ |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
os.environ.setdefault("JAX_PLATFORMS", "cuda,cpu")

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from records import ROOT, origin, save

from engrax.bench.candidate import Variant
from engrax.bench.candidates import CANDIDATES
from engrax.bench.candidates.own import EngraxTrainer
from engrax.bench.race import race
from engrax.bench.workload import WORKLOADS, Workload

OWN = [Variant("bptt", "-", "events"), Variant("bptt", "-", "dense")]
OWN += [Variant("eprop", "offline", "events"), Variant("eprop", "offline", "dense")]
PEERS = [
    ("spyx", Variant()),
    ("pytorch", Variant()),
    ("pytorch", Variant(path="compiled")),
    ("spikingjelly", Variant()),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="left out: all")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu.json")
    options = parser.parse_args()
    report: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    report.setdefault("races", {})

    def keep(**found: Any) -> None:
        report.update(found)
        made = origin("training steps on a GPU", "python benchmarks/gpu.py")
        save(options.out, {**report, **made, "device": jax.local_devices()[0].device_kind, "peers": versions()})

    say = lambda text: print(text, file=sys.stderr, flush=True)
    keep(limits=limits())
    entrants = [("engrax", v) for v in OWN] + [(n, v) for n, v in PEERS if CANDIDATES[n].installed()]
    for name in options.workloads or WORKLOADS:
        rows, failures = race(name, entrants, say, options.repeats, os.cpu_count() or 1, at_once=len(entrants))
        for row in rows:
            print(name, *(row[n] for n in ("candidate", "rule", "path", "seconds", "peak_mb")), flush=True)
        report["races"][name] = {"rows": rows, "failures": failures, "floor": floor(WORKLOADS[name], report["limits"])}
        keep()
    keep(bfloat16={"W1": rounded(WORKLOADS["W1"])})
    say(json.dumps(report["bfloat16"]))


def versions() -> dict[str, str]:
    """Of what is installed."""
    from importlib.metadata import version

    packages = {CANDIDATES[name].package for name, _ in PEERS if CANDIDATES[name].installed()}
    return {package: version(package) for package in sorted(packages)}


def limits() -> dict[str, float]:
    """GB/s of a copy, bytes read and written, and microseconds of a loop's iteration that does next to nothing."""
    x = jnp.ones(1 << 28, jnp.float32)
    copied = timed(jax.jit(lambda x: x + 1), x)
    steps = 2000
    turn = lambda x: jax.lax.fori_loop(0, steps, lambda _, y: jnp.sin(y), x)
    turned = timed(jax.jit(turn), jnp.ones((128, 256)))
    return {
        "gigabytes_per_second": round(2 * x.nbytes / copied / 1e9, 1),
        "iteration_us": round(1e6 * turned / steps, 2),
    }


def floor(w: Workload, known: dict[str, float]) -> dict[str, float]:
    """Milliseconds that bytes and iterations of a step by BPTT take at least.

    Bytes: the input's raster, read twice; currents, written and read; the tape (voltage above threshold), written and
    read; deltas, written, and read for two products.
    """
    hidden = 4 * w.steps * w.batch * w.hidden
    moved = 2 * 4 * w.steps * w.batch * w.inputs + (2 + 2 + 3) * hidden
    loop = 2 * w.steps * known["iteration_us"] / 1e3
    return {"bytes_ms": round(moved / known["gigabytes_per_second"] / 1e6, 3), "iterations_ms": round(loop, 2)}


def timed(f: Callable[..., Any], *args: Any, repeats: int = 9) -> float:
    jax.block_until_ready(f(*args))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(f(*args))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def rounded(w: Workload) -> dict[str, float]:
    """What bfloat16 does to the gradient of a step by BPTT: cosine with, and norm relative to, that of float32."""
    found, seconds, spikes = {}, {}, {}
    for precision in ("float32", "bfloat16"):
        os.environ["ENGRAX_PRECISION"] = precision
        jax.clear_caches()
        trainer = EngraxTrainer(w, w.arrays(), OWN[0])
        seen = trainer.look()
        found[precision] = np.concatenate([g.ravel().astype(np.float64) for g in seen.gradients.values()])
        spikes[precision] = seen.spikes
        trainer.step()
        seconds[precision] = statistics.median(_once(trainer) for _ in range(9))
    os.environ["ENGRAX_PRECISION"] = "float32"
    exact, other = found.values()
    norms = np.linalg.norm(exact), np.linalg.norm(other)
    return {
        "cosine": round(float(exact @ other / norms[0] / norms[1]), 5),
        "norm": round(float(norms[1] / norms[0]), 5),
        "spikes_differ": round(float(np.mean((spikes["float32"] > 0.5) != (spikes["bfloat16"] > 0.5))), 5),
        **{f"seconds_{name}": round(x, 5) for name, x in seconds.items()},
    }


def _once(trainer: EngraxTrainer) -> float:
    started = time.perf_counter()
    trainer.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
