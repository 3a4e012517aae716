"""The tasks, one file each."""

from robofuse.envs.tasks.grasp import Grasp
from robofuse.envs.tasks.reach import Reach
from robofuse.envs.tasks.task import Task

TASKS: dict[str, type[Task]] = {task.name: task for task in (Reach, Grasp)}


def resolve_task(task: str | Task | type[Task]) -> Task:
    """A task by name (`Grasp` or `robofuse/Grasp-v0`), class or instance.

    Raises:
        ValueError: unknown name; the message lists what exists.
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, type) and issubclass(task, Task):
        return task()
    name = str(task).removeprefix("robofuse/").removesuffix("-v0")
    if name not in TASKS:
        raise ValueError(f"unknown task {task!r}; tasks: {', '.join(TASKS)}; or give a robofuse.envs.Task")
    return TASKS[name]()


__all__ = ["TASKS", "Grasp", "Reach", "Task", "resolve_task"]
