from .blackouts import blackout, parse_disable
from .catalogue import faults_for, find_fault, register
from .common import Blackout
from .event import FaultEvent
from .fault import Fault, FaultContext
from .injector import Injector
from .mix import Mix, seen_faults
from .plan import Plan

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
    "parse_disable",
    "register",
    "seen_faults",
]
