"""The failure lab: how well a policy does without each set of sensors, on the same scenes.

`rollout.py` plays episodes under conditions, `run.py` is what `robofuse evaluate` does. Names are imported when they
are used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
