"""Files of Stable-Baselines3 and sb3-contrib: agents, and what normalised their observations. They hold pickles."""

import importlib
import pickle
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from robofuse.errors import InputError

ALGORITHMS = {
    **dict.fromkeys(("a2c", "ddpg", "dqn", "ppo", "sac", "td3"), "stable_baselines3"),
    **dict.fromkeys(("qrdqn", "recurrentppo", "tqc", "trpo", "crossq"), "sb3_contrib"),
}
_CLASSES = {"recurrentppo": "RecurrentPPO", "crossq": "CrossQ"}  # the others are in capitals


def load_agent(path: str | Path, algo: str, trust: bool, device: str = "auto") -> BaseAlgorithm:
    """An agent in a file of Stable-Baselines3.

    Args:
        path: of the agent, `agent.zip`. Such files hold pickles, which run code when they are loaded.
        algo: its algorithm, in `ALGORITHMS`.
        trust: load it all the same.
        device: of the agent.

    Raises:
        InputError: it is not trusted, or not there, or of another algorithm; the message says what would do.
    """
    if not trust:
        raise InputError(
            f"{path} is in Stable-Baselines3's format, and loading it can run code hidden in it; give --trust if you "
            "made it or know who did"
        )
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        return _algorithm(algo).load(path, device=device)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be loaded as {algo}: {' '.join(str(error).split())}") from None


def load_statistics(path: Path) -> VecNormalize:
    """What `VecNormalize.save` wrote, of whatever environments; InputError if it is not that."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        found = pickle.loads(path.read_bytes())
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, ImportError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, VecNormalize):
        raise InputError(f"{path} holds a {type(found).__name__}, and no VecNormalize")
    found.training = False
    return found


def _algorithm(name: str) -> Any:  # noqa: ANN401
    if name not in ALGORITHMS:
        raise InputError(f"unknown algorithm {name!r}; algorithms: {', '.join(sorted(ALGORITHMS))}")
    try:
        module = importlib.import_module(ALGORITHMS[name])
    except ImportError:
        raise InputError(f"{name} is of sb3-contrib: pip install 'robofuse[contrib]'") from None
    return getattr(module, _CLASSES.get(name, name.upper()))
