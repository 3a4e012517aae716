from .apply import mask_arrays, mask_sensors
from .laws import (
    Bound,
    Constant,
    Cosine,
    Dropout,
    Empirical,
    Groups,
    Independent,
    Law,
    Linear,
    LoseOne,
    Markov,
    Rates,
    Schedule,
    Subsets,
    as_dropout,
    singles,
)
from .logs import Log, as_log, read_log
from .masker import Masker
from .rows import RowMasker

__all__ = [
    "Bound",
    "Constant",
    "Cosine",
    "Dropout",
    "Empirical",
    "Groups",
    "Independent",
    "Law",
    "Linear",
    "Log",
    "LoseOne",
    "Markov",
    "Masker",
    "Rates",
    "RowMasker",
    "Schedule",
    "Subsets",
    "as_dropout",
    "as_log",
    "mask_arrays",
    "mask_sensors",
    "read_log",
    "singles",
]
