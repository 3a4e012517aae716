"""Agents of others in environments of others: anything that acts, in any Gymnasium environment with a Dict observation.

Faults break what the environment observes; then readings are normalised, if the agent was trained so; then those of
announced faults are zeros, and 0 under `available`, which an agent that does not know that key is not given.
"""

import importlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from torch import nn

from robofuse.dropout import mask_arrays
from robofuse.errors import InputError
from robofuse.evaluate.conditions import Condition
from robofuse.evaluate.results import Episode
from robofuse.evaluate.rollout import Job
from robofuse.play import NOT_FINITE, hash_weights
from robofuse.plugins import import_plugin
from robofuse.sensors import AVAILABLE, Kind, Sensor
from robofuse.wrappers import SensorFaults
from robofuse.wrappers.spaces import breakable_sensors, sensor_space

Observation = Mapping[str, Any]
Act = Callable[[Observation], Any]
ALGORITHMS = {
    **dict.fromkeys(("a2c", "ddpg", "dqn", "ppo", "sac", "td3"), "stable_baselines3"),
    **dict.fromkeys(("qrdqn", "recurrentppo", "tqc", "trpo", "crossq"), "sb3_contrib"),
}
_CLASSES = {"recurrentppo": "RecurrentPPO", "crossq": "CrossQ"}  # the others are in capitals
_MOST_STEPS = 100_000  # of an episode; an environment without an end is a mistake
_SUCCESS = ("is_success", "success")  # what environments call it in their `info`


class ForeignPolicy:
    """What acts: a function of an observation, or an agent of Stable-Baselines3.

    Attributes:
        sensors: that faults can break.
        card: empty; nothing is known of its training.
        digest: SHA-256 of its weights, None if it has none.
    """

    def __init__(self, agent: Any, sensors: Sequence[Sensor], normalise: Any = None) -> None:  # noqa: ANN401
        """See `evaluate_agent`; `normalise` is a `VecNormalize` of Stable-Baselines3."""
        self.sensors, self.card = tuple(sensors), dict[str, Any]()
        self._agent, self._normalise, self._state = agent, normalise, None
        self._began = True
        network = getattr(agent, "policy", agent)
        self.digest = hash_weights(network) if isinstance(network, nn.Module) else None
        space = getattr(agent, "observation_space", None)
        self._known = set(space.spaces) if isinstance(space, gym.spaces.Dict) else None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the sensors."""
        return tuple(sensor.key for sensor in self.sensors)

    def start(self) -> None:
        """An episode begins: what was remembered is forgotten."""
        self._state, self._began = None, True
        if hasattr(self._agent, "start"):
            self._agent.start()

    def act(self, observation: Observation, keys: Sequence[str]) -> Any:  # noqa: ANN401
        """An action for one observation; `keys` are those of `available`."""
        given = dict(observation)
        if self._normalise is not None:
            told = {key: np.asarray(given[key])[None] for key in self._normalise.observation_space.spaces}
            given |= {key: x[0] for key, x in self._normalise.normalize_obs(told).items()}
            batch = {key: np.asarray(x)[None] for key, x in given.items() if key != AVAILABLE}
            masked = mask_arrays(batch, np.asarray(given[AVAILABLE])[None], keys)
            given = {key: x[0] for key, x in masked.items()}
        if self._known is not None:
            given = {key: x for key, x in given.items() if key in self._known}
        if not hasattr(self._agent, "predict"):
            return self._agent(given)
        action, self._state = self._agent.predict(
            given, state=self._state, episode_start=np.array([self._began]), deterministic=True
        )
        self._began = False
        return action


@dataclass
class Foreign:
    """An agent, and how to make its environment.

    Attributes:
        policy: the agent.
        make_env: makes the environment.
        options: for the record: `task`, and where the environment comes from.
        note: for the user; or empty.
        success_return: the sum of rewards from which on an episode counts as done, where `info` does not say it.
        kinds: key → kind of sensor, where the space does not tell.
    """

    policy: ForeignPolicy
    make_env: Callable[[], gym.Env]
    options: dict[str, Any]
    note: str = ""
    success_return: float | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)


def make_foreign(
    agent: Any,  # noqa: ANN401
    make_env: Callable[[], gym.Env],
    *,
    success_return: float | None = None,
    kinds: Mapping[str, Kind] | None = None,
    normalise: Any = None,  # noqa: ANN401
    source: str = "",
    seed: int = 0,
) -> Foreign:
    """Look at an environment, and whether the agent fits it; arguments as of `evaluate_agent`.

    Raises:
        InputError: no Dict observation, nothing that can break, or an agent for other observations or actions.
    """
    env = make_env()
    try:
        if not isinstance(env, gym.Env):
            raise InputError(f"the environment must be a gymnasium.Env, got a {type(env).__name__}")
        sensed = sensor_space(env.observation_space, None, "keep")
        found, left_out = breakable_sensors(sensed, kinds or {})
        known = getattr(getattr(env.unwrapped, "world", None), "sensors", None) or ()
        scales = {sensor.key: sensor for sensor in known}
        sensors = tuple(scales.get(one.key, one) for one in found)
        if not sensors:
            raise InputError(f"nothing in the observation can break: {'; '.join(left_out.values())}")
        policy = ForeignPolicy(agent, sensors, normalise)
        _check_agent(agent, env)
        repeats = _repeats(env, seed)
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
    finally:
        env.close()
    note = (
        "" if repeats
        else "two resets with the same seed show different scenes, so conditions are not compared on the same ones"
    )  # fmt: skip
    options = {"task": name, **({"env": source} if source else {})}
    return Foreign(policy, make_env, options, note, success_return, dict(kinds or {}))


def load_foreign(
    path: str,
    env: str,
    *,
    algo: str,
    trust: bool,
    success_return: float | None = None,
    normalise: Path | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Foreign:
    """An agent in a file of Stable-Baselines3, and its environment by the name of a function.

    Args:
        path: of the agent, `agent.zip`.
        env: `FILE.py:FUNCTION` or `module:function`, which returns a Gymnasium environment; or the id of a registered
            one.
        algo: one of `ALGORITHMS`.
        trust: such files hold pickles, which run code when they are loaded: whether that is wanted.
        success_return: see `Foreign`.
        normalise: a file that `VecNormalize.save` wrote; a pickle, too.
        device: of the agent.
        seed: of the first scene.

    Raises:
        InputError: something is not there, or does not fit; the message says what would.
    """
    if not trust:
        raise InputError(
            f"{path} is in Stable-Baselines3's format, and loading it can run code hidden in it; give --trust if you "
            "made it or know who did"
        )
    for needed in (Path(path), *([normalise] if normalise else [])):
        if not needed.is_file():
            raise InputError(f"{needed}: there is no such file")
    make_env = find_env(env)
    try:
        agent = _algorithm(algo).load(path, device=device)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, EOFError, OSError) as error:
        raise InputError(f"{path} cannot be loaded as {algo}: {' '.join(str(error).split())}") from None
    statistics = _statistics(normalise) if normalise else None
    return make_foreign(agent, make_env, success_return=success_return, normalise=statistics, source=env, seed=seed)


def find_env(name: str) -> Callable[[], gym.Env]:
    """What makes an environment; see `load_foreign`. InputError says what is not there."""
    place, _, function = name.rpartition(":")
    if not place:
        try:
            gym.spec(name)
        except gym.error.Error as error:
            raise InputError(f"--env {name}: {error}; or give FILE.py:FUNCTION") from None
        return lambda: gym.make(name)
    found: Any = getattr(import_plugin(place), function, None)
    if not callable(found):
        raise InputError(f"--env {name}: {place} has no function {function}")
    return cast(Callable[[], gym.Env], found)


def play_foreign(
    foreign: Foreign, jobs: Sequence[Job], seed: int, progress: Callable[[Episode], object], reference: int
) -> list[Episode]:
    """Play episodes one after another; number `episode` begins with `reset(seed=seed + episode)` in every condition.

    Args:
        foreign: the agent, and its environment.
        jobs: what to play.
        seed: of the scenes.
        progress: called with every result.
        reference: the control step at which jerk is measured where nothing fails.

    Raises:
        InputError: an environment that says of no episode whether it succeeded, or that never ends.
    """
    env, results = foreign.make_env(), list[Episode]()
    try:
        broken = dict[str, SensorFaults]()
        for job in jobs:
            name = job.condition.name
            if name not in broken:
                broken[name] = SensorFaults(env, job.condition.plan, dict(foreign.kinds), foreign.policy.sensors)
            results.append(_episode(foreign, broken[name], job, seed, reference))
            progress(results[-1])
    finally:
        env.close()
    return results


def check_plans(conditions: Sequence[Condition], foreign: Foreign) -> None:
    """InputError for a plan that cannot happen in an environment of others."""
    for condition in conditions:
        condition.plan.check(foreign.policy.sensors)


def _episode(foreign: Foreign, env: SensorFaults, job: Job, seed: int, reference: int) -> Episode:
    policy, condition = foreign.policy, job.condition
    observation, info = env.reset(seed=seed + job.episode)
    keys = env.keys
    policy.start()
    onset = reference if condition.onset is None else condition.onset
    before, jerk, total, said = list[np.ndarray](), None, 0.0, info
    for step in range(_MOST_STEPS):
        action = policy.act(observation, keys)
        numbers = np.asarray(action, dtype=np.float64).ravel()
        if not np.isfinite(numbers).all():
            return Episode(condition.name, job.episode, False, step, total, NOT_FINITE, jerk)
        if step == onset and len(before) == 2:
            jerk = float(np.linalg.norm(numbers - 2.0 * before[1] + before[0]))
        before = [*before[-1:], numbers]
        observation, reward, terminated, truncated, said = env.step(action)
        total += float(reward)
        if terminated or truncated:
            return Episode(condition.name, job.episode, _succeeded(foreign, said, total), step + 1, total, "", jerk)
    raise InputError(
        f"episode {job.episode} under {condition.name} has not ended after {_MOST_STEPS:,} steps; wrap the environment "
        "in gymnasium.wrappers.TimeLimit"
    )


def _succeeded(foreign: Foreign, info: Mapping[str, Any], total: float) -> bool:
    if foreign.success_return is not None:
        return total >= foreign.success_return
    for name in _SUCCESS:
        if name in info:
            return bool(info[name])
    raise InputError(
        f"the last info of an episode of {foreign.options['task']} has neither {' nor '.join(_SUCCESS)}; say from "
        "which sum of rewards on an episode counts as done: --success-return 200, success_return=200 in Python"
    )


def _check_agent(agent: Any, env: gym.Env) -> None:  # noqa: ANN401
    """InputError if an agent of Stable-Baselines3 is for other observations or actions."""
    actions, space = getattr(agent, "action_space", None), getattr(agent, "observation_space", None)
    if actions is not None and actions != env.action_space:
        raise InputError(f"the agent acts in {actions}, the environment in {env.action_space}")
    if space is None:
        return
    if not isinstance(space, gym.spaces.Dict):
        raise InputError(f"the agent reads {space}; failures are of the keys of a Dict observation")
    assert isinstance(env.observation_space, gym.spaces.Dict)
    there = {key: sorted(part.shape or ()) for key, part in env.observation_space.spaces.items()}  # channels may move
    wrong = [
        f"{key} {part.shape}" for key, part in space.spaces.items()
        if key != AVAILABLE and there.get(key) != sorted(part.shape or ())
    ]  # fmt: skip
    if wrong:
        told = ", ".join(f"{key} {part.shape}" for key, part in env.observation_space.spaces.items())
        raise InputError(f"the agent reads {', '.join(wrong)}; the environment observes {told}")


def _repeats(env: gym.Env, seed: int) -> bool:
    """Whether two resets with the same seed show the same."""
    one, other = ({key: np.array(x) for key, x in env.reset(seed=seed)[0].items()} for _ in range(2))
    return all(np.array_equal(x, other[key], equal_nan=x.dtype.kind == "f") for key, x in one.items())


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
