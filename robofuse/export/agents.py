"""What the file of an exported agent of Stable-Baselines3 says of it."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple, cast

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from robofuse.checks import at_least_zero
from robofuse.deploy.model import ENTRIES, RATE, read_entries
from robofuse.errors import InputError
from robofuse.policies.agents import of_agent
from robofuse.policies.saving import plain_action
from robofuse.sensors import AVAILABLE, Entry, Sensor


class Hints(NamedTuple):
    """What the network does not know; attributes as the arguments of `robofuse.export.export`, and the agent's name."""

    normalise: VecNormalize | None = None
    rate: float = 0.0
    entries: Mapping[str, Sequence[str | Entry | Mapping[str, Any]]] = {}
    name: str = ""


NOTHING = Hints()


def with_hints(sensors: Sequence[Sensor], action: Mapping[str, Any], hints: Hints) -> dict[str, Any]:
    """The properties `sensors`, `rate` and `entries`; InputError if a hint does not fit."""
    at_least_zero(hints.rate, "rate")
    entries = read_entries(hints.entries, sensors, action)
    return {
        "sensors": [asdict(sensor if sensor.rate else replace(sensor, rate=float(hints.rate))) for sensor in sensors],
        RATE: float(hints.rate),
        ENTRIES: {key: [asdict(entry) for entry in ones] for key, ones in entries.items()},
    }


def describe_agent(agent: BaseAlgorithm, hints: Hints) -> dict[str, Any]:
    """The properties of the file of an agent, name → plain JSON.

    Raises:
        InputError: it cannot be exported, as of `robofuse.policies.agents.of_agent`; it chooses by numbers that do not
            begin with 0; an observation that is no Box; a hint that does not fit.
    """
    extractor = of_agent(agent, hints.normalise).extractor
    spaces, action = cast(gym.spaces.Dict, agent.observation_space).spaces, plain_action(agent.action_space)
    if isinstance(agent.action_space, gym.spaces.Discrete) and agent.action_space.start != 0:
        raise InputError(f"the choices begin with {agent.action_space.start}; a file knows those from 0 on")
    sensors = []
    for sensor in extractor.sensors:
        if not isinstance(spaces[sensor.key], gym.spaces.Box):
            raise InputError(f"{sensor.key!r} is a {type(spaces[sensor.key]).__name__}; exported files know only Box")
        # the channels of pictures last, as cameras deliver them and as the encoder gets them
        sensors.append(replace(sensor, shape=tuple(extractor.readings.encoded[sensor.key].shape)))
    # without `available` it has not learned to do without
    maskable = extractor.told_of if AVAILABLE in spaces else ()
    return {
        "format": 1,
        "name": hints.name or type(agent).__name__.lower(),
        "required": [sensor.key for sensor in sensors if sensor.key not in maskable],
        "action": action,
        "world": {},
        "card": {
            "algorithm": type(agent).__name__,
            "steps": int(agent.num_timesteps),
            "versions": {"stable_baselines3": importlib.metadata.version("stable_baselines3")},
        },
        **with_hints(sensors, action, hints),
    }
