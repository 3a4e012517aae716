from .demo import Demo, run_demo
from .run import Replay, run_replay

__all__ = ["Demo", "Replay", "run_demo", "run_replay"]
