import gymnasium as gym
import numpy as np
import pytest
import torch
from sensing import SENSORS, SPACE, observe, spoil

from robofuse.export.make import exported
from robofuse.policies import FUSIONS, FusionActorCriticPolicy, FusionExtractor, Policy, load, save
from robofuse.sensors import Sensor


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("live_rows_only", [True, False])
def test_hidden_is_unreadable_to_the_bit(fusion, live_rows_only):
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16, live_rows_only=live_rows_only)
    clean = observe(40)
    results = []
    for observation in (clean, spoil(clean)):
        extractor.zero_grad()
        features = extractor(observation)
        features.square().sum().backward()
        grads = [None if p.grad is None else p.grad.clone() for p in extractor.parameters()]
        results.append((features.detach(), grads))
    (first, grads), (second, spoiled_grads) = results
    assert first.shape == (40, extractor.features_dim)
    assert torch.equal(first, second)
    for a, b in zip(grads, spoiled_grads, strict=True):
        assert (a is None and b is None) or (torch.equal(a, b) and a.isfinite().all())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_live_sensors_are_read(fusion):
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16)
    a, b = observe(6, 0, np.ones((6, 4))), observe(6, 1, np.ones((6, 4)))
    for key in ("depth", "force", "proprio", "rgb"):
        mixed = {**a, key: b[key]}
        assert (extractor(a) - extractor(mixed)).abs().amax(1).min() > 1e-6, key


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_hidden_is_finite(fusion):
    extractor = FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=8)
    assert extractor(spoil(observe(3, 0, np.zeros((3, 4))))).isfinite().all()


def test_encoding_live_rows_only_changes_nothing_else():
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, SENSORS)
    observation = observe(70)
    sparse = extractor(observation)
    extractor.live_rows_only = False
    torch.testing.assert_close(sparse, extractor(observation), rtol=1e-4, atol=1e-5)


def test_sensor_hidden_in_the_whole_batch_costs_nothing_and_may_be_missing():
    extractor = FusionExtractor(SPACE, SENSORS)
    observation = observe(5, 0, np.tile([0, 1, 1, 0], (5, 1)))
    full = extractor(observation)
    del observation["rgb"], observation["depth"], observation["privileged"]
    assert torch.equal(full, extractor(observation))


def test_mask_tokens_learn():
    extractor = FusionExtractor(SPACE, SENSORS)
    extractor(observe(5, 0, np.tile([0, 1, 1, 0], (5, 1)))).square().sum().backward()
    gradient = extractor.mask_tokens.grad.abs().sum(1)
    assert (gradient[[0, 3]] > 0).all() and (gradient[[1, 2]] == 0).all()
    assert extractor.encoders["rgb"].head[0].weight.grad is None


def test_own_encoder_and_fusion():
    class Mean(torch.nn.Module):
        def __init__(self, sensor, token_dim):
            super().__init__()
            self.layer = torch.nn.Linear(1, token_dim)

        def forward(self, x):
            return self.layer(x.float().flatten(1).mean(1, keepdim=True))

    class First(torch.nn.Module):
        def __init__(self, sensors, token_dim):
            super().__init__()
            self.features = token_dim

        def forward(self, tokens, available):
            return tokens[:, 0]

    extractor = FusionExtractor(SPACE, SENSORS, encoders={"rgb": Mean, "window": Mean}, fusion=First, token_dim=8)
    assert isinstance(extractor.encoders["rgb"], Mean) and isinstance(extractor.encoders["force"], Mean)
    assert extractor(observe(3)).shape == (3, 8)


def test_available_of_another_length():
    space = gym.spaces.Dict({**SPACE.spaces, "available": gym.spaces.MultiBinary(2)})
    with pytest.raises(ValueError, match="maskable"):
        FusionExtractor(space, SENSORS)
    extractor = FusionExtractor(space, SENSORS, maskable=["rgb", "depth"])
    observation = observe(4) | {"available": torch.tensor([[0, 1]] * 4)}
    live = extractor.fuse(observation).available
    assert live.tolist() == [[False, True, True, True]] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "concatenate"}, "unknown fusion 'concatenate'; fusions: concat"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"maskable": ["rgbd"]}, "maskable names 'rgbd'"),
        ({"sensors": [Sensor("lidar", "vector", (3,), "float32", "", 1.0, 0.0)]}, "no 'lidar' in the observation"),
        ({"sensors": [Sensor("proprio", "vector", (3,), "float32", "", 1.0, 0.0)]}, "has shape"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FusionExtractor(SPACE, **{"sensors": SENSORS, **options})


def test_keys_that_are_never_read():
    """A key left out of `sensors`, which `available` has an entry for, could not be named in any way."""
    read = [sensor for sensor in SENSORS if sensor.key != "force"]
    with pytest.raises(ValueError, match=r"`available` has shape \(4,\) .*never read: ignore=\['force'\]"):
        FusionExtractor(SPACE, read)
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, read, ignore=["force"])
    assert [sensor.key for sensor in extractor.sensors] == ["depth", "proprio", "rgb"]
    observation = observe(6, available=[[1, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1] * 4, [0, 1, 0, 0]])
    live = extractor.fuse(observation).available
    assert torch.equal(live, observation["available"][:, [0, 2, 3]].bool())
    features = extractor(observation)
    assert torch.equal(features, extractor({**observation, "force": observation["force"] * torch.nan}))
    del observation["force"]
    assert torch.equal(features, extractor(observation))
    guessed = FusionExtractor(SPACE, ignore=["force", "rgb"], maskable=["depth", "force", "rgb", "proprio"])
    assert guessed.fuse(observation).available.shape == (6, 2)


def test_ignored_keys_need_not_be_guessed():
    space = gym.spaces.Dict(
        odd=gym.spaces.Text(5), image=gym.spaces.Box(0, 1, (24, 24, 2)), state=gym.spaces.Box(-1, 1, (3,))
    )
    extractor = FusionExtractor(space, ignore=["odd", "image"])
    assert extractor({"state": torch.zeros(2, 3)}).shape == (2, 64)
    with pytest.raises(ValueError, match="ignore names 'none'"):
        FusionExtractor(space, ignore=["odd", "image", "none"])
    with pytest.raises(ValueError, match="ignore names 'rgb', which sensors"):
        FusionExtractor(SPACE, SENSORS, ignore=["rgb"])


def test_a_policy_with_ignored_keys_in_files_and_exports(tmp_path):
    read = [sensor for sensor in SENSORS if sensor.key != "force"]
    policy = FusionActorCriticPolicy(
        SPACE, gym.spaces.Box(-1, 1, (2,)), lambda _: 1e-3,
        features_extractor_kwargs={"sensors": read, "ignore": ["force"]},
    )  # fmt: skip
    loaded = load(save(policy, tmp_path / "p.safetensors"))
    observation = observe(6)
    kept = {key: observation[key] for key in ("depth", "proprio", "rgb")}
    kept["available"] = observation["available"][:, [0, 2, 3]]
    policy.set_training_mode(False)
    assert torch.equal(loaded.act(kept), policy.act(observation))
    assert torch.equal(Policy(policy, "live").act(observation), policy.act(observation))
    assert exported(Policy(policy, "live")).deployed.keys == ("depth", "proprio", "rgb")
