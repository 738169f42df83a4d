"""One candidate in a process of its own, which takes a training step whenever it is told to.

    python -m engrax.bench.worker CANDIDATE RULE EVALUATION PATH WORKLOAD THREADS [--small]

It answers every line on standard input with a line of JSON: "look" (small networks only: loss and difference from the
equations), "step" (seconds and loss), "memory" (MB, after one more step) or "peak" (without it), and ends with its
input. ENGRAX_BENCH_ARRAYS names a file of other arrays than the workload's own. With JAX_PLATFORMS=cuda all of them
compute on a GPU, PyTorch's too, and memory is that which their frameworks had in use there.
"""

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from .candidate import Seen, Variant


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    name, rule, evaluation, path, workload_name, threads, *small = arguments
    # What a framework prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    limit_threads(int(threads))

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        from .candidates import CANDIDATES
        from .workload import WORKLOADS

        variant, workload = Variant(rule, evaluation, path), WORKLOADS[workload_name]
        if small:
            import jax
            import numpy as np

            jax.config.update("jax_enable_x64", True)
            workload = workload.small()
            arrays = workload.arrays(dtype=np.float64)
        else:
            given = os.environ.get("ENGRAX_BENCH_ARRAYS")
            arrays = load_arrays(Path(given)) if given else workload.arrays()
        before = _memory("VmRSS") if _forget_peak() else None
        trainer = CANDIDATES[name]().build(workload, arrays, variant)
        answer({"ready": True})
        for line in sys.stdin:
            if line.strip() == "look":
                answer(compared(trainer.look(), workload, arrays, rule))
            elif line.strip() == "step":
                started = time.perf_counter()
                loss = trainer.step()
                answer({"seconds": time.perf_counter() - started, "loss": loss})
            elif "cuda" in os.environ["JAX_PLATFORMS"]:
                answer({"peak_mb": _device_peak(), "step_mb": None})
            else:
                peak = None if before is None else round(_memory("VmHWM") - before, 1)
                answer({"peak_mb": peak, "step_mb": _step_memory(trainer.step) if line.strip() == "memory" else None})
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        raise


def load_arrays(path: Path) -> Any:
    """Arrays of a workload from a file of `np.savez`."""
    import numpy as np

    from .workload import Arrays

    with np.load(path, allow_pickle=False) as stored:
        return Arrays(**{name: stored[name] for name in Arrays._fields})


def limit_threads(threads: int) -> None:
    """Keep this process on its first `threads` cores; thread pools made later size themselves by it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    else:
        os.environ["OMP_NUM_THREADS"] = str(threads)


def compared(seen: Seen, workload: Any, arrays: Any, rule: str) -> dict[str, Any]:
    """How far loss, spikes and, by BPTT, gradients are from what they should be."""
    import jax
    import numpy as np

    from .candidates.own import Engrax
    from .reference import run

    loss, spikes = run(workload, arrays)
    found = {"loss": abs(seen.loss / loss - 1), "spikes": float(np.mean((seen.spikes > 0.5) != spikes))}
    if rule == "bptt":
        # What was traced before may be kernels'.
        jax.clear_caches()
        expected = Engrax().build(workload, arrays, Variant(path="dense")).look().gradients
        errors = [np.linalg.norm(seen.gradients[n] - g) / np.linalg.norm(g) for n, g in expected.items()]
        found["gradient"] = float(max(errors))
    return found


def _forget_peak() -> bool:
    """Let the high-water mark of memory begin here; False where the system has no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _device_peak() -> float:
    """MB that the candidate's framework had in use on the GPU at most."""
    if "torch" in sys.modules:
        import torch

        return round(float(torch.cuda.max_memory_allocated()) / 2**20, 1)
    import jax

    return round(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20, 1)


def _step_memory(step: Any) -> float | None:
    """What a step holds at most beyond the process before it, which has imported and compiled all; None as above."""
    gc.collect()
    try:
        # What was freed before must not be taken for what the process needs.
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return None
    if not _forget_peak():
        return None
    idle = _memory("VmRSS")
    step()
    return round(_memory("VmHWM") - idle, 1)


def _memory(figure: str) -> float:
    """A figure of this process in MB: VmRSS now, VmHWM at its highest."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{figure}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
