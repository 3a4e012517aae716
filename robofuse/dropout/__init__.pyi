from .apply import hide_arrays, mask_sensors
from .config import Dropout, as_dropout
from .laws import Bound, Groups, Independent, Law, Markov, Rates, Subsets
from .masker import Masker
from .schedules import Constant, Cosine, Linear, Schedule
from .wrapper import SensorDropout
from .wrapper_sb3 import DropoutProgress, VecSensorDropout, tell_progress

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
    "mask_sensors",
    "hide_arrays",
    "tell_progress",
]
