"""Training: `robofuse train TASK`.

Start at `loop.py`; `command.py` is what the command runs, `options.py` what it can be told.
"""

from robofuse.train.command import defaults_for, recorded, run_train
from robofuse.train.options import PRESETS, Train

__all__ = ["PRESETS", "Train", "defaults_for", "recorded", "run_train"]
