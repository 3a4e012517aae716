"""Train robot policies that keep working when sensors fail.

Importing this package registers the Gymnasium environments by name and loads
nothing heavy: torch, MuJoCo and the renderers are imported when an environment
or a policy is made. Where Gymnasium is missing, as on a robot that only runs
exported policies (`robofuse.deploy`), there is nothing to register.

The names that most programs need are here as well, imported when they are used; `__init__.pyi` has their types.
"""

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_HOMES = {
    "Dropout": "dropout",
    "Evaluate": "evaluate",
    "FusionExtractor": "policies",
    "FusionPPO": "policies",
    "Plan": "faults",
    "Policy": "policies",
    "SB3VecEnv": "envs",
    "SensorDropout": "wrappers",
    "SensorFaults": "wrappers",
    "Train": "train",
    "VecSensorDropout": "wrappers",
    "VecSensorFaults": "wrappers",
    "World": "envs",
    "evaluate_agent": "evaluate",
    "load": "policies",
    "run_evaluate": "evaluate",
    "run_train": "train",
    "save": "policies",
}
__all__ = [*_HOMES, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

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


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'robofuse' has no attribute {name!r}")
    return getattr(import_module(f"robofuse.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
