"""The failure lab: how well a policy does without each set of sensors, on the same scenes.

Start at `rollout.py`, which plays episodes; `command.py` is what `robofuse evaluate` runs.
"""

from robofuse.evaluate.command import run_evaluate
from robofuse.evaluate.conditions import Condition, midway, parse, standard, subsets
from robofuse.evaluate.config import Evaluate
from robofuse.evaluate.rollout import Job, Result, rollout, schedule, validate

__all__ = [
    "Condition",
    "Evaluate",
    "Job",
    "Result",
    "midway",
    "parse",
    "rollout",
    "run_evaluate",
    "schedule",
    "standard",
    "subsets",
    "validate",
]
