from .spaces import stacked_sensors
from .stack import Stack
from .wrapper import SensorStack
from .wrapper_sb3 import VecSensorStack

__all__ = ["SensorStack", "Stack", "VecSensorStack", "stacked_sensors"]
