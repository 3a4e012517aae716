"""What sensors delivered before: the last readings of each, for policies that see only the present.

Start at `stack.py`. The other kind of memory, learned, is in `robofuse.policies` (`memory=...`).
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.memory.spaces import stacked_sensors
    from robofuse.memory.stack import Stack
    from robofuse.memory.wrapper import SensorStack
    from robofuse.memory.wrapper_sb3 import VecSensorStack

_HOME = {
    "SensorStack": "wrapper",
    "Stack": "stack",
    "VecSensorStack": "wrapper_sb3",
    "stacked_sensors": "spaces",
}
__all__ = ["SensorStack", "Stack", "VecSensorStack", "stacked_sensors"]

__getattr__ = lazy(__name__, _HOME)
