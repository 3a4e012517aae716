"""How sensors break: fault models, plans that say what breaks when, and injectors that do it to any environment.

Start at `base.py`, which says what a fault is; `plan.py` has the language of plans.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
