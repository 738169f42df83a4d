"""An episode as a moving picture: the world beside the network's spikes and what its readouts say."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._files import write
from ..errors import ArgumentError
from ..network import Network
from ..rl import Environment, Played, play
from ..rl.play import POLICY, VALUE, begin
from ..trial import Episodes
from .figures import BLUE, CYCLE, GREY, ORANGE, hidden_of

# More pictures than these are left out evenly: a film of minutes is no longer one to look at.
FRAMES = 400
WINDOW = 600.0


def film(
    net: Network,
    world: Environment,
    path: Path,
    *,
    key: Any,
    greedy: bool = True,
    rate: int = 12,
    say: Callable[[int, int], None] = lambda done, of: None,
) -> Played:
    """Play one episode and write it as a moving picture.

    Args:
        net: the agent.
        world: where it acts.
        path: of a .gif (always possible), or of a .mp4 or .webm (with ffmpeg).
        key: the episode's.
        greedy: take the most probable actions instead of drawing them.
        rate: pictures a second.
        say: told how many pictures are made, and of how many.

    Returns:
        What was played.

    Raises:
        ArgumentError: a file of another kind, or ffmpeg is missing.
    """
    writer = _writer(path, rate)
    hidden = hidden_of(net)
    episodes = Episodes(world, key[None])
    played, record = play(net, episodes, greedy=greedy, record=(hidden,))
    taken = int(np.sum(np.asarray(played.alive)))
    seen = _seen(world, episodes, played, taken)
    spikes = np.asarray(record[hidden])[: taken * world.hold, 0]
    policy, value = (np.asarray(record.outputs[n])[: taken * world.hold, 0] for n in (POLICY, VALUE))
    shown = np.unique(np.linspace(0, taken, min(taken + 1, FRAMES)).astype(int))

    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.0), layout="constrained", dpi=100)
    scene, raster, says, judges = _axes(figure)
    scene.set_axis_off()
    time, step = np.arange(len(spikes)) * net.dt, world.hold * net.dt
    window = min(WINDOW, taken * step)
    spiking = net.populations[hidden].spiking
    if spiking:
        at, unit = np.nonzero(spikes)
        raster.plot(time[at], unit, linestyle="none", marker="|", markersize=2.5, color="black", rasterized=True)
    else:
        raster.imshow(
            spikes.T, aspect="auto", origin="lower", cmap="Greys", extent=(0, time[-1], -0.5, spikes.shape[1])
        )
    raster.set(ylabel=f"{hidden}\nunit", ylim=(-1, spikes.shape[1]))
    for k in range(policy.shape[1]):
        says.plot(time, policy[:, k], color=CYCLE[k % len(CYCLE)], linewidth=1, label=str(k))
    says.set_ylabel("policy")
    says.legend(ncols=8, fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.95), title=None)
    judges.plot(time, value[:, 0], color=BLUE, linewidth=1)
    judges.set(xlabel="time (ms)", ylabel="value")
    now = [axis.axvline(0, color=ORANGE, linewidth=1) for axis in (raster, says, judges)]
    returned = np.concatenate([[0.0], np.cumsum(np.asarray(played.rewards)[:taken, 0])])

    def draw(n: int) -> list[Any]:
        t = int(shown[n])
        scene.clear()
        world.draw(scene, *seen[t])
        scene.set_title(f"action {t} of {taken}, return {returned[t]:g}", fontsize=10, color=GREY)
        for line in now:
            line.set_xdata([t * step, t * step])
        raster.set_xlim(max(0.0, t * step - window), max(window, t * step))
        say(n + 1, len(shown))
        return []

    moving = FuncAnimation(figure, draw, frames=len(shown), blit=False, init_func=list)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        moving.save(made, writer=writer)
        write(path, made.read_bytes())
    return played


def _writer(path: Path, rate: int) -> Any:
    from matplotlib.animation import FFMpegWriter, PillowWriter

    if path.suffix == ".gif":
        return PillowWriter(fps=rate)
    if path.suffix in (".mp4", ".webm"):
        if not FFMpegWriter.isAvailable():
            raise ArgumentError(f"out: {path.name} needs ffmpeg, which is not there. Name a .gif, or install ffmpeg.")
        return FFMpegWriter(fps=rate)
    raise ArgumentError(f"out: a moving picture is a .gif, .mp4 or .webm file, got {path.name!r}.")


def _axes(figure: Any) -> tuple[Any, Any, Any, Any]:
    grid = figure.add_gridspec(3, 2, width_ratios=(1, 1.3), height_ratios=(2, 1, 1))
    scene = figure.add_subplot(grid[:, 0])
    raster = figure.add_subplot(grid[0, 1])
    says, judges = (figure.add_subplot(grid[i, 1], sharex=raster) for i in (1, 2))
    return scene, raster, says, judges


def _seen(world: Environment, episodes: Episodes, played: Played, taken: int) -> list[tuple[Any, Any]]:
    """The world's state and observation before each action, and after the last: the episode goes by once more."""
    one = lambda tree: jax.tree.map(lambda x: np.asarray(x)[0], tree)
    state, observation = begin(world, episodes.keys)
    found = [(one(state), one(observation))]
    advance = jax.jit(world.advance)
    for t in range(taken):
        keys = jax.vmap(lambda k, t=t: jax.random.split(jax.random.fold_in(k, t), 3)[2])(episodes.keys)
        state, observation, _, _ = advance(state, played.actions[t], keys)
        found.append((one(state), one(observation)))
    return found
