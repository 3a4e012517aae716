from .agents import AgentOptions
from .budget import Budget, Subset, efficient, pick, run_budget
from .conditions import Condition, grid, midway, missing, parse, parse_faults, singles, subsets
from .folder import read_evaluation, read_evaluations
from .report import Report, run_report
from .results import ConditionResult, Episode, Evaluation
from .rollout import Job, rollout, schedule
from .run import Evaluate, evaluate_agent, run_evaluate
from .suite import Suite, run_suite

__all__ = [
    "AgentOptions",
    "Budget",
    "Condition",
    "ConditionResult",
    "Episode",
    "Evaluate",
    "Evaluation",
    "Job",
    "Report",
    "Subset",
    "Suite",
    "efficient",
    "evaluate_agent",
    "grid",
    "midway",
    "missing",
    "parse",
    "parse_faults",
    "pick",
    "read_evaluation",
    "read_evaluations",
    "rollout",
    "run_budget",
    "run_evaluate",
    "run_report",
    "run_suite",
    "schedule",
    "singles",
    "subsets",
]
