from .conditions import Condition, grid, midway, missing, parse, parse_faults, singles, subsets
from .folder import read_evaluation, read_evaluations
from .report import Report, run_report
from .results import ConditionResult, Episode, Evaluation
from .rollout import Job, rollout, schedule
from .run import Evaluate, run_evaluate

__all__ = [
    "Condition",
    "ConditionResult",
    "Episode",
    "Evaluate",
    "Evaluation",
    "Job",
    "Report",
    "grid",
    "midway",
    "missing",
    "parse",
    "parse_faults",
    "read_evaluation",
    "read_evaluations",
    "rollout",
    "run_evaluate",
    "run_report",
    "schedule",
    "singles",
    "subsets",
]
