"""What sensors delivered before: the last readings of each, for policies that see only the present.

Start at `stack.py`; `stateful.py` says how policies with and without a memory act. `robofuse.wrappers` stacks the
readings of other people's environments. The other kind of memory, learned, is in `robofuse.policies` (`memory=...`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
