"""The pictures of a report, as SVG text. Colours are Okabe and Ito's, told apart by colour-blind readers too."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..analysis import eligibility_traces
from ..events import dense
from ..network import Network
from ..synapses import Convolution
from ..trial import Trial
from .content import Content

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
CYCLE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
WIDTH = 4.8  # inches: as wide as a telephone's screen at this size of type


def first_trial(content: Content) -> Trial:
    """The first test trial, as the best network had it."""
    return content.task.perform(content.network, next(iter(content.task.batches("test", 1))))[0]


def hidden_of(net: Network) -> str:
    """The population to look into: the first that spikes and is not read, or the first."""
    readouts = {spec.population for spec in net.output_specs}
    inner = [n for n in net.populations if n not in readouts] or list(net.populations)
    return next((n for n in inner if net.populations[n].spiking), inner[0])


def curves(content: Content) -> "Figure":
    """Validation metric with the range over seeds, and training loss, against steps."""
    figure, (top, bottom) = axes(3.6, rows=2, sharex=True)
    factor = 100 if content.metric == "accuracy" else 1
    values = factor * content.validation
    top.plot(content.steps, values.mean(axis=1), color=BLUE, linewidth=1.8, marker="." if len(values) < 3 else None)
    if values.shape[1] > 1:
        top.fill_between(content.steps, values.min(axis=1), values.max(axis=1), color=BLUE, alpha=0.2, linewidth=0)
    unit = " (%)" if content.metric == "accuracy" else ""
    top.set_ylabel(f"validation\n{content.metric}{unit}")
    bottom.plot(content.steps, content.loss, color=ORANGE, linewidth=1.8, marker="." if len(values) < 3 else None)
    bottom.set(xlabel="training steps", ylabel="training loss")
    return figure


def activity(content: Content) -> "Figure":
    """Inputs, spikes and outputs of the first test trial."""
    net, trial = content.network, first_trial(content)
    name = hidden_of(net)
    steps = int(trial.lengths[0]) if trial.lengths is not None else trial.steps
    record = net.run(trial.inputs, record=(name,))
    inputs = np.asarray(dense(next(iter(net.check_inputs(trial.inputs).values()))))[:steps, 0]
    hidden = np.asarray(record[name])[:steps, 0]
    outputs = np.asarray(jax.tree.leaves(record.outputs)[0])[:steps, 0]
    time = np.arange(steps) * net.dt
    figure, (top, middle, bottom) = axes(5.0, rows=3, sharex=True, heights=(1, 2, 1.4))
    _units(top, inputs, time, "input", events=bool(np.all(np.isin(inputs, (-1, 0, 1)))))
    _units(middle, hidden, time, name, events=net.populations[name].spiking)
    _outputs(bottom, outputs, time, _of_first(trial.targets))
    bottom.set(xlabel="time (ms)", ylabel="outputs")
    return figure


def traces(content: Content) -> "Figure":
    """Voltages (or the first state variable) of three units, and eligibility traces of one synapse onto each."""
    from ..neurons import variables
    from ..parameter import resolve

    net, trial = content.network, first_trial(content)
    name = hidden_of(net)
    variable = variables(resolve(net.populations[name]).init_state())[0]
    steps = int(trial.lengths[0]) if trial.lengths is not None else trial.steps
    states = np.asarray(net.run(trial.inputs, record=(f"{name}.{variable}",))[f"{name}.{variable}"])[:steps, 0]
    time = np.arange(steps) * net.dt
    projection, pre = _busiest(net, name, trial)
    found = np.asarray(eligibility_traces(net, trial, projection, pre))[:steps, 0]
    found = found[:, 0] if found.ndim == 3 else found
    units = np.sort(np.argsort(-np.abs(found).sum(axis=0))[:3])
    figure, (top, bottom) = axes(3.6, rows=2, sharex=True)
    for colour, unit in zip(CYCLE, units):
        top.plot(time, states[:, unit], color=colour, linewidth=1, label=f"{name} {unit}")
        bottom.plot(time, found[:, unit], color=colour, linewidth=1)
    _legend(top)
    top.set_ylabel(f"{variable}\n(arb. units)")
    bottom.set(xlabel="time (ms)", ylabel=f"eligibility\n{projection}, pre {pre}")
    return figure


def weights(content: Content) -> "Figure":
    """Every projection's weight matrix, on one symmetric scale each; of a convolution a row for each of its kernels."""
    projections = [(n, p) for n, p in content.network.projections.items() if p.matrix or p.trainable][:6]
    columns = 2
    rows = -(-len(projections) // columns)
    figure, grid = axes(2.3 * rows, rows=rows, columns=columns)
    for axis, (name, projection) in zip(np.ravel(grid), projections):
        kernel = isinstance(projection, Convolution)
        matrix = np.asarray(projection.effective() if projection.matrix else projection.weight)
        matrix = matrix.reshape(len(matrix), -1) if kernel else matrix.reshape(-1, matrix.shape[-1])
        limit = float(np.quantile(np.abs(matrix), 0.99)) or 1.0
        image = axis.imshow(
            matrix, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest", rasterized=True
        )
        axis.set_title(name, fontsize=8)
        ends = ("place in the kernel", "onto channel") if kernel else ("from unit", "onto unit")
        axis.set(xlabel=ends[0], ylabel=ends[1])
        axis.tick_params(labelsize=7)
        figure.colorbar(image, ax=axis).ax.tick_params(labelsize=7)
    for axis in np.ravel(grid)[len(projections) :]:
        axis.set_visible(False)
    return figure


def confusions(counts: np.ndarray) -> "Figure":
    """Which class was taken for which, in per cent of the class."""
    figure, axis = axes(3.8)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    image = axis.imshow(share, cmap="cividis", vmin=0, vmax=100, rasterized=True)
    if len(counts) <= 12:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                colour = "white" if value < 55 else "black"
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
        axis.set(xticks=range(len(counts)), yticks=range(len(counts)))
    axis.set(xlabel="decided", ylabel="class")
    figure.colorbar(image, ax=axis, label="% of the class")
    return figure


def svg(draw: Callable[[], "Figure"]) -> str:
    """A figure's SVG element. The same figure is the same text: no date, no random identifiers."""
    import matplotlib

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "engrax",
        "font.size": 9,
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure = draw()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", dpi=150)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def axes(
    height: float, rows: int = 1, columns: int = 1, sharex: bool = False, heights: tuple[float, ...] | None = None
) -> tuple["Figure", Any]:
    """A new figure of the usual width, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    options = {"height_ratios": heights} if heights else None
    return figure, figure.subplots(rows, columns, sharex=sharex, gridspec_kw=options)


def _of_first(targets: Any) -> Any:
    """The first trial's targets, if there are any."""
    return targets if targets is None else np.asarray(targets)[:, 0] if targets.ndim > 1 else targets[0]


def _outputs(axis: Any, outputs: np.ndarray, time: np.ndarray, target: Any) -> None:
    """Outputs over time: a colour each while colours last, else those of the class asked for and of the largest sum."""
    count = outputs.shape[1]
    named = {unit: CYCLE[unit] for unit in range(count)} if count <= len(CYCLE) else {}
    labels = {unit: str(unit) for unit in named} if count > 1 else {}
    if not named and target is not None and np.ndim(target) == 0:
        decided, wanted = int(np.argmax(outputs.sum(axis=0))), int(target)
        named = {decided: ORANGE, wanted: BLUE}
        labels = {decided: f"{decided} (decided)", wanted: f"{wanted} ({'right' if wanted == decided else 'wanted'})"}
    for unit in range(count):
        colour = named.get(unit, "#BBBBBB")
        axis.plot(
            time, outputs[:, unit], color=colour, linewidth=1, label=labels.get(unit), zorder=3 if unit in named else 2
        )
    if labels:
        _legend(axis)
    if target is not None and np.issubdtype(np.asarray(target).dtype, np.floating):
        axis.plot(time, np.asarray(target)[: len(time)], color="black", linestyle=":", linewidth=1, label="target")


def _legend(axis: Any) -> None:
    """Above the axes, where no curve runs."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 0.97)}
    axis.legend(ncols=8, fontsize=7, frameon=False, handlelength=1, columnspacing=1, **place)


def _units(axis: Any, values: np.ndarray, time: np.ndarray, name: str, events: bool) -> None:
    """A population's output: dots where it is a spike, else an image."""
    if events:
        at, unit = np.nonzero(values)
        axis.plot(
            time[at], unit, linestyle="none", marker="|", markersize=2.5, color="black", rasterized=len(at) > 2000
        )
        axis.set_ylim(-1, values.shape[1])
    else:
        step = time[1] - time[0] if len(time) > 1 else 1.0
        extent = (time[0] - step / 2, time[-1] + step / 2, -0.5, values.shape[1] - 0.5)
        axis.imshow(
            values.T,
            aspect="auto",
            origin="lower",
            extent=extent,
            cmap="Greys",
            interpolation="nearest",
            rasterized=True,
        )
    axis.set_ylabel(f"{name}\nunit")


def _busiest(net: Network, name: str, trial: Trial) -> tuple[str, int]:
    """A recurrent projection onto a population if there is one, else any, and its most active presynaptic unit."""
    onto = [(key, p) for key, p in net.projections.items() if p.post == name]
    key, projection = next(((k, p) for k, p in onto if p.pre in net.populations), onto[0])
    if projection.pre in net.populations:
        output = np.asarray(net.run(trial.inputs, record=(projection.pre,))[projection.pre])
    else:
        output = np.asarray(dense(net.check_inputs(trial.inputs)[projection.pre]))
    return key, int(np.argmax(np.abs(output).sum(axis=(0, 1))))
