"""How sensors break: fault models, plans that say what breaks when, and injectors that do it to any environment.

Start at `fault.py`; `plan.py` is the language.
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.faults.blackouts import blackout, parse_disable
    from robofuse.faults.catalogue import faults_for, find_fault, register
    from robofuse.faults.common import Blackout
    from robofuse.faults.fault import Fault, Moment
    from robofuse.faults.injector import Injector
    from robofuse.faults.mix import Mix
    from robofuse.faults.plan import Plan
    from robofuse.faults.strike import Strike
    from robofuse.faults.wrapper import SensorFaults
    from robofuse.faults.wrapper_sb3 import VecSensorFaults

_HOME = {
    "Blackout": "common",
    "SensorFaults": "wrapper",
    "VecSensorFaults": "wrapper_sb3",
    "blackout": "blackouts",
    "parse_disable": "blackouts",
    "Fault": "fault",
    "Injector": "injector",
    "Mix": "mix",
    "Moment": "fault",
    "Plan": "plan",
    "Strike": "strike",
    "faults_for": "catalogue",
    "find_fault": "catalogue",
    "register": "catalogue",
}

__all__ = [
    "Blackout",
    "Fault",
    "Injector",
    "Mix",
    "Moment",
    "Plan",
    "SensorFaults",
    "Strike",
    "VecSensorFaults",
    "blackout",
    "faults_for",
    "find_fault",
    "parse_disable",
    "register",
]

__getattr__ = lazy(__name__, _HOME)
