"""Encoders of scans, labels, points and small pictures, and networks that learned elsewhere."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from robofuse.policies import Backbone, FusionActorCriticPolicy, FusionExtractor, load, register_encoder, save
from robofuse.policies.encoders import ImageEncoder, VectorEncoder
from robofuse.policies.further_encoders import LabelEncoder, PointEncoder, ScanEncoder
from robofuse.sensors import Sensor, infer_sensors

SPACE = Dict(
    cloud=Box(-2.0, 2.0, (40, 3), np.float32),
    grey=Box(0, 255, (20, 20, 1), np.uint8),
    lidar=Box(0.0, np.inf, (180,), np.float32),
    mask=Box(0, 5, (24, 24), np.int64),
    sound=Box(-1.0, 1.0, (512, 2), np.float32),
    tip=Box(0, 255, (8, 8, 3), np.uint8),
    volume=Box(0.0, 1.0, (4, 6, 6, 6), np.float32),  # of no kind at all
)


class Volume(nn.Module):
    """An encoder of one's own."""

    def __init__(self, sensor, token_dim):
        super().__init__()
        self.layer = nn.Linear(np.prod(sensor.shape), token_dim)

    def forward(self, x):
        return self.layer(x.flatten(1))


NAMED = {"cloud": "points", "lidar": "scan", "mask": "labels", "sound": "scan", "volume": Volume}


def extractor(**options):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, encoders=NAMED, token_dim=16, **options)


def batch(rows=4, seed=0):
    SPACE.seed(seed)
    seen = [SPACE.sample() for _ in range(rows)]
    return {key: torch.as_tensor(np.stack([one[key] for one in seen])) for key in SPACE.spaces}


def test_a_key_with_an_encoder_needs_no_kind():
    found = extractor()
    kinds = {sensor.key: type(found.encoders[sensor.key]) for sensor in found.sensors}
    assert kinds == {"cloud": PointEncoder, "grey": ImageEncoder, "lidar": ScanEncoder, "mask": LabelEncoder,
                     "sound": ScanEncoder, "tip": ImageEncoder, "volume": Volume}  # fmt: skip
    assert found(batch()).shape == (4, found.features_dim)
    assert "volume: vector, float32 (4, 6, 6, 6), divided by 1, Volume (13,840 weights)" in found.describe()
    with pytest.raises(ValueError, match="'volume'.*three axes"):
        infer_sensors(SPACE)


@pytest.mark.parametrize("key", sorted(SPACE.spaces))
def test_what_is_hidden_is_not_read(key):
    space = Dict({**SPACE.spaces, "available": gym.spaces.MultiBinary(len(SPACE.spaces))})
    torch.manual_seed(0)
    found = FusionExtractor(space, encoders=NAMED, token_dim=16)
    seen, other = batch(), batch(seed=1)
    seen["available"] = torch.ones(4, len(SPACE.spaces), dtype=torch.int8)
    seen["available"][:, sorted(SPACE.spaces).index(key)] = 0
    broken = seen | {key: other[key]}
    if broken[key].is_floating_point():
        broken[key] = torch.full_like(broken[key], np.nan)
    assert torch.equal(found(seen), found(broken))
    seen["available"][:] = 1
    assert not torch.equal(found(seen), found(seen | {key: other[key]}))


def test_rows_do_not_mix_and_training_is_no_other_function():
    found, seen = extractor(), batch()
    alone = torch.cat([found({key: x[row : row + 1] for key, x in seen.items()}) for row in range(4)])
    assert torch.allclose(found.train()(seen), alone, atol=1e-5) and torch.allclose(
        found.eval()(seen), alone, atol=1e-5
    )


def sensor(key, kind, shape, dtype="float32", scale=1.0):
    return Sensor(key, kind, shape, dtype, "", scale, 20.0)


def errors(encoder, inputs, wanted, steps=150):
    """Mean squared error on the last quarter before and after learning on the others."""
    layer, split = nn.Linear(32, wanted.shape[1]), 3 * len(inputs) // 4
    optimizer = torch.optim.Adam([*encoder.parameters(), *layer.parameters()], 3e-3)
    for _ in range(steps):
        rows = torch.randint(split, (64,))
        optimizer.zero_grad()
        (layer(encoder(inputs[rows])) - wanted[rows]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float((layer(encoder(inputs[split:])) - wanted[split:]).square().mean() / wanted[split:].var())


@pytest.mark.slow
def test_each_finds_what_it_is_for():
    torch.manual_seed(0)
    places = torch.rand(800, 1)
    line = torch.linspace(0.0, 1.0, 128)
    scan = 2.0 - (-((line - places) ** 2) / 0.002).exp() + 0.05 * torch.randn(800, 128)
    scan[:, 100] = torch.inf  # nothing came back
    assert errors(ScanEncoder(sensor("lidar", "vector", (128,)), 32), scan, places, 400) < 0.15
    labels = torch.randint(0, 3, (800, 24, 24))
    spots = torch.randint(0, 20, (800, 2))
    for picture, (row, column) in zip(labels, spots.tolist(), strict=True):
        picture[row : row + 5, column : column + 5] = 4
    found = errors(LabelEncoder(sensor("mask", "window", (24, 24), "int64", 4.0), 32), labels.float(), spots / 20.0)
    assert found < 0.4
    middles = torch.randn(800, 1, 3)
    cloud = middles + 0.3 * torch.randn(800, 40, 3)
    assert errors(PointEncoder(sensor("cloud", "window", (40, 3)), 32), cloud, middles[:, 0]) < 0.15


def test_the_order_of_points_does_not_count():
    encoder = PointEncoder(sensor("cloud", "window", (40, 3)), 16)
    cloud = torch.randn(2, 40, 3)
    assert torch.allclose(encoder(cloud), encoder(cloud[:, torch.randperm(40)]), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4, 3), (15, 6, 1), (16, 16, 3)])
def test_small_pictures(shape):
    encoder = ImageEncoder(sensor("tip", "rgb", shape, "uint8", 255.0), 16)
    assert encoder(torch.randint(0, 256, (3, *shape), dtype=torch.uint8)).shape == (3, 16)


@pytest.mark.parametrize(
    ("make", "what", "message"),
    [
        (ScanEncoder, sensor("s", "vector", (7,)), "of 8 readings or more"),
        (ScanEncoder, sensor("s", "rgb", (24, 24, 3)), "a scan is"),
        (LabelEncoder, sensor("s", "rgb", (24, 24, 3)), "labels are"),
        (LabelEncoder, sensor("s", "window", (24, 24), "int64", 65535.0), "at most; let the space's bounds"),
        (PointEncoder, sensor("s", "vector", (30,)), "points are"),
        (lambda s, d: Backbone(s, d, nn.Identity()), sensor("s", "vector", (30,)), "reads pictures"),
        (lambda s, d: Backbone(s, d, nn.Linear(5, 5)), sensor("s", "rgb", (24, 24, 3), "uint8", 255.0), "cannot read"),
    ],
)
def test_what_they_cannot_read(make, what, message):
    with pytest.raises(ValueError, match=message):
        make(what, 16)


def body():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_backbone_is_a_line_and_keeps_its_statistics(frozen):
    space = Dict(camera=Box(0, 255, (32, 32, 3), np.uint8))
    found = FusionExtractor(space, encoders={"camera": lambda s, d: Backbone(s, d, body(), frozen)}).train()
    backbone, seen = found.encoders["camera"], {"camera": torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8)}
    before = {name: x.clone() for name, x in backbone.body.state_dict().items()}
    optimizer = torch.optim.Adam([x for x in found.parameters() if x.requires_grad], 0.01)
    found(seen).square().sum().backward()
    optimizer.step()
    changed = {name for name, x in backbone.body.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == (set() if frozen else {"0.weight", "0.bias", "1.weight", "1.bias"})
    pixels = (seen["camera"].permute(0, 3, 1, 2) / 255.0 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / (
        torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    )
    backbone.head = nn.Identity()
    assert torch.allclose(backbone(seen["camera"]), backbone.body(pixels).flatten(1), atol=1e-5)


def test_in_files_and_in_sac(tmp_path, nothing_stays):
    register_encoder("own_volume")(Volume)
    sensors = infer_sensors(SPACE, encoded=NAMED)
    kwargs = {"sensors": sensors, "encoders": {**NAMED, "volume": "own_volume"}, "token_dim": 16}
    space = Dict({**SPACE.spaces, "available": gym.spaces.MultiBinary(len(sensors))})
    policy = FusionActorCriticPolicy(space, Box(-1.0, 1.0, (2,)), lambda _: 1e-3, features_extractor_kwargs=kwargs)
    path = save(policy, tmp_path / "policy.safetensors")
    seen = batch() | {"available": torch.ones(4, len(sensors), dtype=torch.int8)}
    with torch.no_grad():
        assert torch.allclose(load(path).act(seen), policy._predict(seen, deterministic=True).tanh(), atol=1e-6)

    class Env(gym.Env):
        observation_space, action_space = SPACE, Box(-1.0, 1.0, (2,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 0.0, False, False, {}

    extracting = {"encoders": {**NAMED, "volume": "own_volume"}, "dropout": 0.3}
    options = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": extracting}
    agent = SAC("MultiInputPolicy", DummyVecEnv([Env]), buffer_size=50, learning_starts=4, batch_size=4, device="cpu",
                policy_kwargs=options)  # fmt: skip
    agent.learn(8).save(tmp_path / "agent")
    one = {key: np.asarray(x[0]) for key, x in batch().items()}
    again = SAC.load(tmp_path / "agent", device="cpu")
    assert np.array_equal(agent.predict(one, deterministic=True)[0], again.predict(one, deterministic=True)[0])


def test_nothing_is_looked_at():
    for key, encoder in extractor().encoders.items():
        if not isinstance(encoder, ImageEncoder | VectorEncoder | Volume):
            x = batch()[key].float().to("meta")
            assert encoder.to("meta")(x).device.type == "meta"
