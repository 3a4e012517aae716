"""Dropout, faults and memory for other people's environments: Gymnasium's, and Stable-Baselines3's `VecEnv`.

Start at `transforms.py`: what happens to the observations of N environments, whichever library they come from.
`gym.py` and `sb3.py` wrap environments; names are imported when they are used, so Gymnasium alone suffices for its own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
