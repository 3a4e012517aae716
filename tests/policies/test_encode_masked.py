"""Feature-level dropout: encoders see masked readings, and nothing but the losses on their own tokens does."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sensing import SENSORS, SPACE, observe, spoil

from robofuse.envs import World
from robofuse.policies import FUSIONS, FusionActorCriticPolicy, FusionExtractor, load
from robofuse.policies.modules import TruthHeads
from robofuse.policies.regularisers import Regularisers
from robofuse.policies.saving import save
from robofuse.train import Train
from robofuse.train.build import make_env, make_model


def extractor_of(fusion="concat", **options):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16, **{"encode_masked": True} | options)


def gradients(extractor, loss):
    extractor.zero_grad()
    loss.backward()
    return [torch.zeros_like(x) if x.grad is None else x.grad.clone() for x in extractor.parameters()]


def elsewhere(observation, seed):
    """Another episode, where a sensor is masked."""
    found, other = {key: x.clone() for key, x in observation.items()}, observe(len(observation["rgb"]), seed)
    for m, sensor in enumerate(SENSORS):
        masked = (observation["available"][:, m] == 0).numpy()
        found[sensor.key].numpy()[masked] = other[sensor.key].numpy()[masked]
    return found


@settings(max_examples=15, deadline=None)
@given(
    fusion=st.sampled_from(sorted(FUSIONS)),
    seed=st.integers(0, 99),
    mask=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6),
)
def test_a_masked_reading_reaches_neither_features_nor_their_gradient(fusion, seed, mask):
    extractor, observation = extractor_of(fusion), observe(len(mask), seed, np.array(mask))
    found = extractor.fuse(observation).features
    expected = gradients(extractor, found.square().sum())
    for other in (spoil(observation, seed + 1), elsewhere(observation, seed + 100)):
        features = extractor.fuse(other).features
        assert torch.equal(features, found)
        assert all(map(torch.equal, gradients(extractor, features.square().sum()), expected))
    assert torch.equal(found, extractor_of(fusion, encode_masked=False)(observation))


@pytest.mark.parametrize("loss", ["truth", "reconstruction"])
def test_losses_on_a_token_of_its_own_reach_the_encoder(loss):
    """Also of a sensor that is masked in every row; and of no reading that is not there."""
    available = torch.tensor([[1, 0, 1, 0]]).expand(8, -1)
    observation, other = observe(8, available=available), observe(8, seed=5, available=available)
    torch.manual_seed(1)
    heads = TruthHeads(4, 16, 64, 6)

    def force_gradient(observation, **options):
        extractor = extractor_of(**options)
        fused = extractor.fuse(observation)
        if loss == "truth":
            total = heads(fused, observation["privileged"]).sum()
        else:
            torch.manual_seed(1)
            total = Regularisers(extractor, {"reconstruction": 1.0})(extractor, fused, observation)[0]
        total.backward()
        assert all(x.grad is None or bool(x.grad.isfinite().all()) for x in extractor.parameters())
        return extractor.encoders["force"].layers[0].weight.grad

    assert force_gradient(observation, encode_masked=False) is None
    seen = force_gradient(observation)
    assert seen.abs().sum() > 0
    assert not torch.equal(seen, force_gradient(observation | {"force": other["force"]}))
    for gone in (0.0, torch.nan, torch.inf):
        assert force_gradient(observation | {"force": torch.full_like(other["force"], gone)}) is None
    half = torch.cat([observation["force"][:4], torch.zeros(4, 4, 3)])
    rows = extractor_of().fuse(observation | {"force": half}).there
    assert rows[:, 1].tolist() == [True] * 4 + [False] * 4 and rows[:, [0, 2, 3]].all()


def test_without_gradients_nothing_masked_is_encoded():
    extractor, seen = extractor_of(), []
    extractor.encoders["force"].register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    observation = observe(8, available=torch.tensor([[1, 0, 1, 0]]).expand(8, -1))
    trained = extractor.fuse(observation)
    assert seen == [8]
    with torch.no_grad():
        acted = extractor.fuse(observation)
    extractor.eval()
    tested = extractor.fuse(observation)
    assert seen == [8] and acted.encoded is None and tested.encoded is None
    assert torch.equal(acted.features, trained.features)


def test_a_device_that_is_not_waited_for_computes_the_same(monkeypatch):
    extractor, observation = extractor_of(), observe(8)
    observation["force"][3] = torch.nan
    observation["available"][3, 1] = 0
    here = extractor.fuse(observation)
    monkeypatch.setattr("robofuse.policies.extractor.on_cpu", lambda _: False)
    there = extractor.fuse(observation)
    torch.testing.assert_close(here.features, there.features)
    torch.testing.assert_close(here.encoded, there.encoded)
    assert torch.equal(here.there, there.there) and not here.there[3, 1]
    meta = extractor.to("meta").fuse({key: x.to("meta") for key, x in observation.items()})
    assert meta.encoded.is_meta and meta.there.shape == (8, 4)


def test_a_sensor_that_is_masked_everywhere_may_be_missing():
    extractor = extractor_of()
    observation = observe(5, available=torch.tensor([[0, 1, 1, 1]]).expand(5, -1))
    found = extractor.fuse({key: x for key, x in observation.items() if key != "depth"})
    assert torch.equal(found.features, extractor.fuse(observation).features)
    assert not found.there[:, 0].any()


def test_worlds_keep_what_dropout_masks_and_zero_what_is_broken():
    options = {"robot": "gripper", "sensors": ("proprio", "force"), "seed": 3}
    # in the first steps force is as in the plain world, masked or not
    plain = World("Reach", 6, **options)
    world = World("Reach", 6, dropout=0.5, fill="keep", faults="force:blackout@2!", **options)
    a, b = plain.reset(), world.reset()
    assert not b["available"].all()
    for step in range(1, 4):
        assert torch.equal(a["proprio"], b["proprio"])
        gone = torch.zeros(6, dtype=torch.bool) if step < 3 else b["force"].flatten(1).eq(0).all(1)
        assert torch.equal(a["force"][~gone], b["force"][~gone]) and not b["available"][gone, 0].any()
        assert gone.any() == (step == 3)
        action = torch.zeros(6, 5)
        a, b = plain.step(action).observation, world.step(action).observation
    plain.close()
    world.close()
    with pytest.raises(ValueError, match="zeros or keep"):
        World("Reach", fill="mean", **options)


SMALL = Train("Reach").replace(
    robot="gripper", sensors=("proprio", "force"), num_envs=4, n_steps=8, batch_size=16, teacher="none",
    remask=0, renderer="warp", device="cpu", threads=1, encode_masked=True,
)  # fmt: skip


def test_it_trains():
    config = SMALL.replace(dropout="rates", rates=("force=1",), full=0.0)
    for encode in (True, False):
        env = make_env(config.replace(encode_masked=encode))
        model = make_model(config.replace(encode_masked=encode), env)
        force = model.policy.features_extractor.encoders["force"].layers[0].weight
        before = force.clone()
        model.learn(64)
        assert torch.equal(force, before) != encode  # never live, it learns from the truth alone
        assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
        env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"aux_coef": 0.0}, "--aux-coef"), ({"memory": "stack"}, "--memory stack"), ({"masked_as": "zeros"}, "before")],
)
def test_where_it_means_nothing(options, message):
    config = SMALL.replace(**options)
    env = make_env(config)
    with pytest.raises(ValueError, match=message):
        make_model(config, env)
    env.close()


def test_a_policy_file_remembers(tmp_path):
    torch.manual_seed(0)
    policy = FusionActorCriticPolicy(
        SPACE,
        gym.spaces.Box(np.float32([-1]), np.float32([1])),
        lambda _: 1e-3,
        features_extractor_kwargs={"sensors": SENSORS, "token_dim": 8, "encode_masked": True},
    )
    loaded = load(save(policy, tmp_path / "p.safetensors", {}, {}))
    assert loaded.network.features_extractor.encode_masked
    observation = observe(6)
    assert torch.equal(loaded.act(observation), loaded.act(spoil(observation)))
