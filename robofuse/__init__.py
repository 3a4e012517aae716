"""Train robot policies that keep working when sensors fail.

Importing this package registers the Gymnasium environments by name and loads
nothing heavy: torch, MuJoCo and the renderers are imported when an environment
or a policy is made. Where Gymnasium is missing, as on a robot that only runs
exported policies (`robofuse.deploy`), there is nothing to register.
"""

import os
from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

__version__: str
"""As installed."""

# A thread of torch that waits for another spins for milliseconds, unless told to sleep soon: beside another program on
# two cores an update took 7.3 s in place of 1.3. It is read when torch is first imported; what is set already stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

try:
    __version__ = version("robofuse")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

try:
    from robofuse.registration import register_all
except ModuleNotFoundError as error:
    if error.name != "gymnasium":
        raise
else:
    register_all()
