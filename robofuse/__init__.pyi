from .dropout import Dropout
from .envs import SB3VecEnv, World
from .evaluate import Evaluate, evaluate_agent, run_evaluate
from .faults import Plan
from .policies import FusionExtractor, FusionPPO, Policy, load, save
from .train import Train, run_train
from .wrappers import SensorDropout, SensorFaults, VecSensorDropout, VecSensorFaults

__all__ = [
    "Dropout",
    "Evaluate",
    "FusionExtractor",
    "FusionPPO",
    "Plan",
    "Policy",
    "SB3VecEnv",
    "SensorDropout",
    "SensorFaults",
    "Train",
    "VecSensorDropout",
    "VecSensorFaults",
    "World",
    "__version__",
    "evaluate_agent",
    "load",
    "run_evaluate",
    "run_train",
    "save",
]

__version__: str
