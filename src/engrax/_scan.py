"""How new neurons, rules and tasks are found: every public subclass defined in a package's own modules."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def subclasses(package: str, path: Iterable[str], base: type[T]) -> dict[str, type[T]]:
    """Public subclasses of `base` defined in the modules of `package`, by class name; those named abstract are not.

    Args:
        package: dotted name of the package.
        path: its `__path__`.
        base: the class whose subclasses count.
    """
    found: dict[str, type[T]] = {}
    for info in sorted(pkgutil.iter_modules(path), key=lambda i: i.name):
        module = importlib.import_module(f"{package}.{info.name}")
        for name, member in vars(module).items():
            own = inspect.isclass(member) and member.__module__ == module.__name__
            if own and issubclass(member, base) and member is not base and not name.startswith("_"):
                if "abstract" in vars(member):
                    continue
                found[name] = member
    return found
