"""What each fusion claims; what all of them must hold is in test_extractor.py, over FUSIONS."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from exporting import MASKS, by_torch, make
from exporting import observe as observe_one
from sensing import SENSORS, SPACE, observe, spoil
from torch import nn
from toys import Line

from robofuse.export.make import exported
from robofuse.policies import FUSIONS, FusionActorCriticPolicy, FusionExtractor, FusionPPO, Policy, load, save
from robofuse.policies.fusion.film import FiLM
from robofuse.policies.fusion.late import Late, calibrate
from robofuse.policies.fusion.perceiver import Perceiver, piece_width

ALL = torch.ones(64, 3, dtype=torch.bool)


def fit(fusion, product):
    """The error of a linear readout that learns the product of two numbers, which two sensors have one of each."""
    torch.manual_seed(0)
    model = FUSIONS[fusion](2, 4)
    readout = nn.Linear(model.features, 1)
    optimizer = torch.optim.Adam([*model.parameters(), *readout.parameters()], 3e-2)
    for _ in range(120):
        numbers = torch.randn(64, 2)
        tokens = numbers[:, :, None] * torch.ones(4)
        found = readout(model(tokens, torch.ones(64, 2, dtype=torch.bool)))[:, 0]
        loss = (found - (numbers.prod(1) if product else numbers.sum(1))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_film_learns_what_one_sensor_means_in_the_light_of_another():
    """A product: a mean of tokens cannot be read linearly for it, one of modulated tokens can."""
    assert fit("sum", product=True) > 0.6 and fit("film", product=True) < 0.15
    assert fit("sum", product=False) < 0.05


def test_film_scales_a_token_by_the_other_live_ones_alone():
    torch.manual_seed(0)
    film, tokens, live = FiLM(3, 6), torch.randn(4, 3, 6), torch.tensor([[1.0, 1.0, 0.0]] * 4)

    def first(token, others=tokens):
        return film.modulated(torch.cat([token[:, None], others[:, 1:]], dim=1), live)[:, 0]

    zero, one = torch.zeros(4, 6), tokens[:, 0]
    slope = first(one) - first(zero)
    torch.testing.assert_close(first(3.0 * one) - first(zero), 3.0 * slope)  # its own scale is not its own doing
    changed = tokens.clone()
    changed[:, 1] += 1.0
    assert not torch.allclose(first(one, changed) - first(zero, changed), slope, rtol=1e-2)
    changed = tokens.clone()
    changed[:, 2] += 1.0  # not live
    assert torch.equal(first(one, changed), first(one))


def linear_policy(fusion="late"):
    torch.manual_seed(0)
    options = {"sensors": SENSORS, "fusion": fusion, "token_dim": 16}
    box = gym.spaces.Box(-1, 1, (3,))
    policy = FusionActorCriticPolicy(SPACE, box, lambda _: 1e-3, net_arch=[], features_extractor_kwargs=options)
    nn.init.normal_(policy.action_net.weight)
    nn.init.normal_(policy.action_net.bias)
    return policy


def test_with_a_linear_actor_the_action_is_the_weighted_mean_of_what_each_sensor_decides():
    policy = linear_policy()
    extractor = policy.features_extractor
    nn.init.zeros_(extractor.availability.weight)  # else every set of sensors also has an offset of its own
    seen = observe(40)

    def action(available):
        with torch.no_grad():
            return policy.action_net(policy.fuse(seen | {"available": available.to(torch.int8)}).features)

    live = seen["available"].bool()
    alone = torch.stack([action(torch.eye(4)[m].expand(40, 4)) for m in range(4)], dim=1)
    fusion = extractor.fusion
    with torch.no_grad():
        tokens = extractor.fuse(seen).tokens
        weights = fusion.decide(tokens)[1].exp() * live
    expected = (weights[..., None] * alone).sum(1) / weights.sum(1, keepdim=True)
    torch.testing.assert_close(action(live), expected, rtol=1e-4, atol=1e-5)


def test_every_set_of_sensors_may_have_an_offset_beside_the_weighted_mean():
    policy, seen = linear_policy(), observe(40)
    with torch.no_grad():
        fused = policy.fuse(seen)
        decisions, sure = policy.features_extractor.fusion.decide(fused.tokens)
        weights = policy.features_extractor.fusion.weights(sure, fused.available)
        each = policy.action_net(decisions + policy.features_extractor.availability(fused.available.float())[:, None])
        mixed = (weights[..., None] * each).sum(1)
        torch.testing.assert_close(policy.action_net(fused.features), mixed, rtol=1e-4, atol=1e-5)
    assert (weights[~fused.available] == 0).all()


def noisy(rows, deviations, seed=0):
    """A late fusion whose sensors decide what their tokens say, tokens of a truth with noise, and their errors."""
    torch.manual_seed(seed)
    fusion = Late(3, 4)
    with torch.no_grad():  # elu(x + 20) − 20 is x
        fusion.hidden.copy_(torch.eye(4).expand(3, 4, 4))
        fusion.hidden_bias.fill_(20.0)
        fusion.weight.zero_()
        fusion.weight[:, :, :4] = torch.eye(4)
        fusion.bias[:, :4] = -20.0
        fusion.bias[:, 4] = torch.tensor([1.0, -2.0, 0.5])  # stated without knowing
    truth = torch.randn(rows, 1, 4)
    tokens = truth + torch.randn(rows, 3, 4) * torch.tensor(deviations)[:, None]
    return fusion, tokens, truth


def test_calibrated_weights_are_inverse_variances_and_combine_better():
    deviations = (0.2, 0.4, 1.0)
    fusion, tokens, truth = noisy(4000, deviations)
    live = torch.ones(4000, 3, dtype=torch.bool)
    live[:2000, 0] = False
    half = slice(0, None, 2), slice(1, None, 2)

    def error(rows):
        with torch.no_grad():
            return float((fusion(tokens[rows], live[rows]) - truth[rows, 0]).square().mean())

    before = error(half[1])
    squared = (tokens - truth).square().mean(2)
    squared[~live] = torch.nan  # of what is not live, nothing is known
    found = calibrate(fusion, tokens[half[0]], live[half[0]], squared[half[0]])
    stated = fusion.decide(tokens)[1].detach()
    assert torch.equal(found, fusion.temperature)
    for m, deviation in enumerate(deviations):  # on rows that were not fitted
        seen = live[half[1]][:, m]
        observed = squared[half[1]][seen][:, m].mean()
        assert float((-stated[half[1]][seen][:, m]).exp().mean()) == pytest.approx(float(observed), rel=0.1)
        assert float(observed) == pytest.approx(deviation**2, rel=0.1)
    inverse = torch.tensor(deviations).square().reciprocal()
    weights = fusion.weights(stated, live)[-1]
    torch.testing.assert_close(weights, inverse / inverse.sum(), rtol=0.1, atol=0.01)
    best = 0.5 * sum(1.0 / float(inverse[k:].sum()) for k in (0, 1))  # the first sensor is there in half of the rows
    assert error(half[1]) == pytest.approx(best, rel=0.1) and error(half[1]) < 0.6 * before


def test_calibration_leaves_what_is_never_live_and_refuses_what_is_no_square():
    fusion, tokens, _ = noisy(64, (0.1, 0.1, 0.1))
    live = ALL.clone()
    live[:, 1] = False
    found = calibrate(fusion, tokens, live, torch.full((64, 3), 0.5))
    assert float(found[1]) == 1.0 != float(found[0])
    for errors in (torch.full((64, 3), -1.0), torch.full((64, 3), torch.nan), torch.ones(64)):
        with pytest.raises(ValueError, match="errors"):
            calibrate(fusion, tokens, live, errors)


def test_a_linear_late_policy_in_files_and_exports_with_its_temperatures(tmp_path):
    policy = linear_policy()
    policy.features_extractor.fusion.temperature.copy_(torch.tensor([1.0, 2.0, 0.1, 5.0]))
    policy.set_training_mode(False)
    loaded, seen = load(save(policy, tmp_path / "p.safetensors")), observe(8)
    assert torch.equal(loaded.act(seen), policy.act(seen))
    assert exported(Policy(policy, "late")).difference < 1e-4
    policy.features_extractor.fusion.temperature.fill_(1.0)
    assert not torch.allclose(loaded.act(seen), policy.act(seen), atol=1e-3)


@pytest.mark.parametrize(("size", "piece"), [(512, 32), (288, 32), (64, 32), (48, 16), (10, 2), (7, 1)])
def test_tokens_are_read_in_pieces(size, piece):
    assert piece_width(size) == piece
    assert Perceiver(2, size)(torch.randn(3, 2, size), torch.ones(3, 2, dtype=torch.bool)).shape == (3, 64)


def test_only_its_position_tells_one_piece_from_another():
    torch.manual_seed(0)
    fusion, tokens, live = Perceiver(3, 128), torch.randn(64, 3, 128), ALL
    shuffled = tokens.unflatten(2, (4, 32))[:, :, [2, 0, 3, 1]].flatten(2)
    assert not torch.allclose(fusion(tokens, live), fusion(shuffled, live), atol=1e-3)
    nn.init.zeros_(fusion.position)
    torch.testing.assert_close(fusion(tokens, live), fusion(shuffled, live), rtol=1e-4, atol=1e-5)
    swapped = tokens[:, [1, 0, 2]]
    assert not torch.allclose(fusion(tokens, live), fusion(swapped, live), atol=1e-3)
    with torch.no_grad():
        fusion.sensor.zero_()
        fusion.embedding.copy_(fusion.embedding[:1].expand(3, -1, -1).clone())
    torch.testing.assert_close(fusion(tokens, live), fusion(swapped, live), rtol=1e-4, atol=1e-5)


PATCHES = {"fusion": "perceiver", "encoders": dict.fromkeys(("rgb", "depth", "vector", "window"), "patches")}


def patches(token_dim=128):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, token_dim=token_dim, **PATCHES)  # 24×28 pixels: a grid of 2×2


def test_a_piece_of_a_picture_is_a_place():
    encoder = patches().encoders["rgb"]
    seen = observe(1)["rgb"].repeat(2, 1, 1, 1)
    seen[1, -4:, -4:] = 255 - seen[1, -4:, -4:]  # in the last place, and in no other's field of view
    grid = nn.Sequential(*encoder.head[:-1])
    encoder.head = grid
    pieces = encoder(seen).unflatten(1, (4, 32))
    changed = (pieces[0] - pieces[1]).abs().amax(1)
    assert changed[0] == 0.0 and changed[3] > 1e-4


def test_hidden_patches_are_unreadable_and_live_ones_are_read():
    extractor, seen = patches(), observe(12)
    assert torch.equal(extractor(seen), extractor(spoil(seen)))
    one, other = observe(6, 0, np.ones((6, 4))), observe(6, 1, np.ones((6, 4)))
    for key in ("depth", "force", "proprio", "rgb"):
        assert (extractor(one) - extractor({**one, key: other[key]})).abs().amax(1).min() > 1e-5, key


def test_patches_on_a_device_that_nobody_may_look_at():
    extractor = patches().to("meta")
    fused = extractor.fuse({key: x.to("meta") for key, x in observe(6).items()})
    assert fused.features.is_meta and fused.features.shape == (6, 64)
    assert extractor.fuse_again(fused, fused.available.repeat(2, 1)).features.shape == (12, 64)


def test_patches_are_exported_as_they_are():
    policy = make(token_dim=128, **PATCHES)
    deployed, seen = exported(policy).deployed, observe_one(3)
    for mask in MASKS:
        difference = deployed(seen | {"available": mask}) - by_torch(policy, seen, mask)
        assert np.abs(difference).max() < 1e-4


def test_patches_of_another_number_name_those_that_fit():
    with pytest.raises(ValueError, match=r"'depth'.* 2×2 places.*multiple of 4, such as 128; got 66"):
        patches(66)


@pytest.mark.parametrize("fusion", ["film", "late", "perceiver"])
def test_ppo_sees_what_acted(fusion):
    kwargs = {"features_extractor_kwargs": {"fusion": fusion, "token_dim": 64}}
    model = FusionPPO(
        env=Line(), n_steps=32, batch_size=16, n_epochs=1, remask=2, policy_kwargs=kwargs, device="cpu", seed=0
    )
    before = [x.clone() for x in model.policy.features_extractor.fusion.parameters()]
    model.learn(32)
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    after = model.policy.features_extractor.fusion.parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
