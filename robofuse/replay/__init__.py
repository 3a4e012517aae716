"""`robofuse replay`: a policy at work, filmed, with sensors disabled.

`run.py` runs it, `frames.py` plays an episode, `dashboard.py` draws a frame. Names are imported when they are used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
