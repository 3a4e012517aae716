from .gym import SensorDropout, SensorFaults, SensorStack
from .robosuite import Robosuite
from .robotics import mend_gymnasium_robotics
from .sb3 import DropoutProgress, VecSensorDropout, VecSensorFaults, VecSensorStack, tell_progress

__all__ = [
    "Robosuite",
    "DropoutProgress",
    "SensorDropout",
    "SensorFaults",
    "SensorStack",
    "VecSensorDropout",
    "VecSensorFaults",
    "VecSensorStack",
    "mend_gymnasium_robotics",
    "tell_progress",
]
