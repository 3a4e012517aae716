from .conditions import Condition, broken, grid, midway, parse, parse_faults, standard, subsets
from .rollout import Job, Result, rollout, schedule, validate
from .run import Evaluate, run_evaluate

__all__ = [
    "Condition",
    "Evaluate",
    "Job",
    "Result",
    "broken",
    "grid",
    "midway",
    "parse",
    "parse_faults",
    "rollout",
    "run_evaluate",
    "schedule",
    "standard",
    "subsets",
    "validate",
]
