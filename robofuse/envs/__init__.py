"""MuJoCo worlds that give RGB, depth, proprioception and force, many at a time.

Start at `world.py`. Names are imported when they are used, so that `import robofuse` stays light.
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.envs.adapters import BatchedEnv, SingleEnv
    from robofuse.envs.adapters_sb3 import SB3VecEnv
    from robofuse.envs.cameras import CAMERAS, Camera
    from robofuse.envs.mjcf import attach
    from robofuse.envs.noise import Noise
    from robofuse.envs.robot import ROBOTS, RobotModel, register_robot
    from robofuse.envs.step import Step
    from robofuse.envs.tasks import TASKS, Task, register_task
    from robofuse.envs.timing import Timing
    from robofuse.envs.world import World

_HOME = {
    "BatchedEnv": "adapters",
    "CAMERAS": "cameras",
    "Camera": "cameras",
    "Noise": "noise",
    "ROBOTS": "robot",
    "RobotModel": "robot",
    "SB3VecEnv": "adapters_sb3",
    "SingleEnv": "adapters",
    "Step": "step",
    "TASKS": "tasks",
    "Task": "tasks",
    "Timing": "timing",
    "World": "world",
    "attach": "mjcf",
    "register_robot": "robot",
    "register_task": "tasks",
}
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

__getattr__ = lazy(__name__, _HOME)
