from .stack import Stack, single_sensors, stacked_sensors
from .stateful import StatefulPolicy, stateful

__all__ = ["Stack", "StatefulPolicy", "single_sensors", "stacked_sensors", "stateful"]
