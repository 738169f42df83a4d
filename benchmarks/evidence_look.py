"""One trial of evidence accumulation in a trained network: spikes, slow variables, learning signals, traces."""

from pathlib import Path

import jax
import matplotlib
import numpy as np

import engrax as ex
from engrax.analysis import eligibility_traces, learning_signals
from engrax.training.stored import load_run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BLUE, RED = "#0072B2", "#D55E00"


def draw(run: Path, path: Path) -> None:
    """Draw a fresh trial of a run that `engrax reproduce bellec2020/evidence` left."""
    stored = load_run(run)
    net, rule = stored.network, stored.built.rule
    assert isinstance(rule, ex.rules.EProp)
    trial = stored.built.task.sample(jax.random.key(4), 1, "test")
    names = ("hidden", "hidden.adaptation")
    ran = net.run(trial.inputs, record=names)
    spikes, slow = (np.asarray(ran[name])[:, 0] for name in names)
    inputs, outputs = np.asarray(trial.inputs)[:, 0], np.asarray(jax.nn.softmax(ran.outputs))[:, 0]
    signals = np.asarray(learning_signals(net, trial, rule)["hidden"])[:, 0]
    half = spikes.shape[1] // 2
    # The presynaptic input unit is of a cue's group; postsynaptic ones are those with the most eligible synapses of it.
    pre = int(np.argmax(inputs[:, :20].sum(0)))
    traces = np.asarray(eligibility_traces(net, trial, "input->hidden", pre))[:, 0]
    fast, adaptive = (int(np.argmax(np.abs(traces[-150:, a:b]).sum(0))) + a for a, b in ((0, half), (half, 2 * half)))
    figure, axes = plt.subplots(6, 1, figsize=(9, 10), sharex=True, height_ratios=(2, 3, 1.4, 1.6, 1.6, 1.2))
    time = np.arange(len(spikes))
    for axis, raster in ((axes[0], inputs), (axes[1], spikes)):
        t, unit = np.nonzero(raster)
        axis.scatter(t, unit, s=1.2, color="black", lw=0)
        axis.set_ylim(raster.shape[1] - 0.5, -0.5)
    axes[0].set(ylabel="input unit", yticks=[5, 15, 25, 35], yticklabels=["left", "right", "recall", "noise"])
    axes[1].axhline(half - 0.5, color=RED, lw=0.8)
    axes[1].set(ylabel="hidden unit", yticks=[half / 2, 1.5 * half], yticklabels=["LIF", "ALIF"])
    axes[2].plot(time, slow[:, half::10], lw=1)
    axes[2].set_ylabel("adaptation\nof 5 ALIF units")
    axes[3].plot(time, 1e3 * signals[:, [fast, adaptive]], lw=1)
    axes[3].lines[0].set_color(BLUE)
    axes[3].lines[1].set_color(RED)
    axes[3].set_ylabel("learning signal\n$L_j$ (10$^{-3}$)")
    for unit, colour, label in ((fast, BLUE, "LIF"), (adaptive, RED, "ALIF")):
        trace = traces[:, unit] / np.abs(traces[:, unit]).max()
        axes[4].plot(time, trace, lw=0.8, color=colour, label=f"onto {label} unit {unit}")
    axes[4].set_ylabel(f"eligibility trace\nof input {pre}, of its\nlargest value")
    axes[4].legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    axes[5].plot(time, outputs, lw=1.4)
    axes[5].lines[0].set_color(BLUE)
    axes[5].lines[1].set_color(RED)
    axes[5].legend(
        ["left", "right"], frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.75, 1.1), ncols=2
    )
    axes[5].set(ylabel="probability", ylim=(0, 1), xlabel="time (ms)", xlim=(0, len(spikes)))
    for axis in axes:
        axis.axvspan(len(spikes) - 150, len(spikes), color="0.9", lw=0, zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_title(f"Evidence accumulation, {rule.feedback} e-prop; grey: the answer is asked", fontsize=10)
    figure.align_ylabels(axes)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
