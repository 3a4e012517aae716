"""U2A: encoders that estimate each other's tokens, adapters of frozen encoders, and the loss that aligns them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sensing import ESTIMATES, SENSORS, SPACE, observe, spoil

from robofuse.envs import SB3VecEnv
from robofuse.errors import InputError
from robofuse.export.make import exported
from robofuse.policies import FusionActorCriticPolicy, FusionExtractor, FusionPPO, Policy, load, save
from robofuse.policies.regularisers import REGULARISERS
from robofuse.policies.u2a.lora import LoRALinear, adapter_dropout, count_weights
from robofuse.policies.u2a.transformer import PATCH, Body, patches, resized
from robofuse.policies.u2a.weights import load_pretrained, save_body
from robofuse.sensors import Sensor, observation_space

ACTIONS = gym.spaces.Box(-1, 1, (2,))
PAIR = tuple(Sensor(key, "vector", (3,), "float32", "m", 1.0, 20.0) for key in ("left", "right"))


def make_extractor(**options):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, token_dim=16, **ESTIMATES | options)


def make_policy(**options):
    torch.manual_seed(0)
    kwargs = {"sensors": SENSORS, "token_dim": 16, **ESTIMATES, **options}
    return FusionActorCriticPolicy(SPACE, ACTIONS, lambda _: 1e-3, features_extractor_kwargs=kwargs)


@pytest.mark.parametrize("options", [{}, {"estimate": "gated", "fusion": "sum_all"}, {"live_rows_only": False}])
def test_hidden_is_unreadable_to_the_bit(options):
    extractor, clean = make_extractor(**options), observe(20)
    clean["available"][:2] = 0
    results = []
    for observation in (clean, spoil(clean)):
        features = extractor(observation)
        gradients = torch.autograd.grad(
            features.square().sum(), [*extractor.parameters()], allow_unused=True, materialize_grads=True
        )
        results.append([features, *gradients])
    assert all(torch.equal(a, b) and bool(a.isfinite().all()) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("how", ["mean", "gated"])
def test_estimates_stand_exactly_where_a_sensor_is_missing(how):
    extractor, seen = make_extractor(estimate=how), observe(30)
    seen["available"][0] = 0
    fused, live = extractor.fuse(seen), seen["available"].bool()
    if how == "gated":
        torch.nn.init.normal_(extractor.estimates.logits)
        fused = extractor.fuse(seen)
    for m, sensor in enumerate(SENSORS):
        own = extractor.encoders[sensor.key](extractor.readings.for_encoder(sensor.key, seen[sensor.key]))
        torch.testing.assert_close(fused.tokens[live[:, m], m], own[live[:, m]], rtol=1e-4, atol=1e-5)
    for row in range(30):
        for target in (~live[row]).nonzero()[:, 0].tolist():
            sources = live[row].nonzero()[:, 0].tolist()
            if sources:
                said = fused.estimates[row, sources, target]
                logits = extractor.estimates.logits[sources, target] if how == "gated" else torch.zeros(len(sources))
                expected = (logits.softmax(0)[:, None] * said).sum(0)
            else:
                expected = extractor.mask_tokens[target]
            torch.testing.assert_close(fused.tokens[row, target], expected)


def test_the_estimate_changes_with_what_is_there():
    """A learned mask token would not."""
    extractor = make_extractor()
    blind = np.tile([1, 1, 1, 0], (2, 1))  # without rgb
    tokens = extractor.fuse(observe(2, 0, blind)).tokens[:, 3].detach()
    assert float((tokens[0] - tokens[1]).abs().amax()) > 1e-3


def test_fusing_again_is_what_fusing_with_these_masks_is():
    extractor, seen = make_extractor(estimate="gated"), observe(12, available=np.ones((12, 4)))
    fewer = observe(12, 5)["available"]
    ran = []
    for encoder in extractor.encoders.values():
        encoder.register_forward_hook(lambda *_: ran.append(1))
        encoder.body.register_forward_hook(lambda *_: ran.append(1))
    fused = extractor.fuse(seen)
    count = len(ran)
    again = extractor.fuse_again(fused, fewer.repeat(2, 1).bool())
    assert len(ran) == count  # no encoder
    anew = extractor.fuse(seen | {"available": fewer})
    for half in (slice(0, 12), slice(12, 24)):
        torch.testing.assert_close(again.features[half], anew.features, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again.tokens[half], anew.tokens, rtol=1e-4, atol=1e-5)


def test_only_live_rows_are_encoded():
    extractor, lengths = make_extractor(), []
    extractor.encoders["rgb"].body.register_forward_hook(lambda _, given, out: lengths.append(len(out)))
    extractor(observe(64, available=np.tile([[1, 1, 1, 0], [1, 1, 1, 1]], (32, 1))))
    extractor(observe(64, available=np.tile([1, 1, 1, 0], (64, 1))))
    assert lengths == [32]


def test_estimates_need_encoders_that_estimate():
    with pytest.raises(InputError, match=r"'rgb' has ImageEncoder: say encoders=\{'rgb': 'transformer'\}"):
        make_extractor(encoders={"depth": "transformer", "vector": "transformer", "window": "transformer"})
    with pytest.raises(InputError, match="no sensor has it"):
        FusionExtractor(SPACE, SENSORS, adapt="lora")
    with pytest.raises(InputError, match="estimate must be one of mean, gated"):
        make_extractor(estimate="median")


def test_patches_are_parts_of_the_image():
    image = torch.arange(2 * 18 * 16 * 3.0).reshape(2, 18, 16, 3)
    found = patches(image)
    assert found.shape == (2, 3 * 2, PATCH * PATCH * 3)
    assert torch.equal(found[1, 3].reshape(8, 8, 3), image[1, 8:16, 8:16])
    assert torch.equal(found[0, 4].reshape(8, 8, 3)[:2], image[0, 16:, :8]) and not found[0, 4, 48:].any()


def test_adapters_begin_as_the_layer_and_alone_learn():
    full, lora = make_extractor(), make_extractor(adapt="lora")
    lora.load_state_dict(full.state_dict(), strict=False)
    seen = observe(8)
    assert torch.equal(full(seen), lora(seen))
    before = {name: x.clone() for name, x in lora.state_dict().items()}
    optimizer = torch.optim.AdamW(lora.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        lora(seen).square().sum().backward()
        optimizer.step()
    moved = {name for name, x in lora.state_dict().items() if not torch.equal(x, before[name])}
    bodies = {name for name in before if ".body." in name and not name.endswith((".down", ".up", "class_token"))}
    assert bodies and not bodies & moved
    assert {name for name in before if name.endswith((".down", ".up"))} <= moved
    assert {"encoders.rgb.head.0.weight", "encoders.rgb.mask_tokens", "encoders.rgb.body.class_token"} <= moved


def test_adapters_have_rank_one():
    lora = make_extractor(adapt="lora").encoders["rgb"].body.layers[0].attention.q
    assert isinstance(lora, LoRALinear)
    torch.nn.init.normal_(lora.up)
    x = torch.randn(5, 96)
    weight = lora.weight + lora.up @ lora.down
    torch.testing.assert_close(lora(x), x @ weight.T + lora.bias, rtol=1e-4, atol=1e-5)
    assert int(torch.linalg.matrix_rank(lora.up @ lora.down)) == 1


def test_adapters_drop_only_where_they_are_told_to():
    """With PPO they never do, so that its first ratio is 1."""
    extractor, seen = make_extractor(adapt="lora").train(), observe(8)
    for part in extractor.modules():
        if isinstance(part, LoRALinear):
            torch.nn.init.normal_(part.up)
    plain = extractor(seen)
    assert torch.equal(plain, extractor(seen))
    with adapter_dropout(extractor):
        assert not torch.allclose(plain, extractor(seen))
        assert torch.equal(plain, extractor.eval()(seen))
    assert torch.equal(plain, extractor.train()(seen))


@pytest.mark.parametrize(("how", "learns"), [("full", 1.0), ("lora", None), ("frozen", None)])
def test_the_share_of_learnable_weights(how, learns):
    extractor = make_extractor(adapt=how)
    found = count_weights(extractor)
    frozen = adapters = 0
    for encoder in extractor.encoders.values():
        body = encoder.body
        base = Body(encoder.sensor)
        frozen += sum(x.numel() for x in base.parameters()) - body.class_token.numel()
        adapters += 3 * 4 * 2 * 96
    extra = adapters if how == "lora" else 0
    assert found.total == count_weights(make_extractor()).total + extra
    assert found.learnable == (found.total if learns else found.total - frozen)
    expected = f"{found.total:,} weights" + ("" if learns else f", of which {found.learnable:,} learn (")
    assert str(found).startswith(expected)


def functions(rows, seed):
    """`right` is a function of `left`, but not the other way round; the third number of `left` is nobody's."""
    left = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32))
    right = torch.stack([left[:, 0] * left[:, 1], left[:, 0].abs(), left[:, 1]], 1)
    return {"left": left, "right": right, "available": torch.ones(rows, 2, dtype=torch.int8)}


@pytest.mark.slow
def test_alignment_makes_the_estimate_the_token():
    torch.manual_seed(0)
    encoders = {"vector": "transformer"}
    extractor = FusionExtractor(observation_space(PAIR), PAIR, token_dim=16, encoders=encoders, masked_as="estimate")
    alignment, head = REGULARISERS["alignment"](extractor), torch.nn.Linear(32, 3)
    optimizer = torch.optim.Adam([*extractor.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for step in range(100):
        rows = functions(32, step)
        fused = extractor.fuse(rows)
        loss = alignment(extractor, fused, rows)["loss"]
        losses.append(loss.item())
        task = (head(fused.features) - rows["right"]).square().mean()  # that tokens say something
        optimizer.zero_grad()
        (task + loss).backward()
        optimizer.step()
    held_out = functions(256, 10_000)
    fused = extractor.fuse(held_out)
    found = alignment(extractor, fused, held_out)
    assert losses[-1] < 0.5 * losses[0]
    relative = (fused.estimates[:, 0, 1] - fused.tokens[:, 1]).square().mean() / fused.tokens[:, 1].var(0).mean()
    assert found["relative/left>right"] < 0.5
    torch.testing.assert_close(found["relative/left>right"], relative, rtol=0.02, atol=0.01)


def test_alignment_reads_rows_where_both_are_live():
    extractor, seen = make_extractor(), observe(6, available=np.ones((6, 4)))
    alignment = REGULARISERS["alignment"](extractor)
    few = {key: x[:3] for key, x in seen.items()}
    seen["available"][3:] = torch.tensor([0, 0, 1, 0])
    found, expected = (alignment(extractor, extractor.fuse(rows), rows)["loss"] for rows in (seen, few))
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match='alignment needs estimates: masked_as="estimate"'):
        REGULARISERS["alignment"](FusionExtractor(SPACE, SENSORS))


def test_policy_files_know_of_it(tmp_path):
    policy = make_policy(estimate="gated", adapt="lora", fusion="sum_all")
    torch.nn.init.normal_(policy.features_extractor.estimates.logits)
    loaded = load(save(policy, tmp_path / "p.safetensors"))
    policy.set_training_mode(False)
    assert torch.equal(loaded.act(observe(6)), policy.act(observe(6)))
    assert count_weights(loaded.network) == count_weights(policy)


PLAIN = pytest.param({"masked_as": "token"}, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("options", [PLAIN, {"estimate": "gated", "adapt": "lora"}])
def test_what_is_exported_acts_the_same(options):
    policy = make_policy(**options)
    for part in policy.modules():
        if isinstance(part, LoRALinear):
            torch.nn.init.normal_(part.up, std=0.1)
    deployed = exported(Policy(policy, "u2a")).deployed  # which compares them, too
    seen = observe(6)
    seen["available"][0] = 0
    policy.set_training_mode(False)
    for row in range(6):
        one = {key: x[row : row + 1] for key, x in seen.items() if key != "privileged"}
        acted = deployed({key: x[0].numpy() for key, x in one.items()})
        np.testing.assert_allclose(acted, policy.act(one)[0].numpy(), atol=1e-4, rtol=0)


def test_pretrained_weights_are_loaded_for_images_of_any_size(tmp_path):
    for sensor in SENSORS:
        torch.manual_seed(1)
        shape = (48, 48, *sensor.shape[2:]) if len(sensor.shape) == 3 else sensor.shape
        other = Sensor(sensor.key, sensor.kind, shape, sensor.dtype, "", sensor.scale, 20.0)
        body = Body(other)
        save_body(tmp_path / f"{sensor.key}.safetensors", body, other, {})
    extractor = make_extractor(adapt="lora")
    head = extractor.encoders["rgb"].head[0].weight.clone()
    used = load_pretrained(extractor, tmp_path)
    assert {key: path.stem for key, path in used.items()} == {key: key for key in extractor.encoders}
    rgb = extractor.encoders["rgb"].body  # the last one that was made
    torch.testing.assert_close(
        rgb.layers[0].attention.q.weight, body.layers[0].attention.q.weight, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(rgb.positions, resized(body.positions, (6, 6), (3, 4)), rtol=1e-2, atol=1e-3)
    assert torch.equal(head, extractor.encoders["rgb"].head[0].weight)


@pytest.mark.parametrize(
    ("folder", "encoders", "message"),
    [
        ("nowhere", {"rgb": "transformer"}, "no pretrained encoder in nowhere"),
        (None, {"rgb": "transformer"}, r"is for 'rgb', rgb \(24, 28, 3\): depth.safetensors \(depth \(24, 28, 1\)\)"),
        (None, {}, "no sensor has it"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, folder, encoders, message):
    save_body(tmp_path / "depth.safetensors", Body(SENSORS[0]), SENSORS[0], {})
    with pytest.raises(InputError, match=message):
        load_pretrained(FusionExtractor(SPACE, SENSORS, encoders=encoders), folder or tmp_path)


def test_damaged_weights_are_refused(tmp_path):
    body = Body(SENSORS[2])
    body.positions.data[0, 0] = torch.nan
    save_body(tmp_path / "proprio.safetensors", body, SENSORS[2], {})
    with pytest.raises(InputError, match="no encoder that this robofuse can load"):
        load_pretrained(FusionExtractor(SPACE, SENSORS, encoders={"proprio": "transformer"}), tmp_path)


def make_model(sensors=("proprio", "force"), **options):
    env = SB3VecEnv("Reach", 4, sensors=sensors, robot="gripper", image_size=16, privileged=True, dropout=0.4, seed=3)
    kwargs = ESTIMATES | {"adapt": "lora", "fusion": "sum_all", "token_dim": 96}
    policy_kwargs = {"features_extractor_kwargs": kwargs, "regularisers": {"alignment": 0.2}}
    options = {"n_steps": 6, "batch_size": 12, "n_epochs": 1} | options
    return FusionPPO(env=env, seed=0, device="cpu", policy_kwargs=policy_kwargs, **options)


ALL = pytest.param(("rgb", "depth", "proprio", "force"), marks=pytest.mark.slow)


@pytest.mark.parametrize("sensors", [("proprio", "force"), ALL])
def test_the_first_ratio_of_ppo_is_one(sensors):
    model = make_model(sensors)
    model.learn(24)
    model.env.close()
    found = model.logger.name_to_value
    ratio = found["train/first_ratio_error"]
    assert ratio < 1e-5 and found["train/alignment/loss"] > 0 and found["train/alignment/relative"] > 0


@pytest.mark.slow
def test_alignment_brings_estimates_closer_in_ppo():
    """Than the same training in which it has next to no weight, and is logged."""
    losses = []
    for weight in (1.0, 1e-9):
        env = SB3VecEnv(
            "Reach", 16, sensors=("proprio", "force"), robot="gripper", privileged=True, dropout=0.3, seed=3
        )
        kwargs = ESTIMATES | {"fusion": "sum_all", "token_dim": 96}
        policy_kwargs = {"features_extractor_kwargs": kwargs, "regularisers": {"alignment": weight}}
        options = {"n_steps": 20, "batch_size": 80, "learning_rate": 5e-4, "aux_coef": 0.0}
        model = FusionPPO(env=env, seed=0, device="cpu", policy_kwargs=policy_kwargs, **options)
        model.learn(1920)
        env.close()
        assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
        losses.append(model.logger.name_to_value["train/alignment/loss"])
    assert losses[0] < 0.5 * losses[1], losses


def test_nothing_looks_at_a_number():
    """Torch's `meta` device raises where somebody would, as on a GPU one would have to wait."""
    extractor = make_extractor(estimate="gated", adapt="lora").to("meta")
    seen = {key: x.to("meta") for key, x in observe(5).items()}
    fused = extractor.fuse(seen)
    found = REGULARISERS["alignment"](extractor)(extractor, fused, seen)
    again = extractor.fuse_again(fused, fused.available)
    assert fused.features.is_meta and again.features.is_meta and all(x.is_meta for x in found.values())
