"""Training: `robofuse train TASK`.

`training.py` has the loop, `run.py` what is around it, `config.py` every option, of which `build.py` makes worlds and
learner, `resume.py` what of them may change when a training goes on.
"""

from robofuse.train.config import PRESETS, Train
from robofuse.train.resume import load_options, split_defaults
from robofuse.train.run import run_train

__all__ = ["PRESETS", "Train", "load_options", "run_train", "split_defaults"]
