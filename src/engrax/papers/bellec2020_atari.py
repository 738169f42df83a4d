"""Bellec et al. 2020, Fig. 4: Pong from pixels by reward-based e-prop, for as many frames as one long run allows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..network import Network
from .bellec2020 import PAPER, SOURCE
from .experiment import Experiment, Found
from .runs import run_once

# An update: 32 episodes of 175 to 200 actions, of 4 frames each; the mean.
UPDATES, FRAMES = 30, 24000
GAMES, ACTIONS = 4, 2000
QUICK = (
    *("task.length=20", "task.jitter=0", "task.episodes=4", "task.validation_episodes=4"),
    *("training.steps=2", "training.validate_every=1", "training.batch=4"),
)


class Bellec2020Atari(Experiment):
    """Spiking convolutions, 240 LIF and 160 ALIF units play Pong."""

    paper, name, source = PAPER, "atari", f"{SOURCE}, Fig. 4, and the authors' program"

    def run(self, quick: bool, folder: Path, say: Callable[[str], None]) -> Found:
        there = folder.parent / "reward-runs"
        if quick:
            run = run_once("pong", QUICK, 0, there, say)
            return Found(run["test_score"], "untested", "2 updates by short episodes", seconds=run["seconds"])
        run = run_once(
            "pong",
            [f"training.steps={UPDATES}", f"training.validate_every={UPDATES // 5}"],
            0,
            there,
            say,
            look=_games,
        )
        curve = {f"{FRAMES * step:.3g} frames": round(figure, 2) for step, figure in run["curve"]}
        measured = {"score": run["game_score"], "return of 200 actions": curve}
        why = (
            f"score of a game's first {ACTIONS} actions after {FRAMES * UPDATES:.2g} frames, mean of {GAMES} games; "
            "the authors' program reaches about 10 after 1e9"
        )
        return Found(measured, "holds" if run["game_score"] > 0 else "untested", why, seconds=run["seconds"])


def _games(net: Network) -> dict[str, Any]:
    """The score of whole games, or nearly."""
    from ..rl.environments import Pong
    from ..training import evaluate

    return {"game_score": evaluate(net, Pong(length=ACTIONS, episodes=GAMES), batch=GAMES)["score"]}
