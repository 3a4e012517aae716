"""Agents in files of Stable-Baselines3, and environments by name, for commands."""

import functools
import importlib
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import gymnasium as gym
import tyro

from robofuse.errors import InputError
from robofuse.evaluate.foreign import Foreign, make_foreign
from robofuse.plugins import import_plugin

ALGORITHMS = {
    **dict.fromkeys(("a2c", "ddpg", "dqn", "ppo", "sac", "td3"), "stable_baselines3"),
    **dict.fromkeys(("qrdqn", "recurrentppo", "tqc", "trpo", "crossq"), "sb3_contrib"),
}
_CLASSES = {"recurrentppo": "RecurrentPPO", "crossq": "CrossQ"}  # the others are in capitals


@dataclass(frozen=True)
class AgentOptions:
    """An agent of Stable-Baselines3, instead of a policy of robofuse.

    Attributes:
        env: Its environment, any with a Dict observation: FILE.py:FUNCTION or module:function that makes it, or the id
            of a registered one. POLICY is then the agent's file.
        algo: ppo, sac, td3, dqn, a2c, recurrentppo, tqc, …
        trust: Load its file, although such files can run code hidden in them.
        success_return: The sum of rewards from which on an episode counts as done; by default what the environment's
            info says (is_success or success).
        normalize: A file that VecNormalize.save wrote, if the agent was trained with one.
    """

    env: str = ""
    algo: str = "ppo"
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    success_return: float | None = None
    normalize: Path | None = None


def load_foreign(
    path: str, options: AgentOptions, *, device: str = "auto", seed: int = 0, pictures: bool = False
) -> Foreign:
    """An agent in a file of Stable-Baselines3, and its environment.

    Args:
        path: of the agent, `agent.zip`. Such files hold pickles, which run code when they are loaded.
        options: the environment, and how the agent is to be read.
        device: of the agent.
        seed: of the first scene.
        pictures: ask the environment for pictures (`render_mode="rgb_array"`), if it takes that.

    Raises:
        InputError: something is not there, or does not fit, or is not trusted; the message says what would do.
    """
    if not options.trust:
        raise InputError(
            f"{path} is in Stable-Baselines3's format, and loading it can run code hidden in it; give --trust if you "
            "made it or know who did"
        )
    for needed in (Path(path), *([options.normalize] if options.normalize else [])):
        if not needed.is_file():
            raise InputError(f"{needed}: there is no such file")
    make_env = find_env(options.env, pictures)
    try:
        agent = _algorithm(options.algo).load(path, device=device)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be loaded as {options.algo}: {' '.join(str(error).split())}") from None
    statistics = _statistics(options.normalize) if options.normalize else None
    return make_foreign(
        agent, make_env, success_return=options.success_return, normalise=statistics, source=options.env, seed=seed
    )


def find_env(name: str, pictures: bool = False) -> Callable[[], gym.Env]:
    """What makes an environment; arguments as of `AgentOptions` and `load_foreign`.

    Raises:
        InputError: it is not there.
    """
    mode = "rgb_array" if pictures else None
    place, _, function = name.rpartition(":")
    if not place:
        try:
            gym.spec(name)
        except gym.error.Error as error:
            raise InputError(f"--env {name}: {error}; or give FILE.py:FUNCTION") from None
        return lambda: gym.make(name, render_mode=mode)
    found: Any = getattr(import_plugin(place), function, None)
    if not callable(found):
        raise InputError(f"--env {name}: {place} has no function {function}")
    taken = inspect.signature(found).parameters
    takes = "render_mode" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())
    return cast(Callable[[], gym.Env], functools.partial(found, render_mode=mode) if takes and mode else found)


def _algorithm(name: str) -> Any:  # noqa: ANN401
    if name not in ALGORITHMS:
        raise InputError(f"unknown algorithm {name!r}; algorithms: {', '.join(sorted(ALGORITHMS))}")
    try:
        module = importlib.import_module(ALGORITHMS[name])
    except ImportError:
        raise InputError(f"{name} is of sb3-contrib: pip install 'robofuse[contrib]'") from None
    return getattr(module, _CLASSES.get(name, name.upper()))


def _statistics(path: Path) -> Any:  # noqa: ANN401
    """What `VecNormalize.save` wrote, of whatever environments."""
    from stable_baselines3.common.vec_env import VecNormalize

    try:
        found = pickle.loads(path.read_bytes())
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, ImportError, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, VecNormalize):
        raise InputError(f"{path} holds a {type(found).__name__}, and no VecNormalize")
    found.training = False
    return found
