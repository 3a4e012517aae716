"""Hiding sensors on purpose, to train: laws, schedules and masks.

Start at `config.py`. Names are imported when they are used, so that a law does not bring Stable-Baselines3.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robofuse.dropout.config import Dropout, as_dropout
    from robofuse.dropout.hiding import hide, hide_arrays
    from robofuse.dropout.laws import Bound, Groups, Independent, Law, Markov, Rates, Subsets
    from robofuse.dropout.masker import Masker
    from robofuse.dropout.schedules import Constant, Cosine, Linear, Schedule

_HOME = {
    "Bound": "laws",
    "Constant": "schedules",
    "Cosine": "schedules",
    "Dropout": "config",
    "Groups": "laws",
    "Independent": "laws",
    "Law": "laws",
    "Linear": "schedules",
    "Markov": "laws",
    "Masker": "masker",
    "Rates": "laws",
    "Schedule": "schedules",
    "Subsets": "laws",
    "as_dropout": "config",
    "hide": "hiding",
    "hide_arrays": "hiding",
}
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
    "hide",
    "hide_arrays",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
