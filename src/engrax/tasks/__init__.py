"""Tasks, a file each: where trials come from and how answers are scored. A new file is found by itself.

`get(name, **settings)` makes one; `names()` lists them. A task's name is its class attribute `name`, or its class's
name in lower case.
"""

import inspect
from typing import Any

from .._scan import subclasses
from ..errors import TaskError, nearest, unknown
from .drawn import DrawnTask
from .event_task import EventTask
from .speech import SpeechTask
from .stored import StoredTask, factory
from .task import Split, Task

_found = subclasses(__name__, __path__, Task)
_concrete = {name: task for name, task in _found.items() if not inspect.isabstract(task)}

TASKS: dict[str, type[Task]] = {}
for _class, _task in _concrete.items():
    _name = vars(_task).get("name")
    TASKS[_name if isinstance(_name, str) else _class.lower()] = _task
globals().update(_concrete)

__all__ = [
    "TASKS",
    "DrawnTask",
    "EventTask",
    "SpeechTask",
    "Split",
    "StoredTask",
    "Task",
    "factory",
    "get",
    "names",
    *_concrete,
]


def names() -> tuple[str, ...]:
    """The names that `get` knows, in alphabetical order."""
    return tuple(sorted(TASKS))


def get(name: str, **settings: Any) -> Task:
    """Make the task called `name`.

    Args:
        name: one of `names()`.
        settings: the task's own settings, as its class documents them; left out ones have their defaults. Stored tasks
            with one class a trial also take `balanced=True` (`StoredTask.balanced`).

    Raises:
        TaskError: no task or no setting of that name (the nearest spelling is given), a required setting is
            missing, or a setting has an impossible value.
        DataError: the task's data file is missing, damaged or of another shape than promised.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise unknown("task", name, names(), TaskError)
    make = factory(TASKS[name])
    parameters = inspect.signature(make).parameters
    for setting in settings:
        if setting not in parameters:
            raise unknown(f"setting of the task {name!r}:", setting, parameters, TaskError)
    for setting, parameter in parameters.items():
        if parameter.default is parameter.empty and setting not in settings:
            raise TaskError(f"the task {name!r} needs the setting {setting!r}.")
    return make(**settings)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"engrax.tasks has no {name!r}.{nearest(name, __all__)}")
