"""What reaches an extractor: other types, shapes and ranges than its space says."""

from collections import OrderedDict

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from sensing import SENSORS, observe
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from robofuse.policies import FusionExtractor
from robofuse.sensors import Sensor, infer_sensors, observation_space
from robofuse.wrappers import SensorDropout, VecSensorDropout

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


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("channels", "kind"), [(2, "rgb"), (5, "rgb"), (2, "depth"), (5, "depth")])
def test_images_of_any_number_of_channels_if_their_kind_is_said(channels, kind, first):
    shape = (channels, 24, 26) if first else (24, 26, channels)
    extractor = FusionExtractor(image(*shape), kinds={"camera": kind})
    x = torch.randint(1, 255, (2, *shape), dtype=torch.uint8)
    axis = 1 if first else 3
    for channel in range(channels):  # each one is read
        other = x.clone()
        other.select(axis, channel).fill_(7)
        state = torch.zeros(2, 3)
        gap = extractor({"camera": x, "state": state}) - extractor({"camera": other, "state": state})
        assert gap.abs().amax(1).min() > 1e-6, channel


def test_kinds_must_fit():
    with pytest.raises(ValueError, match="kinds says 'lidar' for 'state'; kinds: rgb, depth"):
        FusionExtractor(Dict(state=STATE), kinds={"state": "lidar"})
    with pytest.raises(ValueError, match="'state': an image needs shape"):
        FusionExtractor(Dict(state=STATE), kinds={"state": "rgb"})
    with pytest.raises(ValueError, match="'state', of kind 'lidar': unknown encoder 'lidar'"):
        FusionExtractor(Dict(state=STATE), [Sensor("state", "lidar", (3,), "float32", "", 1.0, 0.0)])
    depth = FusionExtractor(Dict(depth=STATE), kinds={"depth": "vector"})  # a key that is also the name of a kind
    assert depth({"depth": torch.zeros(2, 3)}).shape == (2, 64)


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_float_images_are_scaled_by_their_bounds(high):
    torch.manual_seed(0)
    extractor = FusionExtractor(image(24, 26, 3, high=high, dtype=np.float32), kinds={"camera": "rgb"})
    torch.manual_seed(0)
    bytes_ = FusionExtractor(image(24, 26, 3))
    x, state = torch.randint(0, 256, (3, 24, 26, 3), dtype=torch.uint8), torch.zeros(3, 3)
    ours = extractor({"camera": x.float() / 255 * high, "state": state})
    torch.testing.assert_close(ours, bytes_({"camera": x, "state": state}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", [image(24, 26, 3), image(24, 26, 3, high=1.0, dtype=np.float32)])
def test_floats_beyond_their_range(space):
    extractor = FusionExtractor(space, kinds={"camera": "rgb"})
    x, state = torch.zeros(4, 24, 26, 3), torch.zeros(4, 3)
    extractor({"camera": x, "state": state})  # a black image tells nothing
    x[1:] = 200.0
    with pytest.raises(ValueError, match="'camera' holds 200.*uint8"):
        extractor({"camera": x, "state": state})


def test_floats_where_bytes_were_promised_reach_the_user_of_an_sb3_agent():
    """SB3 divides them by 255 once more: to the network they would be black."""
    model = PPO(
        "MultiInputPolicy", Fixed(image(24, 26, 3)), n_steps=8, batch_size=8, device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor},
    )  # fmt: skip
    seen = {"state": np.zeros(3, np.float32), "camera": np.random.default_rng(0).random((24, 26, 3), np.float32)}
    with pytest.raises(ValueError, match="'camera' holds fractions"):
        model.predict(seen)
    model.predict({**seen, "camera": np.eye(24, 26, dtype=np.uint8)[..., None].repeat(3, 2)})  # dark, but of bytes
    model.predict({**seen, "camera": (255 * seen["camera"]).round().astype(np.uint8)})


def test_what_hidden_images_hold_is_not_looked_at():
    space = Dict({**image(24, 26, 3).spaces, "available": MultiBinary(2)})
    extractor = FusionExtractor(space)
    x = torch.full((4, 24, 26, 3), 200.0)
    x[0] = 0.5
    live = torch.tensor([[1, 1], [0, 1], [0, 1], [0, 1]])
    assert extractor({"camera": x, "state": torch.zeros(4, 3), "available": live}).isfinite().all()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("high", [255, 1])
def test_bytes_are_read_alike_whatever_sb3_divides(normalise, high):
    space = Dict(camera=Box(0, high, (24, 26, 3), np.uint8))
    model = DQN(
        "MultiInputPolicy",
        Fixed(space),
        buffer_size=10,
        device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor, "normalize_images": normalise},
    )
    x = torch.randint(0, high + 1, (3, 3, 24, 26) if high == 255 else (3, 24, 26, 3), dtype=torch.uint8)
    net = model.q_net
    through_sb3 = net.extract_features({"camera": x}, net.features_extractor)
    torch.testing.assert_close(through_sb3, net.features_extractor({"camera": x}), rtol=1e-4, atol=1e-5)


def test_the_order_of_keys_says_nothing():
    parts = [("b", Box(-1, 1, (2,))), ("a", Box(-1, 1, (3,))), ("available", MultiBinary(2))]
    outputs = []
    for order in (parts, parts[::-1]):
        torch.manual_seed(0)
        extractor = FusionExtractor(Dict(OrderedDict(order)))
        assert [sensor.key for sensor in extractor.sensors] == ["a", "b"]
        rows = {"a": torch.ones(2, 3), "b": torch.zeros(2, 2), "available": torch.tensor([[1, 0], [1, 1]])}
        outputs += [extractor({key: rows[key] for key, _ in each}) for each in (parts, parts[::-1])]
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


@pytest.mark.parametrize("masked_as", ["token", "zeros"])
def test_missing_keys(masked_as):
    space = Dict(a=STATE, b=STATE, available=MultiBinary(2))
    extractor = FusionExtractor(space, masked_as=masked_as)
    row = {"a": torch.ones(2, 3)}
    with pytest.raises(ValueError, match="'b' is missing.* a, available;"):
        extractor({**row, "available": torch.tensor([[1, 0], [1, 1]])})
    with pytest.raises(ValueError, match="'b' is missing"):
        extractor(row)
    assert extractor({**row, "available": torch.tensor([[1, 0], [1, 0]])}).isfinite().all()
    full = {**row, "b": torch.zeros(2, 3)}
    assert torch.equal(extractor(full), extractor({**full, "available": torch.ones(2, 2)}))  # without it, all deliver
    with pytest.raises(ValueError, match=r"`available`.*\(N, 2\).*\(2, 3\)"):
        extractor({**full, "available": torch.ones(2, 3)})


def test_missing_keys_reach_the_user_of_an_sb3_agent():
    model = PPO(
        "MultiInputPolicy", Fixed(Dict(a=STATE, b=STATE)), n_steps=8, batch_size=8, device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor},
    )  # fmt: skip
    with pytest.raises(ValueError, match="'b' is missing.* a;"):
        model.predict({"a": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"'b'.*\(1, 4\).*\(N, 3\)"):
        model.policy.extract_features({"a": torch.zeros(1, 3), "b": torch.zeros(1, 4)})


@pytest.mark.parametrize(
    ("space", "x", "message"),
    [
        (PICTURE, torch.zeros(2, 24, 26, 3, dtype=torch.int16), "'x' came as int16 but its space says uint8; convert"),
        (
            Box(0, 9, (24, 26, 1), np.float32),
            torch.zeros(2, 24, 26, 1, dtype=torch.int32),
            "'x' came as int32 but its space says float32; convert it in the environment",
        ),
        (Box(0, 65535, (24, 26, 1), np.uint16), torch.zeros(2, 24, 26, 1, dtype=torch.uint8), "'x' came as uint8"),
        (PICTURE, torch.zeros(2, 3, 24, 26), r"'x' has shape \(2, 3, 24, 26\) but its space says \(N, 24, 26, 3\)"),
        (PICTURE, torch.zeros(24, 26, 3), r"'x' has shape \(24, 26, 3\).*with a batch in front"),
        (Discrete(4), torch.zeros(2, 3), r"'x' has shape \(2, 3\)"),
    ],
)
def test_readings_of_another_type_or_shape(space, x, message):
    kinds = {"x": "depth"} if space.shape[-1:] == (1,) else None
    with pytest.raises(ValueError, match=message):
        FusionExtractor(Dict(x=space), kinds=kinds)({"x": x})


def test_sensors_of_another_type_than_the_space():
    sensor = Sensor("camera", "rgb", (24, 26, 3), "uint8", "", 255.0, 0.0)
    with pytest.raises(ValueError, match="'camera' is float32.*uint8"):
        FusionExtractor(image(24, 26, 3, dtype=np.float32), [sensor])


def test_stacked_availability_is_refused_in_words():
    env = Fixed(Dict(a=STATE, b=STATE, available=MultiBinary(2)))
    stacked = gym.wrappers.FrameStackObservation(env, 4)
    with pytest.raises(ValueError, match="stack frames first"):
        FusionExtractor(stacked.observation_space)
    with pytest.raises(ValueError, match="belongs inside"):
        SensorDropout(stacked, 0.5)


@pytest.mark.parametrize("colours", [3, 1])
def test_frames_stacked_in_channels(colours):
    space = Dict(camera=Box(0, 255, (24, 26, colours), np.uint8), state=STATE)
    env = VecSensorDropout(VecFrameStack(DummyVecEnv([lambda: Fixed(space)] * 2), 3), 0.3)
    assert env.observation_space["camera"].shape == (24, 26, 3 * colours)
    model = PPO(
        "MultiInputPolicy", env, n_steps=4, batch_size=8, n_epochs=1, device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor},
    ).learn(8)  # fmt: skip
    shape = model.policy.features_extractor.encoders["camera"].convolutions[0].weight.shape
    assert shape[1] == 3 * colours + (3 if colours == 3 else 1)  # every frame has its saturation


def test_only_learners_from_replay_buffers_may_hide_inside():
    class Rollouts(BasePolicy):  # such as MaskablePPO's, which is no ActorCriticPolicy
        def __init__(self):
            super().__init__(
                Dict(a=STATE, b=STATE), Discrete(2),
                features_extractor_class=FusionExtractor, features_extractor_kwargs={"dropout": 0.3},
            )  # fmt: skip
            self.features_extractor = self.make_features_extractor()

        def evaluate_actions(self):
            raise AssertionError

        def _predict(self, observation, deterministic=False):
            raise AssertionError

    with pytest.raises(ValueError, match="VecSensorDropout"):
        Rollouts()


def test_hiding_inside_needs_two_sensors():
    for space, options in ((Dict(a=STATE, desired_goal=STATE), {}), (Dict(a=STATE, b=STATE), {"maskable": ["a"]})):
        with pytest.raises(ValueError, match="never hide anything.*may hide a;"):
            FusionExtractor(space, dropout=0.3, **options)
    FusionExtractor(Dict(a=STATE, achieved_goal=STATE), dropout=0.3)


def test_hiding_inside_follows_the_law_and_spares_goals():
    space = Dict(a=STATE, b=STATE, desired_goal=STATE, available=MultiBinary(3))
    torch.manual_seed(0)
    extractor = FusionExtractor(space, dropout=0.5)
    rows = 20_000
    observation = {key: torch.zeros(rows, 3) for key in ("a", "b", "desired_goal")}
    seen = torch.ones(rows, 3)
    seen[: rows // 2, 0] = 0  # `a` is hidden already
    live = extractor.available({**observation, "available": seen})
    assert live[:, 2].all() and not live[: rows // 2, 0].any()
    assert live[:, 1][: rows // 2].all()  # the last one stays
    free = live[rows // 2 :, :2].float()
    assert free.any(1).all()
    # each hidden at 0.5, and where both would be, one of them at random
    torch.testing.assert_close(free.mean(0), torch.full((2,), 0.625), atol=0.02, rtol=0)
    torch.testing.assert_close(free.prod(1).mean(), torch.tensor(0.25), atol=0.02, rtol=0)
    assert FusionExtractor(space, dropout=0.9, maskable=["a", "b", "desired_goal"]).available(
        {**observation, "available": seen}
    )[:, 2].float().mean() < 0.9  # fmt: skip


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_channels_first_and_floats_read_the_same(kind):
    sensor = next(s for s in SENSORS if s.kind == kind)
    first = Sensor(kind, kind, (sensor.shape[2], *sensor.shape[:2]), sensor.dtype, "", sensor.scale, 0.0)
    space = {s.key: observation_space([s]) for s in (sensor,)}[kind]
    torch.manual_seed(0)
    a = FusionExtractor(space, [sensor])
    torch.manual_seed(0)
    b = FusionExtractor(observation_space([first]), [first])
    x = observe(4)[kind]
    ones = torch.ones(4, 1)
    out = a({kind: x, "available": ones})
    torch.testing.assert_close(out, b({kind: x.permute(0, 3, 1, 2).contiguous(), "available": ones}))
    as_float = x.float() / 255 if kind == "rgb" else x.float()  # what SB3's preprocessing makes of them
    torch.testing.assert_close(out, a({kind: as_float, "available": ones}), rtol=1e-4, atol=1e-5)


def test_bytes_of_depth_or_grey_that_sb3_has_divided():
    sensor = Sensor("grey", "depth", (24, 24, 1), "uint8", "", 255.0, 0.0)
    extractor = FusionExtractor(observation_space([sensor]), [sensor])
    x = torch.randint(0, 256, (3, 24, 24, 1), dtype=torch.uint8)
    torch.testing.assert_close(extractor({"grey": x}), extractor({"grey": x.float() / 255}))


def test_discrete_sensors_are_one_hot():
    space = gym.spaces.Dict({"gear": gym.spaces.Discrete(5)})
    extractor = FusionExtractor(space)
    gears = torch.arange(5)
    torch.testing.assert_close(extractor({"gear": gears}), extractor({"gear": torch.eye(5)}))
    with pytest.raises(ValueError, match="'gears' is a MultiDiscrete"):
        infer_sensors(gym.spaces.Dict({"gears": gym.spaces.MultiDiscrete([2, 3])}))


def test_hiding_inside_is_refused_in_an_extractor_of_ones_own():
    class Outer(BaseFeaturesExtractor):
        def __init__(self, space):
            inner = FusionExtractor(space, dropout=0.3)
            super().__init__(space, inner.features_dim)
            self.inner = inner

        def forward(self, observations):
            return self.inner(observations)

    kwargs = {"policy_kwargs": {"features_extractor_class": Outer}, "device": "cpu"}
    with pytest.raises(ValueError, match="VecSensorDropout"):
        PPO("MultiInputPolicy", Fixed(Dict(a=STATE, b=STATE)), **kwargs)
    DQN("MultiInputPolicy", Fixed(Dict(a=STATE, b=STATE)), buffer_size=10, **kwargs)
