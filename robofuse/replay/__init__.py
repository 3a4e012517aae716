"""`robofuse replay`: a policy at work, filmed, with sensors disabled.

`command.py` runs it, `moments.py` plays an episode, `dashboard.py` draws a moment. Names are imported when they are
used.
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.replay.command import Replay, run_replay

_HOME = {"Replay": "command", "run_replay": "command"}
__all__ = ["Replay", "run_replay"]

__getattr__ = lazy(__name__, _HOME)
