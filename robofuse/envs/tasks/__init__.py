"""The tasks, one file each."""

from typing import TypeVar

import gymnasium as gym

from robofuse import registration
from robofuse.checks import check_name
from robofuse.envs.tasks.feel import Feel
from robofuse.envs.tasks.grasp import Grasp
from robofuse.envs.tasks.peg_insert import PegInsert
from robofuse.envs.tasks.reach import Reach
from robofuse.envs.tasks.sort import Sort
from robofuse.envs.tasks.stack import Stack
from robofuse.envs.tasks.task import Task, check_task
from robofuse.errors import InputError

TASKS: dict[str, type[Task]] = {task.name: task for task in (Reach, Grasp, Feel, PegInsert, Sort, Stack)}
"""Tasks by name."""


T = TypeVar("T", bound=type[Task])


def register_task(task: T) -> T:
    """Registers a task under its name; a decorator of its class.

    `World("Push")`, `gym.make("robofuse/Push-v0")`, the commands and `robofuse list` find it; the list shows the first
    sentence of its docstring.

    Raises:
        InputError: it lacks methods or attributes, or another task has the name.
    """
    check_task(task)
    check_name(task.name, task, TASKS, "task")
    TASKS[task.name] = task
    summary = " ".join((task.__doc__ or "").partition("\n\n")[0].split())
    id = registration.id_of(task.name)
    registration.TASKS[id] = summary
    gym.registry.pop(id, None)
    registration.register_all()
    return task


def resolve_task(task: str | Task | type[Task]) -> Task:
    """A task by name (`Grasp` or `robofuse/Grasp-v0`), class or instance.

    Raises:
        InputError: unknown name, or a task that lacks something; the message lists what there is, or what is missing.
    """
    if isinstance(task, str):
        name = task.removeprefix("robofuse/").removesuffix("-v0")
        if name not in TASKS:
            raise InputError(
                f"unknown task {task!r}; tasks: {', '.join(TASKS)}; or give a robofuse.envs.Task, or make its name "
                "known first: @robofuse.envs.register_task, and --import FILE.py on the command line"
            )
        return TASKS[name]()
    if not isinstance(task, Task) and not (isinstance(task, type) and issubclass(task, Task)):
        raise InputError(f"a task is a name ({', '.join(TASKS)}) or a robofuse.envs.Task, got {task!r}")
    check_task(task)
    return task if isinstance(task, Task) else task()


__all__ = ["TASKS", "Feel", "Grasp", "PegInsert", "Reach", "Sort", "Stack", "Task", "register_task", "resolve_task"]
