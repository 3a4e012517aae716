from .gym import SensorDropout, SensorFaults, SensorStack
from .sb3 import DropoutProgress, VecSensorDropout, VecSensorFaults, VecSensorStack, tell_progress

__all__ = [
    "DropoutProgress",
    "SensorDropout",
    "SensorFaults",
    "SensorStack",
    "VecSensorDropout",
    "VecSensorFaults",
    "VecSensorStack",
    "tell_progress",
]
