from .base import Fault, FaultContext, FaultEvent, number
from .catalogue import faults_for, find_fault, register
from .common import Blackout
from .injector import Injector
from .mix import Mix, seen_faults
from .plan import Plan, blackout, parse_disable, parse_missing

__all__ = [
    "Blackout",
    "Fault",
    "Injector",
    "Mix",
    "FaultContext",
    "Plan",
    "FaultEvent",
    "blackout",
    "faults_for",
    "find_fault",
    "number",
    "parse_disable",
    "parse_missing",
    "register",
    "seen_faults",
]
