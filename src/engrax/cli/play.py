"""`engrax play`: a stored agent at work, as a moving picture."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, failing
from .evaluate import Folder, Json


@app.command(epilog="Example: engrax play runs/catch --episode 3")
def play(
    run: Folder,
    episode: Annotated[int, typer.Option(min=0, help="Which test episode.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="A .gif file, or .mp4 or .webm with ffmpeg. Left out: play.gif in RUN.")
    ] = None,
    sampled: Annotated[bool, typer.Option("--sampled", help="Draw actions instead of taking the best.")] = False,
    as_json: Json = False,
) -> None:
    """Play a test episode with the best network of a stored RUN, and write it as a moving picture."""
    with failing():
        import numpy as np

        from ..errors import ArgumentError
        from ..reporting.playing import film
        from ..rl import Environment
        from ..training.store import dumps
        from ..training.stored import load_run

        stored = load_run(run)
        world = stored.built.task
        if not isinstance(world, Environment):
            raise ArgumentError(
                f"{run}: the task {stored.recipe.task.name!r} is no environment, there is nothing to play."
            )
        if episode >= world.episodes:
            raise ArgumentError(f"--episode: there are {world.episodes} test episodes, counted from 0, got {episode}.")
        key = next(iter(world.batches("test", episode + 1))).keys[episode]
        path = run / "play.gif" if out is None else out

        def say(done: int, of: int) -> None:
            if done == of or done % 20 == 0:
                typer.echo(f"picture {done} of {of}", err=True)

        played = film(stored.network, world, path, key=key, greedy=not sampled, say=say)
        total, taken = float(np.sum(played.rewards)), int(np.sum(played.alive))
        if as_json:
            typer.echo(dumps({"return": total, "actions": taken, "episode": episode, "file": path}))
        else:
            typer.echo(f"return {total:g} in {taken} actions: {path}")
