"""Hiding sensors on purpose, to train: laws, schedules, and wrappers for Gymnasium and Stable-Baselines3.

Start at `config.py`. Names are imported when they are used, so that a law does not bring Stable-Baselines3.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
