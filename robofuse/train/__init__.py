"""Training: `robofuse train TASK`.

`run.py` has the loop and what is around it, `config.py` every option, `build.py` makes worlds and learner of them.
"""

from robofuse.train.config import PRESETS, Train, load_options, split_defaults
from robofuse.train.run import run_train

__all__ = ["PRESETS", "Train", "load_options", "run_train", "split_defaults"]
