"""The workloads' equations in plain NumPy: what every candidate's spikes and loss are held against."""

import numpy as np

from .workload import Arrays, Workload


def run(workload: Workload, arrays: Arrays) -> tuple[float, np.ndarray]:
    """The loss, and the spikes (time, batch, hidden), in the precision of the arrays."""
    w, a = workload, arrays
    shape = (w.batch, w.hidden)
    v, slow, z = (np.zeros(shape, a.input.dtype) for _ in range(3))
    y = np.zeros((w.batch, w.outputs), a.input.dtype)
    threshold = a.input.dtype.type(w.threshold)
    spikes, loss = np.zeros((w.steps, *shape), bool), 0.0
    for t in range(w.steps):
        slow = w.rho * slow + z
        v = w.alpha * v + a.inputs[t] @ a.input.T + z @ a.recurrent.T - threshold * z
        z = (v - threshold - a.beta * slow > 0).astype(v.dtype)
        y = w.kappa * y + (1 - w.kappa) * (z @ a.output.T)
        spikes[t] = z > 0
        if t >= w.steps - w.window:
            shifted = y - y.max(axis=1, keepdims=True)
            chosen = shifted[np.arange(w.batch), a.classes]
            loss += float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen)) / w.window
    return loss, spikes
