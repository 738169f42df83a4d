"""Files that worker processes run, each by itself and by its path: they import nothing of Engrax, and so no JAX."""

from pathlib import Path


def file(name: str) -> str:
    """The path of one of them. Importing it would need the packages that it is for."""
    return str(Path(__file__).with_name(f"{name}.py"))
