"""Demonstrations: recorded to LeRobot's layout, read back, and copied before training.

Start at `recorder.py`, which writes, and `reader.py`; `command.py` is what `robofuse record` runs. Names are imported
when they are used.
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.demos.command import run_record
    from robofuse.demos.config import Record
    from robofuse.demos.episode import Episode
    from robofuse.demos.reader import Demonstrations, read
    from robofuse.demos.recorder import Recorder

_HOME = {
    "Demonstrations": "reader",
    "Episode": "episode",
    "Record": "config",
    "Recorder": "recorder",
    "read": "reader",
    "run_record": "command",
}
__all__ = ["Demonstrations", "Episode", "Record", "Recorder", "read", "run_record"]

__getattr__ = lazy(__name__, _HOME)
