"""What encoders and fusions of one's own must do, what one is told if they do not, and how policy files name them."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robofuse.files import write_tensors as write
from robofuse.policies import (
    ENCODERS,
    FUSIONS,
    FusionActorCriticPolicy,
    FusionExtractor,
    load,
    register_encoder,
    register_fusion,
)
from robofuse.policies.saving import pack, save
from robofuse.sensors import Sensor, observation_space
from robofuse.train import Train, run_train

ARM = Sensor("arm", "vector", (3,), "float32", "rad", 1.0, 20.0)
HAND = Sensor("hand", "window", (4, 2), "float32", "N", 1.0, 20.0)
RGB = Sensor("rgb", "rgb", (24, 24, 3), "uint8", "sRGB", 255.0, 20.0)
SENSORS = (ARM, HAND, RGB)


def observe(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "arm": torch.randn(n, 3, generator=g),
        "hand": torch.randn(n, 4, 2, generator=g),
        "rgb": torch.randint(0, 256, (n, 24, 24, 3), dtype=torch.uint8, generator=g),
        "available": torch.randint(0, 2, (n, 3), generator=g),
    }


class Part(nn.Module):
    """An encoder or a fusion that does as it is told."""

    features = 8

    def __init__(self, do):
        super().__init__()
        self.do = do

    def forward(self, *inputs):
        return self.do(*inputs)


def flat(x):
    return x.flatten(1).float().mean(dim=1, keepdim=True).expand(-1, 8).clone()


def extractor(sensors=SENSORS, **options):
    return FusionExtractor(observation_space(sensors), sensors, token_dim=8, **options)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2), st.sampled_from(SENSORS))
def test_a_token_of_the_wrong_shape_is_told_with_both_shapes(width, extra, sensor):
    shape = (width, *[1] * extra)
    encoders = {sensor.key: lambda sensor, d: Part(lambda x: torch.zeros(len(x), *shape))}
    if shape == (8,):
        extractor(encoders=encoders)
        return
    got = re.escape(str((3, *shape)))
    with pytest.raises(
        ValueError, match=rf"of '{sensor.key}' must give one token per reading, float32 \(3, 8\).*{got}"
    ):
        extractor(encoders=encoders)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda x: flat(x).double(), r"float32 \(3, 8\), it gave float64 \(3, 8\)"),
        (lambda x: flat(x).sum(0), r"it gave float32 \(8,\)"),
        (lambda x: None, "it gave NoneType"),
        (lambda x: flat(x) - flat(x).mean(0), "of 'arm' mixes the rows of a batch: row 0 alone gives something else"),
        (lambda x: flat(x.mul_(2.0)), "of 'arm' writes into what it reads; copy first"),
        (
            lambda x: nn.functional.linear(x, torch.ones(8, 4)),
            r"cannot read a batch of 3 readings, float32 \(3, 3\): mat1",
        ),
    ],
)
def test_what_an_encoder_does_wrong_is_told(do, says):
    with pytest.raises(ValueError, match=says):
        extractor(encoders={"arm": lambda sensor, d: Part(do)})


def test_encoders_for_nothing_and_of_nothing():
    with pytest.raises(ValueError, match=r"encoders.*'lidar'.*arm, hand, rgb"):
        extractor(encoders={"lidar": "vector"})
    with pytest.raises(ValueError, match="torch.nn.Module.*a function"):
        extractor(encoders={"arm": lambda sensor, d: flat})


class InTrainMode(nn.Module):
    """An encoder or a fusion that ends in a layer of the user's."""

    features = 8

    def __init__(self, last):
        super().__init__()
        self.last = last

    def forward(self, x, available=None):
        return self.last(flat(x))


@pytest.mark.parametrize("last", [nn.Dropout(0.1), nn.BatchNorm1d(8), nn.Sequential(nn.Dropout(0.1), nn.LayerNorm(8))])
@pytest.mark.parametrize("where", ["arm", "hand", "rgb", "fusion"])
def test_what_differs_in_train_mode_is_refused(last, where):
    """PPO acts in eval mode and learns in train mode; its first ratio was off by 1e-2."""
    before = {name: x.clone() for name, x in last.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="train mode.*Dropout"):
        if where == "fusion":
            extractor(fusion=lambda m, d: InTrainMode(last))
        else:
            extractor(encoders={where: lambda sensor, d: InTrainMode(last)})
    assert last.training and all(torch.equal(x, before[name]) for name, x in last.state_dict().items())
    if where == "fusion":  # nothing else draws before
        assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("last", [nn.LayerNorm(8), nn.Dropout(0.0), nn.Identity()])
def test_what_is_the_same_in_train_mode_is_taken(last):
    extractor(encoders={"rgb": lambda sensor, d: InTrainMode(last)}, fusion=lambda m, d: InTrainMode(last))


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (
            lambda t, a: t.flatten(1),
            r"must give `features` numbers per row, float32 \(3, 8\), it gave float32 \(3, 24\)",
        ),
        (lambda t, a: (t * a[..., None]).sum(1) / a.sum(1, keepdim=True), "gives NaN or Inf where all sensors"),
        (lambda t, a: t[0], "must give"),
        (lambda t, a: t.sum(1) - t.sum((0, 1)), "mixes the rows of a batch"),
        (lambda t, a: t.view(3, 7), r"cannot read tokens \(3, 3, 8\) and available \(3, 3\): shape"),
    ],
)
def test_what_a_fusion_does_wrong_is_told(do, says):
    with pytest.raises(ValueError, match=says):
        extractor(fusion=lambda m, d: Part(do))


@pytest.mark.parametrize("features", [None, 0, 8.0, True])
def test_a_fusion_says_how_long_its_result_is(features):
    class Mute(Part):
        pass

    Mute.features = features
    with pytest.raises(ValueError, match=f"`features`.* got {features}"):
        extractor(fusion=lambda m, d: Mute(lambda t, a: t.sum(1)))


def greedy(sensors, token_dim):
    """A fusion that reads the tokens of hidden sensors more than those of live ones, availability or not."""
    return Part(lambda t, a: torch.tanh((t * torch.where(a, 1.0, 1e3)[..., None]).sum(1)) + t.square().sum(1))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["nan", "noise", "other"]))
def test_hidden_means_unreadable_to_a_fusion_and_encoders_of_ones_own(seed, filling):
    torch.manual_seed(seed)
    module = extractor(fusion=greedy, encoders={"rgb": lambda s, d: Part(flat), "vector": lambda s, d: Part(flat)})
    before, after = observe(seed=seed), observe(seed=seed)
    other = observe(seed=seed + 1)
    for m, key in enumerate(("arm", "hand", "rgb")):
        hidden = before["available"][:, m] == 0
        after[key][hidden] = other[key][hidden]
        if filling == "nan" and after[key].is_floating_point():
            after[key][hidden] = torch.nan
        if filling == "noise" and after[key].is_floating_point():
            after[key][hidden] *= 1e6
    one, two = module(before), module(after)
    assert torch.equal(one, two)
    gradients = torch.autograd.grad(two.square().sum(), list(module.parameters()), allow_unused=True)
    assert all(g is None or bool(g.isfinite().all()) for g in gradients)


@pytest.fixture
def names():
    """Forgets names after a test."""
    before = dict(ENCODERS), dict(FUSIONS)
    yield
    for table, old in zip((ENCODERS, FUSIONS), before, strict=True):
        table.clear()
        table.update(old)


class Own(nn.Module):
    def __init__(self, sensor, token_dim):
        super().__init__()
        self.layer = nn.LazyLinear(token_dim)

    def forward(self, x):
        return self.layer(x.flatten(1).float())


class Mean(nn.Module):
    def __init__(self, sensors, token_dim):
        super().__init__()
        self.features = token_dim

    def forward(self, tokens, available):
        return tokens.mean(dim=1)


def policy(**options):
    return FusionActorCriticPolicy(
        observation_space(SENSORS),
        gym.spaces.Box(-1.0, 1.0, (2,), np.float32),
        lambda _: 1e-3,
        features_extractor_kwargs={"sensors": SENSORS, "token_dim": 8, **options},
    )


def test_a_policy_with_parts_of_ones_own_is_saved_by_their_names(tmp_path, names):
    own = policy(encoders={"vector": Own, "hand": Own}, fusion=Mean)
    with pytest.raises(ValueError, match=r"encoder Own.*register_encoder\("):
        save(own, tmp_path / "own.safetensors")
    register_encoder("own")(Own)
    with pytest.raises(ValueError, match=r"fusion Mean.*register_fusion\("):
        save(own, tmp_path / "own.safetensors")
    register_fusion("mean")(Mean)
    path = save(own, tmp_path / "own.safetensors", strip_critic=True)
    own.set_training_mode(False)
    assert torch.equal(load(path).act(observe()), own.act(observe()))

    ENCODERS.pop("own")
    with pytest.raises(ValueError) as caught:
        load(path)
    told = str(caught.value)
    assert f"{path} holds no code" in told and "unknown encoder 'own'; encoders: rgb, depth, vector, window" in told
    assert '@robofuse.policies.register_encoder("own")' in told and "--import FILE.py" in told
    register_encoder("own")(ENCODERS["vector"])  # somebody else's idea of the name
    with pytest.raises(ValueError, match="does not describe a policy"):
        load(path)


@pytest.mark.parametrize(
    "encoders", [{"rgb": ["os.system"]}, {"rgb": "os.system"}, ["rgb"], {"lidar": "rgb"}, {"rgb": 3}]
)
def test_a_file_names_what_is_known_and_nothing_else(tmp_path, encoders):
    tensors, meta = pack(policy())
    meta["extractor"]["encoders"] = encoders
    with pytest.raises(ValueError, match="odd.safetensors"):
        load(write(tmp_path / "odd.safetensors", tensors, {**meta, "world": {}, "card": {}}))


def test_the_training_checks_names_before_it_begins(tmp_path):
    base = Train("Reach").replace(out=tmp_path / "run", teacher="none")
    with pytest.raises(ValueError, match="unknown fusion 'mien'; fusions: concat"):
        run_train(base.replace(fusion="mien"))
    with pytest.raises(ValueError, match="unknown encoder 'tiny'; encoders: rgb"):
        run_train(base.replace(encoders=("rgb=tiny",)))
    with pytest.raises(ValueError, match="--encoders.*rgb=NAME.*'rgb'"):
        run_train(base.replace(encoders=("rgb",)))
