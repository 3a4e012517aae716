"""What can be said about success rates: how sure one can be of them, and how gracefully they fall."""

from robofuse.stats.intervals import (
    Estimate,
    bootstrap,
    iqm,
    paired_difference,
    probability_of_improvement,
    retention,
    wilson,
)
from robofuse.stats.robustness import (
    Violation,
    Violations,
    Worst,
    effective_robustness,
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
    "monotonicity_violations",
    "paired_difference",
    "probability_of_improvement",
    "relative_robustness",
    "retention",
    "second_difference",
    "wilson",
    "worst",
]
