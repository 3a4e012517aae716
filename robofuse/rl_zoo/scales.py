"""A wrapper that brings numbers of robofuse environments to the size of 1."""

from typing import Any

import gymnasium as gym
import numpy as np

from robofuse.errors import InputError


class TypicalScales(gym.ObservationWrapper[dict[str, Any], Any, dict[str, Any]], gym.utils.RecordConstructorArgs):
    """Divides vectors and windows by the typical scale of their sensor; pictures, which have units, stay as they are.

    The zoo gives an extractor nothing but the space, which does not tell that 0.1 m are far for a hand. Whoever makes
    the agent gives `FusionExtractor` the `sensors` instead, and needs no wrapper. No running statistics: hidden
    readings cannot shift them, and there is no file of them to lose.
    """

    def __init__(self, env: gym.Env) -> None:
        """Wraps a robofuse environment.

        Raises:
            ValueError: the environment has no `world` that tells scales.
        """
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        world = getattr(env.unwrapped, "world", None)
        if world is None:
            raise InputError(
                f"{env.unwrapped} does not tell the scales of its sensors; take this wrapper for robofuse/… "
                "environments, and for others stable_baselines3's VecNormalize or units of the size of 1"
            )
        numbers = [sensor for sensor in world.sensors if sensor.kind in ("vector", "window")]
        self._scales = {sensor.key: np.asarray(sensor.scale, np.float32) for sensor in numbers}
        spaces = dict(env.observation_space.spaces)  # pyright: ignore[reportAttributeAccessIssue]
        for key, scale in self._scales.items():
            spaces[key] = gym.spaces.Box(spaces[key].low / scale, spaces[key].high / scale, dtype=np.float32)
        self.observation_space = gym.spaces.Dict(spaces)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Readings in typical scales; float32 as before."""
        return {key: x / self._scales[key] if key in self._scales else x for key, x in observation.items()}
