"""What wrappers say to environments that do not keep their word."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from stable_baselines3.common.vec_env import VecEnv

from robofuse.wrappers import SensorDropout, SensorFaults, VecSensorDropout, VecSensorFaults

STATE = Box(-1, 1, (3,))


PICTURE = Box(0, 255, (24, 26, 3), np.uint8)


class Fixed(gym.Env):
    """Any space, whose samples are all there is to see."""

    action_space = Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action), False, True, {}


class Custom(VecEnv):
    """A vector environment that hands on what it is given, as SB3's own do not."""

    def __init__(self, space, given):
        super().__init__(2, space, Discrete(2))
        self.given = given

    def reset(self):
        return {key: np.stack([x, x]) for key, x in self.given.items()}

    def get_attr(self, name, indices=None):
        return [None]

    step_async = step_wait = close = set_attr = env_method = env_is_wrapped = None  # not needed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": None}, "'a' must be float32 of shape .3,., got "),
        ({"a": np.array(["x"] * 3)}, "'a' must be float32 of shape .3,., got "),
        ({"a": np.zeros(4)}, r"'a' has shape \(4,\), .*\(3,\)"),
        ({"gear": np.zeros(2)}, r"'gear' has shape \(2,\), but its space says \(\)"),
        (
            {"camera": np.full((24, 26, 3), 0.5)},
            r"'camera' came as float64, .*fractions",
        ),
        ("a", "'a' is missing .*gear, camera"),
    ],
)
def test_environments_that_do_not_keep_their_word(change, message):
    """SB3 answers these with a KeyError, with black pictures, or with NaN in the network."""
    space = Dict(a=STATE, gear=Discrete(3), camera=PICTURE)
    given = {"a": np.zeros(3), "gear": np.int64(1), "camera": np.zeros(PICTURE.shape, np.int64)}
    assert SensorDropout(Fixed(space), 0.0).reset()[1] == {}
    fine = given  # other numbers of the same sort, as environments often give them
    odd = {key: x for key, x in given.items() if key != change} if isinstance(change, str) else given | change
    for wrap in (lambda env: SensorDropout(env, 0.0), lambda env: SensorFaults(env, "a:offset")):
        env = Fixed(space)
        for each, wrong in ((fine, False), (odd, True)):
            env.reset = lambda each=each, **_: (each, {})
            if wrong:
                with pytest.raises(ValueError, match=message):
                    wrap(env).reset()
            else:
                assert wrap(env).reset()[0].keys() == {*space, "available"}
    for wrap in (lambda env: VecSensorDropout(env, 0.0), lambda env: VecSensorFaults(env, "a:offset")):
        assert wrap(Custom(space, fine)).reset().keys() == {*space, "available"}
        if "fractions" in message:  # VecNormalize makes them, and does not always say so in its space
            continue
        with pytest.raises(ValueError, match=message):
            wrap(Custom(space, odd)).reset()


def test_an_environment_that_gives_no_dict():
    env = Fixed(Dict(a=STATE, b=STATE))
    env.reset = lambda **_: (np.zeros(6), {})
    with pytest.raises(ValueError, match="is a ndarray, but its space a Dict"):
        SensorDropout(env, 0.0).reset()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Box(0, 255, (24, 24, 5), np.uint8), "'odd' .*kinds={'odd': 'rgb'}"),
        (Discrete(4), r"no fault is known for 'odd', Discrete\(4\)"),
    ],
)
def test_keys_that_no_fault_can_break_are_told_from_unknown_ones(part, message):
    with pytest.raises(ValueError, match=message):
        SensorFaults(Fixed(Dict(a=STATE, odd=part)), "odd:blackout")
    with pytest.raises(ValueError, match="unknown sensor 'none'; sensors: a"):
        SensorFaults(Fixed(Dict(a=STATE, odd=part)), "none:blackout")
