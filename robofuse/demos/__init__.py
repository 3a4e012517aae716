"""Demonstrations: recorded to LeRobot's layout, read back, and copied before training.

Start at `recorder.py`, which writes, and `reader.py`; `layout.py` has what is written where, and `run.py` is what
`robofuse record` runs. Names are imported when they are used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
