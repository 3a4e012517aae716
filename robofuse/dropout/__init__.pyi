from .apply import mask_arrays, mask_sensors
from .laws import (
    Bound,
    Constant,
    Cosine,
    Dropout,
    Groups,
    Independent,
    Law,
    Linear,
    Markov,
    Rates,
    Schedule,
    Subsets,
    as_dropout,
    singles,
)
from .masker import Masker

__all__ = [
    "Bound",
    "Constant",
    "Cosine",
    "Dropout",
    "Groups",
    "Independent",
    "Law",
    "Linear",
    "Markov",
    "Masker",
    "Rates",
    "Schedule",
    "Subsets",
    "as_dropout",
    "mask_arrays",
    "mask_sensors",
    "singles",
]
