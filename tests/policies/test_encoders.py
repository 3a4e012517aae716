"""What encoders are given: the same tensors under every algorithm."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from stable_baselines3 import DQN, PPO, SAC
from torch import nn

from robofuse.plugins import import_plugin
from robofuse.policies import FusionActorCriticPolicy, FusionExtractor, FusionPPO
from robofuse.policies.encoders import ImageEncoder
from robofuse.policies.planes import millimetres, saturated, slopes
from robofuse.sensors import Sensor

SPACE = Dict(
    camera=Box(0, 255, (24, 26, 3), np.uint8),
    grey=Box(0, 255, (24, 26, 1), np.uint8),
    first=Box(0, 65535, (1, 24, 26), np.uint16),
    depth=Box(0, 65535, (24, 26, 1), np.uint16),
    floats=Box(0, 1, (24, 26, 3), np.float32),
    flags=MultiBinary(3),
    gear=Discrete(4),
    counts=Box(0, 1000, (2,), np.int32),
    state=Box(-1, 1, (5,), np.float64),
    window=Box(-1, 1, (4, 2), np.float32),
)
KINDS = {"floats": "rgb"}
ALGORITHMS = {
    "FusionPPO": (FusionPPO, {"n_steps": 4, "batch_size": 4, "n_epochs": 1}),
    "PPO": (PPO, {"n_steps": 4, "batch_size": 4, "n_epochs": 1}),
    "PPO, policy of robofuse": (PPO, {"n_steps": 4, "batch_size": 4, "n_epochs": 1}),
    "PPO, undivided": (PPO, {"n_steps": 4, "batch_size": 4, "n_epochs": 1}),
    "SAC": (SAC, {"buffer_size": 20, "learning_starts": 1, "batch_size": 4}),
    "DQN": (DQN, {"buffer_size": 20, "learning_starts": 1, "batch_size": 4}),
}


class Steps(gym.Env):
    """The same random observations in every run."""

    observation_space = SPACE

    def __init__(self, discrete):
        self.action_space = Discrete(2) if discrete else Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.look(), {}

    def step(self, action):
        self.count += 1
        return self.look(), 0.0, False, self.count == 3, {}

    def look(self):
        found = {}
        for n, (key, part) in enumerate(SPACE.spaces.items()):
            part.seed(10 * self.count + n)
            found[key] = part.sample()
        return found


class Spy(nn.Module):
    """An encoder that writes down what its sensor is said to be, and what comes."""

    def __init__(self, sensor, token_dim):
        super().__init__()
        self.sensor, self.seen = sensor, []
        self.layer = nn.Linear(int(np.prod(sensor.shape)), token_dim)

    def forward(self, x):
        self.seen.append(x.clone())
        return self.layer(x.flatten(1).float() / 255.0)


def spied(name):
    """Key → (the sensor, its reading) of the second step of an episode."""
    make, options = ALGORITHMS[name]
    kwargs = {"encoders": {key: Spy for key in SPACE}, "kinds": KINDS, "token_dim": 4}
    policy_kwargs = {"features_extractor_kwargs": kwargs}
    policy = FusionActorCriticPolicy if "robofuse" in name else "MultiInputPolicy"
    if policy == "MultiInputPolicy" and make is not FusionPPO:
        policy_kwargs["features_extractor_class"] = FusionExtractor
    if "undivided" in name:
        policy_kwargs["normalize_images"] = False
    model = make(policy, Steps(make is DQN), policy_kwargs=policy_kwargs, device="cpu", seed=0, **options)
    model.learn(8)
    env = Steps(make is DQN)
    env.reset()
    observation = env.step(0)[0]
    spies = next(m for m in model.policy.modules() if isinstance(m, FusionExtractor)).encoders
    for spy in spies.values():
        spy.seen.clear()
    model.predict(observation, deterministic=True)
    return {key: (spy.sensor, spy.seen[-1]) for key, spy in spies.items()}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_encoders_read_the_same_under_every_algorithm(name):
    env = Steps(False)
    env.reset()
    truth = env.step(0)[0]
    expected = {
        "camera": truth["camera"],
        "grey": truth["grey"],
        "first": truth["first"].transpose(1, 2, 0),
        "depth": truth["depth"],
        "floats": truth["floats"],
        "flags": truth["flags"].astype(np.float32),
        "gear": np.eye(4, dtype=np.float32)[truth["gear"]],
        "counts": truth["counts"].astype(np.float32),
        "state": truth["state"].astype(np.float32),
        "window": truth["window"],
    }
    for key, (sensor, x) in spied(name).items():
        assert str(x.dtype) == f"torch.{sensor.dtype}" == f"torch.{expected[key].dtype}", key
        assert tuple(x.shape) == (1, *sensor.shape), key
        assert np.array_equal(x[0].numpy(), expected[key]), key


class Side(gym.Env):
    """A picture whose left or right half is bright; say which."""

    observation_space = Dict(rgb=Box(0, 255, (24, 26, 3), np.uint8))
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right = int(self.np_random.integers(2))
        picture = self.np_random.integers(0, 60, (24, 26, 3), dtype=np.uint8)
        picture[:, 13 * self.right : 13 * self.right + 13] += 150
        return {"rgb": picture}, {}

    def step(self, action):
        right = action == self.right
        return self.reset()[0], float(right), True, False, {}


@pytest.mark.parametrize("make", [PPO, FusionPPO])
def test_the_example_learns_under_both(make, nothing_stays):
    """It divided twice and pooled the wrong axes under SB3's PPO."""
    import_plugin("scripts/examples/own_encoder.py")
    policy_kwargs = {"features_extractor_kwargs": {"encoders": {"rgb": "thumbnail"}, "token_dim": 16}}
    if make is PPO:
        policy_kwargs["features_extractor_class"] = FusionExtractor
    model = make(
        "MultiInputPolicy", Side(), n_steps=64, batch_size=64, n_epochs=5, learning_rate=5e-3, gamma=0.0, seed=0,
        policy_kwargs=policy_kwargs, device="cpu",
    ).learn(640)  # fmt: skip
    env, hits = Side(), 0
    observation, _ = env.reset(seed=1)
    for _ in range(100):
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, *_ = env.step(action)
        hits += reward
    assert hits > 95


@pytest.mark.parametrize(("kind", "dtype", "scale"), [("rgb", torch.uint8, 255.0), ("depth", torch.uint16, 2000.0)])
@pytest.mark.parametrize("frames", [1, 2])
def test_an_image_is_scaled_and_centred_before_the_first_convolution(kind, dtype, scale, frames):
    """Which is done in its weights; stacked frames come one after the other, each with planes of its own."""
    channels = frames * (3 if kind == "rgb" else 1)
    sensor = Sensor(
        "camera", kind, (24, 28, channels), str(dtype).removeprefix("torch."), scale=scale, unit="", rate=20.0
    )
    encoder = ImageEncoder(sensor, 16)
    x = torch.randint(0, int(1.2 * scale), (3, 24, 28, channels)).clamp(0, 255 if kind == "rgb" else 60_000)
    x[:, 5:9] *= kind == "rgb"  # no return
    if kind == "rgb":
        colours = [x[..., k : k + 3] for k in range(0, channels, 3)]
        grey = [(c.amax(-1, keepdim=True) - c.amin(-1, keepdim=True)) / scale for c in colours]
        planes = torch.cat([x / scale - 0.5, *grey], -1)
    else:
        planes = []
        for depth in (x / scale).unbind(-1):
            seen = depth > 0
            dx, dy = depth.diff(dim=2), depth.diff(dim=1)
            dx, dy = dx * (seen[:, :, 1:] & seen[:, :, :-1]), dy * (seen[:, 1:] & seen[:, :-1])
            dx, dy = ((50.0 * d).clamp(-1.0, 1.0) for d in (dx, dy))
            planes += [depth, nn.functional.pad(dx, (1, 0)), nn.functional.pad(dy, (0, 0, 1, 0))]
        planes = torch.stack(planes, -1)
    expected = encoder.head(encoder.convolutions(planes.permute(0, 3, 1, 2)))
    torch.testing.assert_close(encoder(x.to(dtype)), expected, rtol=1e-4, atol=1e-5)


def test_depth_and_saturation_planes():
    depth = torch.tensor([[0, 1], [40000, 65535]], dtype=torch.int32).to(torch.uint16)
    assert millimetres(depth).tolist() == [[0.0, 1.0], [40000.0, 65535.0]]
    planes = slopes(torch.tensor([[[0.5, 0.51, 0.0], [0.5, 0.52, 0.6]]])[..., None], 0.05)[0]
    torch.testing.assert_close(planes[0], torch.tensor([[0.5, 0, 0], [0.51, 0.01, 0], [0, 0, 0]]))  # 0: no return
    torch.testing.assert_close(planes[1], torch.tensor([[0.5, 0, 0], [0.52, 0.02, 0.01], [0.6, 0.05, 0]]))  # clipped
    grey_and_red = torch.tensor([[[[9, 9, 9], [200, 10, 30]]]], dtype=torch.uint8)
    assert saturated(grey_and_red)[0, 0].tolist() == [[9, 9, 9, 0], [200, 10, 30, 190]]
