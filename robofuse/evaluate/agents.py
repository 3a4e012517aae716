"""Agents in files of Stable-Baselines3, and environments by name, for commands."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import gymnasium as gym
import tyro

from robofuse.deploy import Policy as Deployed
from robofuse.errors import InputError
from robofuse.evaluate.foreign import Foreign, make_foreign
from robofuse.export.played import SUFFIX
from robofuse.plugins import import_plugin
from robofuse.policies.agent_files import load_agent, load_statistics


@dataclass(frozen=True)
class AgentOptions:
    """An agent of Stable-Baselines3, instead of a policy of robofuse.

    Attributes:
        env: Its environment, any with a Dict observation: FILE.py:FUNCTION or module:function that makes it, or the id
            of a registered one. POLICY is then the agent's file, or what `robofuse export` made of it.
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
        path: of the agent, `agent.zip`, which holds pickles, which run code when they are loaded; or what
            `robofuse export` made of it, `agent.onnx`, which cannot.
        options: the environment, and how the agent is to be read.
        device: of the agent.
        seed: of the first scene.
        pictures: ask the environment for pictures (`render_mode="rgb_array"`), if it takes that.

    Raises:
        InputError: something is not there, or does not fit, or is not trusted; the message says what would do.
    """
    make_env = find_env(options.env, pictures)
    exported = Path(path).suffix == SUFFIX
    agent = Deployed(path) if exported else load_agent(path, options.algo, options.trust, device)
    statistics = load_statistics(options.normalize) if options.normalize else None
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
