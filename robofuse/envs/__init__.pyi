from .adapters import BatchedEnv, SingleEnv
from .adapters_sb3 import SB3VecEnv
from .cameras import CAMERAS, Camera
from .mjcf import attach
from .noise import Noise
from .robot import ROBOTS, RobotModel, register_robot
from .step import Step
from .tasks import TASKS, Task, register_task
from .timing import Timing
from .world import World

__all__ = [
    "CAMERAS",
    "ROBOTS",
    "TASKS",
    "BatchedEnv",
    "Camera",
    "Noise",
    "RobotModel",
    "SB3VecEnv",
    "SingleEnv",
    "Step",
    "Task",
    "Timing",
    "World",
    "attach",
    "register_robot",
    "register_task",
]
