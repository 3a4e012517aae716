from .run import Replay, run_replay

__all__ = ["Replay", "run_replay"]
