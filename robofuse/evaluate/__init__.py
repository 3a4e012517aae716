"""The failure lab: how well a policy does without each set of sensors, on the same scenes.

Start at `rollout.py`, which plays episodes; `command.py` is what `robofuse evaluate` runs.
"""

from robofuse.evaluate.command import run_evaluate
from robofuse.evaluate.conditions import Condition, broken, grid, midway, parse, parse_faults, standard, subsets
from robofuse.evaluate.config import Evaluate
from robofuse.evaluate.rollout import Monitor, rollout, schedule, validate
from robofuse.evaluate.traces import Job, Result

__all__ = [
    "Condition",
    "Evaluate",
    "Job",
    "Monitor",
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
