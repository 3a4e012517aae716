from .cameras import CAMERAS, Camera
from .gym import BatchedEnv, SingleEnv
from .mjcf import attach
from .noise import Noise
from .rig import Timing
from .robot import ROBOTS, Hand, RobotModel, register_robot
from .sb3 import SB3VecEnv
from .tasks import TASKS, Task, register_task
from .world import Step, World

__all__ = [
    "CAMERAS",
    "ROBOTS",
    "TASKS",
    "BatchedEnv",
    "Camera",
    "Hand",
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
