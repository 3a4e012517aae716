"""Hiding sensors on purpose, to train: laws, schedules, and wrappers for Gymnasium and Stable-Baselines3.

Start at `config.py`. Names are imported when they are used, so that a law does not bring Stable-Baselines3.
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.dropout.config import Dropout, as_dropout
    from robofuse.dropout.hiding import hide, hide_arrays
    from robofuse.dropout.laws import Bound, Groups, Independent, Law, Markov, Rates, Subsets
    from robofuse.dropout.masker import Masker
    from robofuse.dropout.schedules import Constant, Cosine, Linear, Schedule
    from robofuse.dropout.wrapper import SensorDropout
    from robofuse.dropout.wrapper_sb3 import DropoutProgress, VecSensorDropout, tell_progress

_HOME = {
    "Bound": "laws",
    "Constant": "schedules",
    "Cosine": "schedules",
    "Dropout": "config",
    "DropoutProgress": "wrapper_sb3",
    "Groups": "laws",
    "Independent": "laws",
    "Law": "laws",
    "Linear": "schedules",
    "Markov": "laws",
    "Masker": "masker",
    "Rates": "laws",
    "Schedule": "schedules",
    "SensorDropout": "wrapper",
    "Subsets": "laws",
    "VecSensorDropout": "wrapper_sb3",
    "as_dropout": "config",
    "hide": "hiding",
    "hide_arrays": "hiding",
    "tell_progress": "wrapper_sb3",
}
__all__ = [
    "Bound",
    "Constant",
    "Cosine",
    "Dropout",
    "DropoutProgress",
    "Groups",
    "Independent",
    "Law",
    "Linear",
    "Markov",
    "Masker",
    "Rates",
    "Schedule",
    "SensorDropout",
    "Subsets",
    "VecSensorDropout",
    "as_dropout",
    "hide",
    "hide_arrays",
    "tell_progress",
]

__getattr__ = lazy(__name__, _HOME)
