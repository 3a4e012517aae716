from .declare import Job, Study
from .registry import TRIALS, Kind, Trial, register_trial
from .run import RunStudy, run_study
from .studies import STUDIES

__all__ = [
    "STUDIES",
    "TRIALS",
    "Job",
    "Kind",
    "RunStudy",
    "Study",
    "Trial",
    "register_trial",
    "run_study",
]
