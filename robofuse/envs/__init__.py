"""MuJoCo worlds that give RGB, depth, proprioception and force, many at a time.

Start at `world.py`. Names are imported when they are used, so that `import robofuse` stays light.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
