"""`robofuse replay`: a policy at work, with sensors disabled: filmed, live in the browser, or recorded for rerun.

`run.py` runs it, `frames.py` plays an episode, `dashboard.py` draws a frame; `live.py` is a session that one can meddle
with, and `page.py` its page. Names are imported when they are used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
