"""Sensors that are guessed from somebody else's observation space."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiDiscrete, Sequence, Text, Tuple

from robofuse.policies import FusionExtractor
from robofuse.sensors import infer_sensors

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


def image(*shape, high=255, dtype=np.uint8):
    return Dict(state=STATE, camera=Box(0, high, shape, dtype))


def test_a_box_by_one_line():
    env = Fixed(STATE)
    for make in (infer_sensors, FusionExtractor):
        with pytest.raises(ValueError, match="gymnasium.wrappers.TransformObs") as no:
            make(env.observation_space)
    line = str(no.value).split("key of one: ")[1]
    wrapped = eval(line, {"gymnasium": gym, "env": env})
    assert [sensor.key for sensor in infer_sensors(wrapped.observation_space)] == ["state"]
    assert wrapped.observation_space.contains(wrapped.reset()[0])


def test_numbers_of_bytes_are_scaled():
    (ram,) = infer_sensors(Dict(ram=Box(0, 255, (128,), np.uint8)))
    (count,) = infer_sensors(Dict(count=Box(0, 2**31 - 1, (2,), np.int32)))
    assert (ram.scale, count.scale) == (255.0, 1.0)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (image(24, 24, 2), r"'camera' \(24, 24, 2\) uint8.*2 channels.*kinds=\{'camera'"),
        (image(2, 24, 24), r"'camera' \(2, 24, 24\) uint8.*2 channels.*kinds=\{'camera'"),
        (image(24, 24, 5), "'camera'.*5 channels.*kinds="),
        (image(5, 24, 24), "'camera'.*5 channels.*kinds="),
        (image(4, 24, 24, 3), "'camera'.*VecFrameStack"),
        (image(24, 24, 3, dtype=np.float32), "'camera'.*float32.*kinds={'camera': ...}.*rgb"),
        (image(24, 24, 1, dtype=np.float32), "'camera'.*float32.*kinds={'camera': ...}.*rgb"),
        (image(3, 12, 3), "'camera'.*4×4.*3×12"),
    ],
)
def test_images_of_an_unknown_kind(space, message):
    with pytest.raises(ValueError, match=message):
        FusionExtractor(space)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Dict(inner=STATE), r"'odd' is a Dict.*'odd_inner': observation\['odd'\]\['inner'\]"),
        (Tuple([STATE, STATE]), r"'odd' is a Tuple.*'odd_0': observation\['odd'\]\[0\]"),
        (Graph(STATE, None), "'odd' is a Graph.*TransformObservation"),
        (Sequence(STATE), "'odd' is a Sequence.*TransformObservation"),
        (Text(5), "'odd' is a Text.*TransformObservation"),
        (MultiDiscrete([2, 3]), "'odd' is a MultiDiscrete.*one-hot"),
    ],
)
def test_spaces_that_are_no_arrays(part, message):
    with pytest.raises(ValueError, match=message):
        FusionExtractor(Dict(state=STATE, odd=part))


def test_spaces_of_others():
    box = gym.spaces.Box
    space = gym.spaces.Dict(
        {
            "camera": box(0, 255, (64, 64, 3), np.uint8),
            "depth_image": box(0.0, 9.0, (1, 32, 32), np.float32),
            "state": box(-1, 1, (7,), np.float32),
            "contact": gym.spaces.MultiBinary(3),
            "gear": gym.spaces.Discrete(4),
        }
    )
    kinds = {sensor.key: sensor.kind for sensor in infer_sensors(space)}
    assert kinds == {"camera": "rgb", "contact": "vector", "depth_image": "depth", "gear": "vector", "state": "vector"}
    FusionExtractor(space)
    with pytest.raises(ValueError, match="'image'"):
        infer_sensors(gym.spaces.Dict({"image": box(0, 1, (64, 64, 3), np.float32)}))
    assert infer_sensors(gym.spaces.Dict({"image": box(0, 1, (64, 64, 3), np.float32)}), {"image": "rgb"})
    with pytest.raises(ValueError, match="TransformObservation"):
        infer_sensors(space["state"])
    with pytest.raises(ValueError, match="'nested'"):
        infer_sensors(gym.spaces.Dict({"nested": gym.spaces.Dict({"a": space["state"]})}))
    with pytest.raises(ValueError, match="kinds"):
        infer_sensors(space, {"camra": "rgb"})


def test_grey_images_are_images():
    """A uint8 image of one channel was taken for depth, with 0 = no return."""
    sensors = infer_sensors(
        Dict(
            grey=Box(0, 255, (24, 26, 1), np.uint8),
            depth_8=Box(0, 255, (24, 26, 1), np.uint8),
            millimetres=Box(0, 65535, (1, 24, 26), np.uint16),
        )
    )
    assert [(s.key, s.kind, s.scale) for s in sensors] == [
        ("depth_8", "depth", 255.0),
        ("grey", "rgb", 255.0),
        ("millimetres", "depth", 1000.0),
    ]


def test_numbers_of_integers_are_scaled_by_their_bounds():
    space = Dict(
        sound=Box(-32768, 32767, (160,), np.int16),
        count=Box(0, 10, (2,), np.int64),
        endless=Box(-(2**31), 2**31 - 1, (2,), np.int32),
        floats=Box(-5, 5, (2,)),
    )
    assert {s.key: s.scale for s in infer_sensors(space)} == {"sound": 32767, "count": 10, "endless": 1, "floats": 1}


def test_all_keys_that_cannot_be_guessed_are_named_at_once():
    space = Dict(a=Box(0, 255, (24, 24, 2), np.uint8), b=Box(0, 1, (24, 24, 3)), c=Box(0, 1, (4, 24, 24, 3)), d=STATE)
    with pytest.raises(ValueError, match="'a' .*'b' .*'c' ") as caught:
        infer_sensors(space)
    assert "'d'" not in str(caught.value)


def test_large_arrays_are_flattened_with_a_warning():
    space = Dict(image=Box(0, 255, (84, 84), np.uint8), points=Box(-1, 1, (1024, 3)), state=STATE)
    with pytest.warns(UserWarning, match="'image' .*'points' ") as caught:
        FusionExtractor(space)
    assert len(caught) == 1 and "'state'" not in str(caught[0].message)
    FusionExtractor(space, kinds={"image": "window", "points": "window"})  # told, so no guess


def test_an_extractor_says_what_it_took_for_what():
    space = Dict(camera=PICTURE, gear=Discrete(4), state=STATE)
    extractor = FusionExtractor(space, ignore=["state"])
    assert extractor.describe().splitlines() == [
        "camera: rgb, uint8 (24, 26, 3), divided by 255, ImageEncoder (23,312 weights)",
        "gear: vector, float32 (4,), divided by 1, VectorEncoder (4,608 weights)",
        "state: ignored",
    ]
    assert all(line in repr(extractor) for line in extractor.describe().splitlines())
