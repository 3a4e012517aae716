"""Studies: methods × tasks × budgets × seeds as independent jobs, with what they have in common and how sure it is.

`declare.py` says what a study is, `registry.py` what its trials are, `runner.py` runs its jobs, `report.py` makes the
page. Names are imported when they are used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
