"""Losses against modality collapse: each does what it says, and none reads what is hidden."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sensing import ESTIMATES, SENSORS, SPACE, observe, spoil
from test_distillation import make_model

from robofuse.policies import FusionExtractor
from robofuse.policies.regularisers import (
    REGULARISERS,
    Coarse,
    Contrastive,
    Regularisers,
    gradient_norms,
    modulate,
)
from robofuse.policies.rollouts import by_mask
from robofuse.sensors import Sensor, observation_space

NEEDS = {"alignment": ESTIMATES}
PAIR = tuple(Sensor(key, "vector", (3,), "float32", "m", 1.0, 20.0) for key in ("left", "right"))


def make_extractor(**options):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, token_dim=16, **options)


def two_views(rows, seed=0):
    """`right` is a rotation of `left`, so that each tells the other."""
    left = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32))
    return {"left": left, "right": left[:, [2, 0, 1]], "available": torch.ones(rows, 2, dtype=torch.int8)}


@pytest.mark.parametrize("name", REGULARISERS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_hidden_readings_reach_neither_loss_nor_gradient(name, seed):
    extractor = make_extractor(**NEEDS.get(name, {}))
    module, seen = REGULARISERS[name](extractor), observe(12, seed)
    results = []
    for rows in (seen, spoil(seen)):
        torch.manual_seed(seed)
        found = module(extractor, extractor.fuse(rows), rows)
        weights = [*extractor.parameters(), *module.parameters()]
        gradients = torch.autograd.grad(found["loss"], weights, allow_unused=True, materialize_grads=True)
        results.append([*found.values(), *gradients])
    assert all(torch.equal(a, b) and bool(a.isfinite().all()) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", REGULARISERS)
@pytest.mark.parametrize("live", [[], [0], [3]])
def test_a_batch_in_which_little_is_live_gives_a_finite_loss(name, live):
    extractor, available = make_extractor(**NEEDS.get(name, {})), torch.zeros(3, 4)
    available[:, live] = 1
    seen = observe(3, available=available)
    seen = {key: x for key, x in seen.items() if key not in {s.key for m, s in enumerate(SENSORS) if m not in live}}
    found = REGULARISERS[name](extractor)(extractor, extractor.fuse(seen), seen)
    assert bool(found["loss"].isfinite())


def test_contrastive_finds_what_two_sensors_share():
    """Recall goes to 1 and the bound towards log(rows) where one view tells the other; with noise instead it cannot."""
    results = {}
    for kind in ("shared", "noise"):
        torch.manual_seed(0)
        extractor = FusionExtractor(observation_space(PAIR), PAIR, token_dim=16)
        module = Contrastive(extractor)
        optimizer = torch.optim.Adam([*extractor.parameters(), *module.parameters()], lr=3e-3)
        for step in range(150):
            rows = two_views(64, step)
            if kind == "noise":
                rows["right"] = torch.randn(64, 3)
            loss = module(extractor, extractor.fuse(rows), rows)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        held_out = two_views(64, 10_000)
        if kind == "noise":
            held_out["right"] = torch.randn(64, 3)
        results[kind] = module(extractor, extractor.fuse(held_out), held_out)
    shared, noise = results["shared"], results["noise"]
    assert shared["recall/left-right"] > 0.9 > 0.2 > noise["recall/left-right"]
    assert math.log(64) >= shared["bound/left-right"] > 3.0 and noise["bound/left-right"] < 0.5


def test_the_temperature_is_clamped():
    extractor = make_extractor()
    module, seen = Contrastive(extractor), observe(8, available=torch.ones(8, 4))
    fused = extractor.fuse(seen)
    with torch.no_grad():
        module.log_scale.fill_(math.log(100.0))
        at_limit = module(extractor, fused, seen)["loss"]
        module.log_scale.fill_(50.0)
        assert torch.equal(module(extractor, fused, seen)["loss"], at_limit)


def test_contrastive_compares_only_rows_where_both_are_live():
    extractor = make_extractor()
    module, seen = Contrastive(extractor), observe(10, available=torch.ones(10, 4))
    fused = extractor.fuse(seen)
    half = torch.arange(10) < 5
    some = fused._replace(available=half[:, None].expand(-1, 4))
    few = type(fused)(fused.features[:5], fused.tokens[:5], fused.available[:5])
    torch.testing.assert_close(module(extractor, some, seen), module(extractor, few, seen))


def test_what_is_reconstructed_is_the_coarse_reading():
    extractor, live = make_extractor(), torch.ones(4, dtype=torch.bool)
    seen = observe(4, available=torch.ones(4, 4))
    picture = Coarse(extractor, "rgb")(extractor, seen, live).reshape(4, 3, 8, 8)
    np.testing.assert_allclose(
        picture[1, 2, 0, 0], seen["rgb"][1, :3, :4, 2].float().mean() / 255.0, rtol=1e-5
    )  # 24×28 pixels to 8×8
    depth = Coarse(extractor, "depth")(extractor, seen, live).reshape(4, 8, 8)
    np.testing.assert_allclose(depth[2, 7, 7], seen["depth"][2, 21:, 24:].float().mean() / 1000.0, rtol=1e-5)
    force = Coarse(extractor, "force")(extractor, seen, live)
    scaled = (seen["force"] / torch.tensor([10.0, 10.0, 1.0])).flatten(1)
    torch.testing.assert_close(force, 3.0 * torch.asinh(scaled / 3.0))


def test_reconstruction_teaches_tokens_what_they_saw():
    extractor = make_extractor()
    module = REGULARISERS["reconstruction"](extractor)
    optimizer = torch.optim.Adam([*extractor.parameters(), *module.parameters()], lr=3e-3)
    seen, losses = observe(32, available=torch.ones(32, 4)), []
    for _ in range(60):
        found = module(extractor, extractor.fuse(seen), seen)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append({key: float(x.detach()) for key, x in found.items()})
    assert all(losses[-1][key] < 0.7 * losses[0][key] for key in ("force", "proprio"))
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]


def test_consistency_pulls_the_features_of_fewer_sensors_and_holds_those_of_all():
    extractor = make_extractor()
    module, seen = REGULARISERS["consistency"](extractor), observe(64, available=torch.ones(64, 4))
    optimizer = torch.optim.Adam([extractor.mask_tokens, *extractor.availability.parameters()], lr=1e-2)
    losses = []
    for step in range(80):
        torch.manual_seed(step % 4)
        found = module(extractor, extractor.fuse(seen), seen)["loss"]
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    assert losses[-1] < 0.8 * losses[0]
    with pytest.raises(ValueError, match="zeros"):
        Regularisers(make_extractor(masked_as="zeros"), {"consistency": 1.0})


def test_unknown_names_and_weights_out_of_range_are_refused():
    extractor = make_extractor()
    with pytest.raises(ValueError, match=r"unknown regulariser 'contrast'.*consistency, contrastive"):
        Regularisers(extractor, {"contrast": 1.0})
    with pytest.raises(ValueError, match="contrastive must be finite"):
        Regularisers(extractor, {"contrastive": float("nan")})
    assert not Regularisers(extractor, {"contrastive": 0.0}).made


def test_modulation_damps_the_sensor_that_is_ahead_alone():
    extractor, seen = make_extractor(), observe(8, available=torch.ones(8, 4))
    extractor.fuse(seen).features.square().sum().backward()
    before = gradient_norms(extractor)
    losses = {"depth": 1.0, "force": 1.0, "proprio": 1.0, "rgb": 0.1}
    factors = modulate(extractor, {key: torch.tensor(x) for key, x in losses.items()}, alpha=0.3)
    share = math.exp(-0.1) / math.exp(-1.0)
    assert float(factors["rgb"]) == pytest.approx(1.0 - math.tanh(0.3 * share), rel=1e-5)
    after = gradient_norms(extractor)
    for key, norm in before.items():
        assert float(norm) > 0.0
        assert float(after[key]) == pytest.approx(float(norm * factors[key]), rel=1e-5)
        assert (float(factors[key]) == 1.0) == (key != "rgb")


def test_noise_of_modulation_has_the_deviation_of_the_gradient():
    torch.manual_seed(0)
    extractor, seen = make_extractor(), observe(8, available=torch.ones(8, 4))
    extractor.fuse(seen).features.square().sum().backward()
    weights = {name: weight for name, weight in extractor.encoders.named_parameters() if weight.grad is not None}
    before = {name: weight.grad.clone() for name, weight in weights.items()}
    losses = {key: torch.tensor(0.1 if key == "rgb" else 1.0) for key in ("depth", "force", "proprio", "rgb")}
    factors = modulate(extractor, losses, alpha=0.3, noise=True)
    for name, weight in weights.items():
        noise = weight.grad - factors[name.split(".")[0]] * before[name]
        if weight.ndim == 1:
            assert not noise.any(), name
        elif weight.numel() > 500:
            assert float(noise.std() / before[name].std()) == pytest.approx(1.0, abs=0.15), name
            assert abs(float(noise.mean() / noise.std())) < 4.0 / weight.numel() ** 0.5


def test_balanced_rows_show_all_masks_equally_often():
    torch.manual_seed(0)
    masks = torch.tensor([[1, 1]] * 90 + [[1, 0]] * 9 + [[0, 1]], dtype=torch.int8)
    weights = by_mask(masks)
    drawn = masks[torch.multinomial(weights, 30_000, replacement=True)]
    for mask in ([1, 1], [1, 0], [0, 1]):
        share = (drawn == torch.tensor(mask)).all(1).float().mean()
        assert float(share) == pytest.approx(1 / 3, abs=0.02)


def test_ppo_learns_with_all_of_them_and_its_first_ratio_is_one():
    weights = {"contrastive": 0.1, "reconstruction": 1.0, "consistency": 0.3}
    model = make_model(
        remask=1,
        modulation=0.3,
        sensor_weights={"force": 2.0},
        replay_rows=100,
        replay_passes=1.0,
        balance=True,
        policy_kwargs={"regularisers": weights},
    )
    errors, losses = [], model.loss
    model.loss = lambda batch, clip: (errors.append(found := losses(batch, clip)), found)[1]
    model.learn(2 * 6 * 8)
    assert all(float((errors[i * len(errors) // 2][1] - 1.0).abs().max()) < 1e-5 for i in range(2))
    logged = model.logger.name_to_value
    assert {"train/contrastive/recall/force-proprio", "train/grad_norm/force", "train/modulation/proprio"} <= {*logged}
    before = {key: x.clone() for key, x in model.policy.regularisers.state_dict().items()}
    model.learn(6 * 8)
    assert any(not torch.equal(x, before[key]) for key, x in model.policy.regularisers.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensor_weights": {"rgb": 1.0}}, "unknown sensor 'rgb' in sensor_weights"),
        ({"sensor_weights": {"force": -1.0}}, r"sensor_weights\['force'\] must lie"),
        ({"modulation": 0.3, "aux_coef": 0.0}, "it needs aux_coef above 0"),
        ({"modulation_noise": True}, "give modulation above 0"),
    ],
)
def test_ppo_refuses_what_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)
