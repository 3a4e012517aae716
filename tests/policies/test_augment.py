import numpy as np
import pytest
import torch
from sensing import SENSORS, observe
from toys import Line

from robofuse.envs import SB3VecEnv
from robofuse.policies import FusionPPO, Policy
from robofuse.policies.augment import Augmentation, Averaged, mix, moved, partners
from robofuse.policies.rollouts import TEACHER_ACTION
from robofuse.sensors import Sensor


def unlike(rows):
    """For each row how it was moved, told from pictures whose pixels are all different."""
    return torch.tensor(np.argwhere(rows).tolist())


def numbered(n=40, frames=1):
    """A depth picture of 24×28 pixels with its pixels' numbers, and colours that say the same."""
    depth = torch.arange(1, 24 * 28 + 1).reshape(1, 24, 28, 1).repeat(n, 1, 1, frames)
    rgb = torch.stack([depth // 256, depth % 256, depth % 7], dim=-1).flatten(3)
    return {"depth": depth.to(torch.int16).view(torch.uint16), "rgb": rgb.to(torch.uint8)}


def test_colour_and_depth_move_alike_by_at_most_so_many_pixels():
    torch.manual_seed(0)
    rows = numbered(300)
    found = Augmentation(SENSORS, shift=3)(rows | {"force": torch.ones(300, 4, 3)})
    assert (found["depth"].dtype, found["rgb"].dtype) == (torch.uint16, torch.uint8)
    depth = found["depth"].to(torch.int64)[..., 0]
    assert torch.equal(torch.stack([depth // 256, depth % 256, depth % 7], dim=-1), found["rgb"].long())
    dy, dx = (depth[:, 12, 14] - 1) // 28 - 12, (depth[:, 12, 14] - 1) % 28 - 14
    assert set(dy.tolist()) == set(dx.tolist()) == set(range(-3, 4))  # each row by itself
    assert len(set(zip(dy.tolist(), dx.tolist(), strict=True))) > 15
    given = rows["depth"][0, :, :, 0].to(torch.int64)
    for row, (a, b) in enumerate(zip(dy.tolist(), dx.tolist(), strict=True)):
        y, x = np.clip(np.arange(24) + a, 0, 23), np.clip(np.arange(28) + b, 0, 27)
        assert torch.equal(depth[row], given[y][:, x])  # what was there, and the edge repeated
    assert torch.equal(found["force"], torch.ones(300, 4, 3))


def test_stacked_frames_move_together_and_cameras_apart():
    torch.manual_seed(1)
    two = Sensor("depth", "depth", (24, 28, 2), "uint16", "mm", 1000.0, 20.0)
    wrist = [
        Sensor(f"{s.kind}_wrist", s.kind, s.shape, s.dtype, s.unit, s.scale, s.rate) for s in (SENSORS[0], SENSORS[3])
    ]
    rows = numbered(frames=2) | {f"{key}_wrist": x for key, x in numbered().items()}
    augment = Augmentation([two, *wrist], shift=2)
    found = augment(rows)
    depth, other = found["depth"].to(torch.int64), found["depth_wrist"].to(torch.int64)
    assert torch.equal(depth[..., 0], depth[..., 1])
    assert (depth[:, 12, 14, 0] != other[:, 12, 14, 0]).any()
    assert torch.equal(found["rgb_wrist"][..., 1].long(), other[..., 0] % 256)
    assert augment({"force": torch.ones(3, 2)}).keys() == {"force"}  # no picture is there


def test_channels_may_come_first():
    images, offsets = torch.randint(0, 255, (5, 3, 16, 18)), torch.randint(-2, 3, (5, 2))
    last = moved(images.permute(0, 2, 3, 1), offsets).permute(0, 3, 1, 2)
    assert torch.equal(moved(images, offsets, last=False), last)


def test_rows_are_mixed_with_one_coefficient_in_all_sensors_and_targets():
    rows = observe(6, available=np.ones((6, 4))) | {TEACHER_ACTION: torch.randn(6, 5)}
    partner, weight = torch.tensor([1, 2, 3, 4, 5, 0]), torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.3])
    found = mix(rows, partner, weight, {"depth"})
    for key, x in rows.items():
        if key == "available":
            assert found[key] is x
            continue
        one = x.to(torch.float64)
        expected = np.einsum("b...,b->b...", one, weight.double()) + np.einsum(
            "b...,b->b...", one[partner], 1 - weight.double()
        )
        assert found[key].dtype == x.dtype and found[key].shape == x.shape
        got = found[key].to(torch.float64).numpy()
        if key == "depth":
            expected = np.where((one > 0) & (one[partner] > 0), expected, 0.0)
        assert np.abs(got - expected).max() <= (1e-5 if x.is_floating_point() else 0.5 + 1e-3), key
    assert torch.equal(found["rgb"][0], rows["rgb"][1]) and torch.equal(found["rgb"][4], rows["rgb"][4])


def test_a_pixel_without_a_return_stays_so():
    depth = torch.tensor([[0, 100], [200, 0]], dtype=torch.uint16).reshape(2, 1, 2, 1)
    assert not mix({"depth": depth}, torch.tensor([1, 0]), torch.tensor([0.5, 0.5]), {"depth"})["depth"].any()


def test_partners_have_the_same_live_sensors():
    torch.manual_seed(0)
    available = (torch.rand(500, 3) < 0.6).to(torch.int8)
    found = partners(available)
    assert torch.equal(available[found], available)
    assert sorted(found.tolist()) == sorted(set(found.tolist())) or len(set(found.tolist())) > 480
    alone = (found == torch.arange(500)).sum()
    assert alone <= 8  # at most one of every mask
    assert not torch.equal(partners(available), found)


def test_mixup_draws_from_beta_for_each_row():
    torch.manual_seed(0)
    rows = {"force": torch.eye(2).repeat(1000, 1).reshape(2000, 1, 2), "available": torch.ones(2000, 1)}
    rows["force"][1::2] *= 2.0
    sensor = Sensor("force", "window", (1, 2), "float32", "N", 1.0, 20.0)
    found = Augmentation([sensor], mixup=0.4)(rows)["force"][:, 0]
    share = torch.where(torch.arange(2000) % 2 == 0, found[:, 0], found[:, 1] / 2.0)
    mixed = share[share < 1.0]  # about half had a partner of the other sort
    assert 800 < len(mixed) < 1200
    assert mixed.mean() == pytest.approx(0.5, abs=0.05) and mixed.var() == pytest.approx(0.25 / 1.8, rel=0.1)


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"rotate": 1.0}, "unknown augmentation 'rotate'; augmentations: shift, mixup"),
        ({"shift": 1.5}, "shift must be an integer"),
        ({"shift": -1.0}, "shift must be an integer"),
        ({"mixup": float("nan")}, "mixup must be finite"),
    ],
)
def test_bad_strengths(strengths, message):
    with pytest.raises(ValueError, match=message):
        Augmentation.named(SENSORS, strengths)


def test_what_cannot_be_augmented():
    assert Augmentation.named(SENSORS, {"shift": 0.0}) is None
    with pytest.raises(ValueError, match="there are none; sensors: force, proprio"):
        Augmentation(SENSORS[1:3], shift=2)
    with pytest.raises(ValueError, match="'gear' has int64"):
        Augmentation([Sensor("gear", "vector", (5,), "int64", "", 1.0, 20.0)], mixup=0.4)
    with pytest.raises(ValueError, match="none are kept; give replay_rows"):
        FusionPPO(env=Line(), n_steps=16, batch_size=16, augment={"mixup": 0.4}, device="cpu")


def learner(**options):
    env = SB3VecEnv("Reach", 4, robot="gripper", image_size=16, dropout=0.3, privileged=True, renderer="warp", seed=0)
    options = {
        "n_steps": 8,
        "batch_size": 16,
        "n_epochs": 1,
        "replay_rows": 64,
        "replay_passes": 2.0,
        "teacher_final": 0.5,
    } | options
    return FusionPPO(env=env, seed=0, device="cpu", teacher=lambda _: env.world.expert(), **options)


def test_ppo_sees_rows_as_they_acted_and_the_teacher_is_copied_on_others(monkeypatch):
    augment, seen = {"shift": 2, "mixup": 0.4}, []
    model = learner(augment=augment)
    plain = Augmentation.__call__

    def watched(self, rows):
        seen.append((rows, plain(self, rows)))
        return seen[-1][1]

    monkeypatch.setattr(Augmentation, "__call__", watched)
    before = {}
    monkeypatch.setattr(
        model,
        "_learn_from_replay",
        lambda means, learn=model._learn_from_replay: (
            before.update({k: v.clone() for k, v in model.policy.state_dict().items()}),
            learn(means),
        )[1],
    )
    model.learn(32)
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    assert len(seen) == 4
    for rows, changed in seen:
        assert rows.keys() == changed.keys() and torch.equal(rows["available"], changed["available"])
        for key in ("rgb", "depth", "force", TEACHER_ACTION, "privileged"):
            same = (rows[key].to(torch.float32) == changed[key].to(torch.float32)).flatten(1).all(1)
            assert 0 < (~same).sum(), key
    other = learner()  # PPO's own pass is the same to the bit
    monkeypatch.setattr(other, "_learn_from_replay", lambda means: None)
    other.learn(32)
    assert all(torch.equal(x, before[name]) for name, x in other.policy.state_dict().items())


def test_on_a_device_that_nobody_may_look_at():
    rows = {key: x.to("meta") for key, x in observe(6).items()}
    found = Augmentation(SENSORS, shift=2, mixup=0.4)(rows)
    assert all(x.is_meta and x.shape == rows[key].shape for key, x in found.items())


def test_what_is_hidden_stays_hidden_in_mixtures():
    """NaN in a masked reading, as a broken sensor gives, comes into no live one."""
    torch.manual_seed(0)
    available = (torch.rand(200, 4) < 0.6).to(torch.int8)
    rows = {key: x.clone() for key, x in observe(200, available=available.numpy()).items()}
    for i, key in enumerate(sorted(sensor.key for sensor in SENSORS)):
        if rows[key].is_floating_point():
            rows[key][available[:, i] == 0] = torch.nan
    found = Augmentation(SENSORS, shift=1, mixup=0.4)(rows)
    for i, key in enumerate(sorted(sensor.key for sensor in SENSORS)):
        if rows[key].is_floating_point():
            assert found[key][available[:, i] == 1].isfinite().all(), key


def test_an_action_is_the_mean_over_shifted_copies():
    policy = Policy(learner().policy, "plain")
    env = policy.network.observation_space
    torch.manual_seed(0)
    rows = {
        key: torch.from_numpy(np.stack([space.sample() for _ in range(3)]))
        for key, space in env.spaces.items()
        if key != "available"
    }
    rows |= {"available": torch.ones(3, 4, dtype=torch.int8)}
    found = Averaged(policy, copies=3, pixels=2).act(rows)
    actions = []
    for dy, dx in ((0, 0), (-2, 0), (2, 0)):
        offsets = torch.tensor([[dy, dx]] * 3)
        actions.append(policy.act(rows | {key: moved(rows[key], offsets) for key in ("rgb", "depth")}))
    assert torch.allclose(found, torch.stack(actions).mean(0), atol=1e-6)
    assert not torch.allclose(found, actions[0], atol=1e-6)
    blind = rows | {"available": torch.tensor([[0, 1, 1, 0]] * 3, dtype=torch.int8)}  # no picture is read
    assert torch.allclose(Averaged(policy).act(blind), policy.act(blind), atol=1e-6)


def test_where_nothing_can_be_averaged():
    with pytest.raises(ValueError, match="copies must be"):
        Averaged(Policy(learner().policy, "plain"), copies=1)
