"""Masking sensors on purpose, to train: the laws, the masks that they draw, and what masks do to observations.

Start at `laws.py`. `robofuse.wrappers` masks the sensors of other people's environments.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
