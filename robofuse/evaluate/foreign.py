"""Agents of others in environments of others: anything that acts, in any Gymnasium environment with a Dict observation.

Faults break what the environment observes; a monitor judges it; then readings are normalised, if the agent was trained
so; then those of announced faults, and those that the monitor does not trust, are zeros, and 0 under `available`, which
an agent that does not know that key is not given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from robofuse.deploy import Policy as Deployed
from robofuse.deploy.inputs import finite
from robofuse.dropout import mask_arrays
from robofuse.errors import InputError
from robofuse.evaluate.conditions import Condition
from robofuse.evaluate.results import Episode
from robofuse.evaluate.rollout import Job
from robofuse.faults import Plan
from robofuse.play import NOT_FINITE, Monitor, Watch, hash_weights
from robofuse.sensors import AVAILABLE, Kind, Sensor
from robofuse.wrappers import SensorFaults
from robofuse.wrappers.gym import DT, step_seconds
from robofuse.wrappers.spaces import breakable_sensors, sensor_space

Observation = Mapping[str, Any]
Act = Callable[[Observation], Any]
_ONLY = torch.zeros(1, dtype=torch.int64)  # the environment's number, for watches
_MOST_STEPS = 100_000  # of an episode; an environment without an end is a mistake
_LIMIT = "_max_episode_steps"  # of gymnasium.wrappers.TimeLimit
SUCCESS, OVER, OUT_OF_TIME = "success", "over", "out of time"  # how episodes end
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
        self.digest = hash_weights(network) if isinstance(network, nn.Module) else getattr(agent, "digest", None)
        space = getattr(agent, "observation_space", None)
        self._known = set(space.spaces) if isinstance(space, gym.spaces.Dict) else None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the sensors."""
        return tuple(sensor.key for sensor in self.sensors)

    def start(self) -> None:
        """An episode begins: what was remembered is forgotten."""
        self._state, self._began = None, True
        if isinstance(self._agent, Deployed):
            self._agent.reset()
        elif hasattr(self._agent, "start"):
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
        if isinstance(self._agent, Deployed):
            return _act_deployed(self._agent, given, keys)
        if not hasattr(self._agent, "predict"):
            return self._agent(given)
        action, self._state = self._agent.predict(
            given, state=self._state, episode_start=np.array([self._began]), deterministic=True
        )
        self._began = False
        return action


def _as_exported(sensor: Sensor, x: np.ndarray) -> np.ndarray:
    """A reading with its channels last, as exported policies read pictures."""
    first = x.ndim == 3 and x.shape != sensor.shape and (*x.shape[1:], x.shape[0]) == sensor.shape
    return np.moveaxis(x, 0, -1) if first else x


def _act_deployed(policy: Deployed, observation: Observation, keys: Sequence[str]) -> np.ndarray:
    """An exported policy's action; NaN where it would read NaN or Inf, as in torch."""
    told = dict(zip(keys, observation[AVAILABLE], strict=True))
    flags = np.array([told[key] for key in policy.keys], np.int8)
    readings = {sensor.key: _as_exported(sensor, np.asarray(observation[sensor.key])) for sensor in policy.sensors}
    if all(finite(readings[key]) for key, flag in zip(policy.keys, flags, strict=True) if flag):
        return policy({**readings, AVAILABLE: flags})
    return np.full(np.shape(policy.action.get("low", ())), np.nan, np.float32)


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
        max_steps: of an episode; 0 if the environment does not say.
        rate: steps per second.
    """

    policy: ForeignPolicy
    make_env: Callable[[], gym.Env]
    options: dict[str, Any]
    note: str = ""
    success_return: float | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    max_steps: int = 0
    rate: float = 1.0 / DT


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
        _check_agent(agent, env, policy.keys)
        repeats = _repeats(env, seed)
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        rate = 1.0 / step_seconds(env.metadata)
        limit = env.get_wrapper_attr(_LIMIT) if env.has_wrapper_attr(_LIMIT) else None
    finally:
        env.close()
    note = (
        "" if repeats
        else "two resets with the same seed show different scenes, so conditions are not compared on the same ones"
    )  # fmt: skip
    options = {"task": name, **({"env": source} if source else {})}
    return Foreign(policy, make_env, options, note, success_return, dict(kinds or {}), limit or 0, rate)


def play_foreign(
    foreign: Foreign,
    jobs: Sequence[Job],
    seed: int,
    progress: Callable[[Episode], object],
    reference: int,
    monitor: Monitor | None = None,
) -> list[Episode]:
    """Play episodes one after another; number `episode` begins with `reset(seed=seed + episode)` in every condition.

    Args:
        foreign: the agent, and its environment.
        jobs: what to play.
        seed: of the scenes.
        progress: called with every result.
        reference: the control step at which jerk is measured where nothing fails.
        monitor: masks the sensors that it does not trust.

    Raises:
        InputError: an environment that says of no episode whether it succeeded, or that never ends.
    """
    env, results = foreign.make_env(), list[Episode]()
    watch = None if monitor is None else monitor.stateful(1)
    try:
        broken = dict[str, SensorFaults]()
        for job in jobs:
            name = job.condition.name
            if name not in broken:
                broken[name] = break_sensors(foreign, env, job.condition.plan)
            results.append(_episode(foreign, broken[name], job, seed, reference, watch))
            progress(results[-1])
    finally:
        env.close()
    return results


def check_plans(conditions: Sequence[Condition], foreign: Foreign) -> None:
    """InputError for a plan that cannot happen in an environment of others."""
    for condition in conditions:
        condition.plan.check(foreign.policy.sensors)


class Taken(NamedTuple):
    """One step of an episode in an environment of others.

    Attributes:
        step: steps before it.
        observation: what the agent was shown, broken, and zeros where that was announced or the watch has no trust;
            with `available`.
        available: int8 (M,), before the watch was asked.
        affected: bool (M,), the sensors that faults have broken, announced or not.
        action: the agent's, as numbers float64 (A,).
        reward: of the step; 0 if it was not taken, as the action was not finite.
        picture: what the environment drew before the step, if it was asked; else None.
        ended: empty; or, of the last step, `success`, or why it is none.
    """

    step: int
    observation: Observation
    available: np.ndarray
    affected: np.ndarray
    action: np.ndarray
    reward: float
    picture: np.ndarray | None
    ended: str

    @property
    def success(self) -> bool:
        """Whether the episode ended with success."""
        return self.ended == SUCCESS


def break_sensors(foreign: Foreign, env: gym.Env, plan: Plan) -> SensorFaults:
    """Its environment, with broken sensors."""
    return SensorFaults(env, plan, dict(foreign.kinds), foreign.policy.sensors)


def episode_steps(
    foreign: Foreign, env: SensorFaults, seed: int, pictures: bool = False, watch: Watch | None = None
) -> Iterator[Taken]:
    """Play one episode.

    Args:
        foreign: the agent.
        env: its environment, of `break_sensors`.
        seed: of the scene.
        pictures: have every step drawn.
        watch: of a monitor, over one environment; what it does not trust is masked.

    Raises:
        InputError: an environment that draws nothing, that does not say whether the episode succeeded, or that never
            ends.
    """
    policy = foreign.policy
    observation, _ = env.reset(seed=seed)
    policy.start()
    if watch is not None:
        watch.start(_ONLY)
    total = 0.0
    for step in range(_MOST_STEPS):
        picture = _draw(env) if pictures else None
        told, affected = np.array(observation[AVAILABLE], np.int8), env.affected
        shown = observation if watch is None else _watched(watch, observation, env.keys, policy.keys)
        action = policy.act(shown, env.keys)
        numbers = np.asarray(action, dtype=np.float64).ravel()
        if not np.isfinite(numbers).all():
            yield Taken(step, shown, told, affected, numbers, 0.0, picture, NOT_FINITE)
            return
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
        if terminated or truncated:
            why = SUCCESS if _succeeded(foreign, info, total) else OVER if terminated else OUT_OF_TIME
            yield Taken(step, shown, told, affected, numbers, float(reward), picture, why)
            return
        yield Taken(step, shown, told, affected, numbers, float(reward), picture, "")
    raise InputError(
        f"an episode has not ended after {_MOST_STEPS:,} steps; wrap the environment in gymnasium.wrappers.TimeLimit"
    )


def _watched(watch: Watch, observation: Observation, keys: Sequence[str], watched: Sequence[str]) -> Observation:
    """An observation, masked where the watch has no trust; `keys` are of `available`, `watched` those it judges."""
    columns = [keys.index(key) for key in watched]
    live = np.array(observation[AVAILABLE], np.int8)[columns]
    readings = {key: torch.from_numpy(np.array(observation[key]))[None] for key in watched}
    verdict = watch.step({**readings, AVAILABLE: torch.from_numpy(live)[None]}, _ONLY)[0].numpy()
    kept = np.ones(len(keys), np.int8)
    kept[columns] = np.where(live > 0, verdict, 1)  # what is missing already stays as it is
    batch = {key: np.asarray(x)[None] for key, x in observation.items()}
    masked = mask_arrays(batch, kept[None], keys)
    return {key: observation[key] if x is batch[key] else x[0] for key, x in masked.items()}


class _Found:
    """What a monitor finds in an episode, see `robofuse.evaluate.results.Episode`."""

    def __init__(self, condition: Condition, keys: Sequence[str]) -> None:
        """Nothing yet; `keys` are of `available`."""
        only = condition.event
        self._target = None if only is None or only.is_announced else keys.index(only.sensor)
        self._trusted, self._onset = np.ones(len(keys), bool), None
        self.detected: int | None = None
        self.alarms = self.watched = 0

    def add(self, taken: Taken) -> None:
        """Takes in a step."""
        trusted, live = np.asarray(taken.observation[AVAILABLE]) > 0, taken.available > 0
        self.watched += 1
        self.alarms += int((live & ~taken.affected & self._trusted & ~trusted).sum())
        self._trusted = trusted
        if self._onset is None and taken.affected.any():
            self._onset = taken.step
        if self._target is not None and self._onset is not None and self.detected is None:
            if (live & taken.affected & ~trusted)[self._target]:
                self.detected = taken.step - self._onset


def _episode(foreign: Foreign, env: SensorFaults, job: Job, seed: int, reference: int, watch: Watch | None) -> Episode:
    condition = job.condition
    onset = reference if condition.onset is None else condition.onset
    before, jerk, total, found = list[np.ndarray](), None, 0.0, _Found(condition, env.keys)
    steps, success, error = 0, False, ""
    for taken in episode_steps(foreign, env, seed + job.episode, watch=watch):
        total += taken.reward
        if watch is not None:
            found.add(taken)
        if taken.ended == NOT_FINITE:
            error = NOT_FINITE
            break
        if taken.step == onset and len(before) == 2:
            jerk = float(np.linalg.norm(taken.action - 2.0 * before[1] + before[0]))
        before = [*before[-1:], taken.action]
        steps, success = taken.step + 1, taken.success
    told = (found.detected, found.alarms, found.watched)
    return Episode(condition.name, job.episode, success, steps, total, error, jerk, *told)


def _draw(env: gym.Env) -> np.ndarray:
    picture = env.render() if env.render_mode == "rgb_array" else None
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(
            f"the environment draws no picture (its render_mode is {env.render_mode!r}); make it with "
            "render_mode='rgb_array', with which render() gives an array uint8 (height, width, 3)"
        )
    return picture


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


def _check_agent(agent: Any, env: gym.Env, keys: Sequence[str]) -> None:  # noqa: ANN401
    """InputError if an agent of Stable-Baselines3 is for other observations or actions."""
    if isinstance(agent, Deployed):
        _check_deployed(agent, env, keys)
        return
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


def _check_deployed(policy: Deployed, env: gym.Env, keys: Sequence[str]) -> None:
    lacking = [key for key in policy.keys if key not in keys]
    if lacking:
        raise InputError(f"the exported policy reads {', '.join(lacking)}; the environment has {', '.join(keys)}")
    action, space = policy.action, env.action_space
    here = {"n": int(space.n)} if isinstance(space, gym.spaces.Discrete) else None
    if isinstance(space, gym.spaces.Box):
        here = {"low": space.low.tolist(), "high": space.high.tolist()}
    if here != action:
        raise InputError(f"the exported policy acts in {action}, the environment in {space}")


def _repeats(env: gym.Env, seed: int) -> bool:
    """Whether two resets with the same seed show the same."""
    one, other = ({key: np.array(x) for key, x in env.reset(seed=seed)[0].items()} for _ in range(2))
    return all(np.array_equal(x, other[key], equal_nan=x.dtype.kind == "f") for key, x in one.items())
