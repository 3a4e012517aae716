from .command import run_record
from .config import Record
from .episode import Episode
from .reader import Demonstrations, read
from .recorder import Recorder

__all__ = ["Demonstrations", "Episode", "Record", "Recorder", "read", "run_record"]
