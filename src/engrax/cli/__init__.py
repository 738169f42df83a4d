"""The command `engrax`. Each command is a file; what it needs is imported when it runs, so that --help is quick."""

from .app import app, main

__all__ = ["app", "main"]
