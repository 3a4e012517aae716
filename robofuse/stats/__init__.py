"""What can be said about success rates: how sure one can be of them, and how gracefully they fall."""

from robofuse.stats.intervals import Estimate, paired_difference, retention, wilson
from robofuse.stats.resampling import bootstrap, iqm, probability_of_improvement
from robofuse.stats.robustness import (
    Violation,
    Violations,
    Worst,
    effective_robustness,
    jerk,
    monotonicity_violations,
    relative_robustness,
    second_difference,
    worst,
)

__all__ = [
    "Estimate",
    "Violation",
    "Violations",
    "Worst",
    "bootstrap",
    "effective_robustness",
    "iqm",
    "jerk",
    "monotonicity_violations",
    "paired_difference",
    "probability_of_improvement",
    "relative_robustness",
    "retention",
    "second_difference",
    "wilson",
    "worst",
]
