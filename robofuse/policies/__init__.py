"""What the robot thinks with: encoders, fusion and the networks that learn to act when sensors are hidden.

Everything here is torch on batches of observations. It knows sensors (`robofuse.sensors`), never simulators: nothing
in this package imports `robofuse.envs`, so a policy runs on any source of the same observations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
