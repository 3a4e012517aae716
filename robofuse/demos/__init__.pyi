from .layout import Episode
from .reader import Demonstrations, read
from .recorder import Recorder
from .run import Record, run_record

__all__ = ["Demonstrations", "Episode", "Record", "Recorder", "read", "run_record"]
