"""Sensor dropout: the laws, when they draw, and what policies and training see of it."""

import subprocess
import sys
import warnings
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers import BLIND, rest, same
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecExtractDictObs, VecMonitor, VecNormalize

from robofuse.dropout import (
    Bound,
    Constant,
    Cosine,
    Dropout,
    Groups,
    Independent,
    Law,
    Linear,
    Markov,
    Masker,
    Rates,
    Subsets,
    as_dropout,
    mask_arrays,
    mask_sensors,
    singles,
)
from robofuse.envs import SB3VecEnv, World
from robofuse.envs.tasks import Reach
from robofuse.wrappers import DropoutProgress, SensorDropout, VecSensorDropout, tell_progress

KEYS = ("depth", "force", "proprio", "rgb")
LAWS = (
    Independent(0.4),
    Independent({"rgb": 0.5, "proprio": 1.0}),
    Subsets(),
    Groups(p=0.5),
    Groups((("rgb", "proprio"), ("force",)), {"rgb": 0.6, "depth": 0.9}),
    Rates({"rgb": 0.3, "force": 0.2}),
)
EVERY = ("episode", "outage", "step")
PLANS = [Dropout(law, every, outage_steps=3) for law in LAWS for every in EVERY]
PLANS += [Dropout(Markov(0.1, 0.3)), Dropout(Markov(0.6, 0.1, (("rgb", "depth"),)), full=0.2)]


def name(plan):
    return f"{type(plan.law).__name__}-{plan.every}"


def play(plan, episodes, steps, seed=0, keys=KEYS):
    """Masks (steps + 1, N, M) of these episodes, one world each."""
    masker = Masker(plan, keys, len(episodes), seed)
    masker.start(torch.arange(len(episodes)), torch.as_tensor(episodes))
    masks = [masker.available.clone()]
    for _ in range(steps):
        masker.step()
        masks.append(masker.available.clone())
    return torch.stack(masks)


def hidden_share(plan, episodes=20_000, steps=0, keys=KEYS):
    return 1.0 - play(plan, range(episodes), steps, keys=keys).double().mean(dim=(0, 1))


# --- laws


def test_independent_hides_each_sensor_at_its_rate():
    # all four at once, p⁴ of the time, is one fewer
    assert torch.allclose(hidden_share(0.4), torch.tensor(0.4 - 0.4**4 / 4).double(), atol=0.015)
    share = hidden_share(Independent({"rgb": 0.5, "force": 0.1}))
    assert torch.allclose(share, torch.tensor([0.0, 0.1, 0.0, 0.5]).double(), atol=0.015)
    both = play(Dropout(Independent(0.4)), range(20_000), 0)[0]
    assert abs(float(((both[:, 0] == 0) & (both[:, 3] == 0)).double().mean()) - 0.16) < 0.015


def test_a_sensor_that_is_always_hidden_is_never_the_one_that_is_kept():
    masks = play(Independent({"rgb": 1.0, "depth": 1.0, "proprio": 0.9, "force": 0.9}), range(5000), 0)[0]
    assert not masks[:, [0, 3]].any() and masks[:, [1, 2]].any(dim=1).all()
    assert torch.allclose(masks[:, [1, 2]].double().mean(dim=0), torch.tensor(0.1 + 0.81 / 2).double(), atol=0.03)


def test_subsets_are_equally_likely():
    masks = play(Subsets(), range(30_000), 0)[0].long()
    counts = torch.bincount((masks * torch.tensor([1, 2, 4, 8])).sum(dim=1), minlength=16)
    assert counts[0] == 0 and torch.allclose(counts[1:] / 30_000, torch.tensor(1 / 15), atol=0.008)


def test_groups_fail_together_and_other_sensors_for_themselves():
    masks = play(Groups(p=0.5), range(10_000), 0)[0]
    assert torch.equal(masks[:, 0], masks[:, 3])
    assert 0.2 < (masks[:, 1] == masks[:, 0]).double().mean() < 0.8
    keys = ("depth", "depth_wrist", "force", "rgb", "rgb_side", "rgb_wrist")
    masks = play(Groups(p=0.5), range(1000), 0, keys=keys)[0]
    assert torch.equal(masks[:, 0], masks[:, 3]) and torch.equal(masks[:, 1], masks[:, 5])
    assert not torch.equal(masks[:, 0], masks[:, 1]) and not torch.equal(masks[:, 4], masks[:, 3])
    law = Groups((["rgb", "force"],), {"force": 0.7, "depth": 0.2})
    assert torch.allclose(hidden_share(law), torch.tensor([0.2, 0.7, 0.0, 0.7]).double(), atol=0.015)


def test_rates_are_met_at_every_granularity():
    for every in EVERY:
        share = hidden_share(Dropout(Rates({"rgb": 0.1, "force": 0.02}), every, outage_steps=4), 2000, 30)
        assert torch.allclose(share, torch.tensor([0.0, 0.02, 0.0, 0.1]).double(), atol=0.02), every


def test_markov_rates_and_lengths():
    plan = Dropout(Markov({"rgb": 0.05, "force": 0.02}, {"rgb": 0.2, "force": 0.1}))
    masks = play(plan, range(1000), 200)
    expected = torch.tensor([0.0, 0.02 / 0.12, 0.0, 0.05 / 0.25]).double()
    for part in (masks[0], masks[-1], masks):  # at home in the long run from the first step on
        share = 1.0 - part.double().flatten(0, -2).mean(dim=0)
        assert torch.allclose(share, expected, atol=0.04 if part.dim() == 2 else 0.015)
    dark = masks[:, :, 3] == 0
    assert abs(float(dark.sum() / (dark[1:] & ~dark[:-1]).sum()) / 1.04 - 1 / 0.2) < 0.4  # 4 % begin in the dark
    pairs = play(Markov(0.1, 0.1, (("rgb", "depth"),)), range(50), 50)
    assert torch.equal(pairs[..., 0], pairs[..., 3]) and not torch.equal(pairs[..., 0], pairs[..., 1])


def test_a_markov_outage_of_everything_keeps_one_sensor_until_it_is_over():
    masks = play(Markov(0.9, 0.02), range(100), 100)
    assert masks.any(dim=2).all()
    moves = (masks[1:] != masks[:-1]).any(dim=2).double().mean()
    assert moves < 0.15  # a new choice at every step would move three in four times


@dataclass(frozen=True)
class LoseOne(Law):
    """The example of the module's documentation."""

    def bind(self, keys):
        def draw(numbers, strength):
            lost = (numbers[:, :1] * len(keys)).long() == torch.arange(len(keys))
            return lost & (numbers[:, -1:] < strength)

        return Bound(singles(keys), (1 / len(keys),) * len(keys), draw)


def test_a_law_of_ones_own():
    assert (play(LoseOne(), range(500), 0)[0].sum(dim=1) == 3).all()
    assert torch.allclose(
        hidden_share(Dropout(LoseOne(), schedule=Constant(0.4))), torch.tensor(0.1).double(), atol=0.01
    )


# --- when masks are drawn


@pytest.mark.parametrize("plan", PLANS, ids=name)
def test_something_is_always_left_and_something_is_hidden(plan):
    masks = play(plan, range(200), 20)
    assert masks.any(dim=2).all() and not masks.all() and masks.dtype == torch.int8


@settings(max_examples=40, deadline=None)
@given(
    plan=st.sampled_from(PLANS),
    seed=st.integers(0, 2**63 - 1),
    episode=st.integers(0, 2**40),
    before=st.integers(0, 70),
    num=st.integers(1, 5),
    data=st.data(),
)
def test_masks_depend_on_seed_episode_and_step_alone(plan, seed, episode, before, num, data):
    """Whoever else there is, and whatever was played before in the same place."""
    expected = play(plan, [episode], 40, seed)[:, 0]
    row = data.draw(st.integers(0, num - 1))
    masker = Masker(plan, KEYS, num, seed)
    masker.start(torch.arange(num), torch.arange(num) + 7)
    for _ in range(before):
        masker.step()
    masker.start(torch.tensor([row]), torch.tensor([episode]))
    for mask in expected:
        assert torch.equal(masker.available[row], mask)
        masker.step()
        if num > 1 and data.draw(st.booleans()):
            masker.start(torch.tensor([(row + 1) % num]), torch.tensor([3]))


def test_seeds_and_episodes_differ():
    for plan in (Dropout(), Dropout(Markov(0.2, 0.2))):
        a, b, c = play(plan, range(50), 5), play(plan, range(50), 5, seed=1), play(plan, range(50, 100), 5)
        assert not torch.equal(a, b) and not torch.equal(a, c)


def test_granularity():
    keys = tuple(f"s{k:02}" for k in range(12))
    moves = {}
    for every in EVERY:
        masks = play(Dropout(Subsets(), every, outage_steps=5), range(150), 100, keys=keys)
        moves[every] = float((masks[1:] != masks[:-1]).any(dim=2).double().mean())
    assert moves["episode"] == 0 and moves["step"] > 0.99
    assert abs(moves["outage"] - 1 / 5) < 0.015
    assert torch.equal(
        play(Dropout(Subsets(), "outage", outage_steps=1), range(9), 9), play(Dropout(Subsets(), "step"), range(9), 9)
    )


@pytest.mark.parametrize("law", [Independent(0.5), Markov(0.5, 0.5)])
def test_full_episodes(law):
    for every in EVERY if isinstance(law, Independent) else ("step",):
        masks = play(Dropout(law, every, full=0.4, outage_steps=2), range(800), 12)
        full = masks.all(dim=2).all(dim=0).double().mean()
        alone = play(Dropout(law, every, outage_steps=2), range(800), 12).all(dim=2).all(dim=0).double().mean()
        assert abs(full - (0.4 + 0.6 * alone)) < 0.06
    assert play(Dropout(law, full=1.0), range(100), 5).all()


# --- schedules


@pytest.mark.parametrize("ramp", [Linear, Cosine])
def test_ramps(ramp):
    schedule = ramp(0.2, 0.8, warmup=0.25, until=0.75)
    values = [schedule.strength(k / 100) for k in range(101)]
    assert values[0] == values[25] == 0.2 and values[75] == values[100] == 0.8
    assert abs(values[50] - 0.5) < 1e-12 and values == sorted(values)
    assert ramp(1.0, 0.5).strength(0.0) == 1.0 and ramp(1.0, 0.5).strength(1.0) == 0.5
    assert (values[30] < 0.25) == (ramp is Cosine)


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (Independent(0.4), 0.4 / 2),
        (Subsets(), (7 / 15) / 2),
        (Groups(p=0.4), 0.4 / 2),
        (Rates({"rgb": 0.4}), torch.tensor([0, 0, 0, 0.2])),
        (Markov(0.1, 0.3), 0.05 / 0.35),
    ],
)
def test_strength(law, expected):
    share = hidden_share(Dropout(law, schedule=Constant(0.5)), 3000, 10 if law.stepwise else 0)
    assert torch.allclose(share, torch.as_tensor(expected).double(), atol=0.03)
    assert play(Dropout(law, schedule=Constant(0.0)), range(100), 10).all()


def test_progress_takes_effect_at_the_next_draw():
    for every, steps in (("episode", None), ("step", 1)):
        masker = Masker(Dropout(Independent(0.9), every, Linear()), KEYS, 50)
        masker.start(torch.arange(50), torch.arange(50))
        masker.progress = 1.0
        assert masker.available.all()
        masker.step()
        assert bool(masker.available.all()) == (steps is None)
        masker.start(torch.arange(50), torch.arange(50) + 50)
        assert not masker.available.all()
    for wrong in (-0.1, 1.1, float("nan"), "half", None):
        with pytest.raises(ValueError, match="progress"):
            masker.progress = wrong
    with pytest.raises(ValueError, match="ramp"):
        Linear(warmup=0.5, until=0.5)


def test_a_schedule_that_nobody_tells_complains_once():
    masker = Masker(Dropout(schedule=Linear()), KEYS, 600)
    rows = torch.arange(600)
    masker.start(rows, rows)
    with pytest.warns(UserWarning, match="DropoutProgress"):
        masker.start(rows, rows)
    masker.start(rows, rows)


# --- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Independent(1.0), "every sensor"),
        (lambda: Groups(p=1), "every sensor"),
        (lambda: Independent(1.5), r"\[0, 1\]"),
        (lambda: Independent({"rgb": -0.1}), r"p\['rgb'\]"),
        (lambda: Independent(float("nan")), r"\[0, 1\]"),
        (lambda: Independent(True), r"\[0, 1\]"),
        (lambda: Rates(0.1), "mapping"),
        (lambda: Markov(0.1, 2), "Markov.recover"),
        (lambda: Groups(((),)), "empty"),
        (lambda: Groups(("rgb", "depth")), "groups of sensors"),
        (lambda: Groups((("rgb", "rgb"),)), "more than once"),
        (lambda: Dropout(Markov(), "episode"), "process in time"),
        (lambda: Dropout(Markov(), "outage"), "process in time"),
        (lambda: Dropout(every="week"), "episode, outage, step"),
        (lambda: Dropout(0.3), "Independent"),
        (lambda: Dropout(schedule=0.5), "schedule"),
        (lambda: Dropout(full=2), "full"),
        (lambda: Dropout(outage_steps=0), "outage_steps"),
        (lambda: Constant(3), "Constant.value"),
        (lambda: as_dropout("0.3"), "probability"),
        (lambda: as_dropout(True), "probability"),
        (lambda: as_dropout(1.0), "every sensor"),
        (lambda: Masker(Independent({"rbg": 0.1}), KEYS, 1), "'rbg' in Independent.p; sensors: depth, force, proprio"),
        (lambda: Masker(Rates({"lidar": 0.1}), KEYS, 1), "'lidar'"),
        (lambda: Masker(Groups((("rgb", "tactile"),)), KEYS, 1), "'tactile'"),
        (lambda: Masker(Markov(0.1, groups=(("x",),)), KEYS, 1), "'x'"),
        (lambda: Masker(Groups((("rgb", "depth"),), {"rgb": 0.1, "depth": 0.2}), KEYS, 1), "together"),
        (lambda: Masker(Independent(dict.fromkeys(KEYS, 1.0)), KEYS, 1), "below 1"),
        (lambda: Masker(Groups((KEYS,)), KEYS, 1), "masked together"),
        (lambda: Masker(0.1, ("rgb",), 1), "only sensor"),
        (lambda: Masker(Markov({"rgb": 0.1}, {"force": 0.1}), KEYS, 1), "rgb can fail but never recover"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- hiding


def test_hide_leaves_everything_else_untouched():
    observation = {
        "depth": torch.randint(0, 60000, (6, 4, 4, 1)).to(torch.uint16),
        "force": torch.randn(6, 3, 8),
        "proprio": torch.full((6, 5), torch.nan),
        "rgb": torch.randint(0, 255, (6, 4, 4, 3), dtype=torch.uint8),
        "privileged": torch.randn(6, 7),
    }
    before = {key: value.clone() for key, value in observation.items()}
    available = torch.ones(6, 4, dtype=torch.int8)
    available[1, 0] = available[4, 1] = available[[0, 5], 2] = 0
    out = mask_sensors(observation, available, KEYS)
    assert torch.equal(out["available"], available) and out["available"] is not available
    for key in ("rgb", "privileged"):
        assert out[key] is observation[key]
    for column, key in enumerate(KEYS):
        shown = available[:, column].bool()
        as_bytes = {"a": out[key], "b": before[key], "c": observation[key]}
        a, b, c = (value.contiguous().view(torch.uint8).flatten(1) for value in as_bytes.values())
        assert torch.equal(b, c) and torch.equal(a[shown], b[shown]) and not a[~shown].any()
        arrays = mask_arrays({k: v.numpy() for k, v in observation.items()}, available.numpy(), KEYS)
        assert arrays[key].tobytes() == out[key].numpy().tobytes()


def test_hide_respects_what_was_missing_already():
    own, mask = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[0, 1], [1, 1]], dtype=torch.int8)
    observation = {"a": torch.ones(2, 3), "b": torch.ones(2, 3), "available": own}
    out = mask_sensors(observation, mask, ("a", "b"))
    assert out["available"].tolist() == [[0, 0], [1, 1]] and out["available"].dtype == torch.int8
    assert out["b"].all()  # not dropout's to fill
    with pytest.raises(ValueError, match=r"\(N, 1\)"):
        mask_sensors(observation, mask, ("a",))
    with pytest.raises(ValueError, match="own available|observation's available"):
        mask_sensors(observation | {"available": own[:, :1]}, mask, ("a", "b"))


# --- worlds

WORLD_PLANS = [Dropout(Independent(0.5), every, outage_steps=3) for every in EVERY] + [Dropout(Markov(0.3, 0.3))]


class Short(Reach):
    """Episodes of eight steps."""

    horizon = 0.4


OPTIONS = {"robot": "gripper", "sensors": BLIND, "image_size": 16, "privileged": True, "seed": 4}


def masks_of(plan, episode, steps=8, keys=("force", "proprio")):
    return play(plan, [episode], steps, seed=4, keys=keys)[:, 0]


@pytest.mark.parametrize("plan", WORLD_PLANS, ids=name)
def test_worlds_hide_sensors_and_nothing_else_changes(plan):
    seeing = {"sensors": (*BLIND, "depth", "rgb")} if plan.every == "step" else {}  # pictures take longer
    plain = World(Short(), 3, **OPTIONS | seeing)
    world = World(Short(), 3, dropout=plan, **OPTIONS | seeing)
    keys = tuple(sensor.key for sensor in world.sensors)
    a, b, hidden = plain.reset(), world.reset(), 0
    actions = torch.Generator().manual_seed(0)
    for _ in range(18):
        for row in range(3):
            mask = masks_of(plan, int(world.episode[row]), keys=keys)[int(world.elapsed[row])]
            assert torch.equal(b["available"][row], mask)
        expected = mask_sensors(a, b["available"], keys)
        assert same(b, expected)
        hidden += int((b["available"] == 0).sum())
        action = torch.rand(3, 5, generator=actions) * 2 - 1
        episode = world.episode.clone()
        x, y = plain.step(action), world.step(action)
        assert torch.equal(x.reward, y.reward) and torch.equal(x.ended, y.ended)
        if len(y.ended):
            for row, index in enumerate(y.ended.tolist()):
                mask = masks_of(plan, int(episode[index]), keys=keys)[8]
                assert torch.equal(y.final_observation["available"][row], mask)
            assert same(y.final_observation, mask_sensors(x.final_observation, y.final_observation["available"], keys))
        a, b = x.observation, y.observation
    assert hidden
    plain.close()
    world.close()


@pytest.mark.parametrize("plan", WORLD_PLANS, ids=name)
def test_gymnasium_and_sb3_see_the_masks_of_the_world(plan):
    single = gym.make("robofuse/Reach-v0", **{**OPTIONS, "task": Short(), "dropout": plan})
    vector = gym.make_vec("robofuse/Reach-v0", 2, **{**OPTIONS, "task": Short(), "dropout": plan})
    sb3 = SB3VecEnv(Short(), 2, dropout=plan, **OPTIONS)
    a, b, c = single.reset()[0], vector.reset()[0], sb3.reset()
    for step in range(1, 9):
        action = np.zeros((2, 5), np.float32)
        a, _, _, over, _ = single.step(action[0])
        b, _, _, _, info = vector.step(action)
        c, _, _, infos = sb3.step(action)
        if step < 8:
            for observation in (a, b["available"][0], c["available"][0]):
                mask = observation["available"] if isinstance(observation, dict) else observation
                assert np.array_equal(mask, masks_of(plan, 0)[step])
    assert over and np.array_equal(a["available"], masks_of(plan, 0)[8])
    for row in range(2):
        assert np.array_equal(info["final_obs"][row]["available"], masks_of(plan, row)[8])
        assert np.array_equal(infos[row]["terminal_observation"]["available"], masks_of(plan, row)[8])
        assert np.array_equal(b["available"][row], masks_of(plan, row + 2)[0])
        assert np.array_equal(c["available"][row], masks_of(plan, row + 2)[0])
    for env in (single, vector, sb3):
        env.close()


def test_restart_plays_the_masks_of_the_episode():
    plan = WORLD_PLANS[2]
    world = World(Short(), 2, dropout=plan, **OPTIONS)
    world.reset()
    world.step(rest(world))
    assert torch.equal(world.restart([1], [9])["available"][0], masks_of(plan, 9)[0])
    observation = world.step(rest(world)).observation["available"]
    assert torch.equal(observation, torch.stack([masks_of(plan, 0)[2], masks_of(plan, 9)[1]]))
    world.close()


def test_progress_reaches_worlds():
    options = {**OPTIONS, "dropout": Dropout(schedule=Linear())}
    single, vector = gym.make("robofuse/Reach-v0", **options), gym.make_vec("robofuse/Reach-v0", 2, **options)
    sb3 = SB3VecEnv("Reach", 2, **options)
    single.get_wrapper_attr("set_progress")(0.25)
    vector.unwrapped.set_progress(0.25)
    sb3.set_attr("dropout_progress", 0.25)
    for env in (single.unwrapped, vector.unwrapped, sb3):
        assert env.world.dropout_progress == 0.25
    assert sb3.get_attr("dropout_progress") == [0.25, 0.25]
    assert tell_progress(VecExtractDictObs(sb3, "force"), 0.5) and sb3.world.dropout_progress == 0.5
    with pytest.raises(NotImplementedError, match="dropout_progress"):
        sb3.set_attr("task", None)
    for env in (single, vector, sb3):
        env.close()


def test_gymnasiums_checker_with_dropout():
    env = gym.make("robofuse/Reach-v0", **{**OPTIONS, "dropout": 0.5})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space (min|max)imum value is.*infinity.*")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


@pytest.mark.parametrize(("dropout", "message"), [("a", "probability"), ({"rgb": 1}, "probability"), (1.0, "every")])
def test_worlds_refuse(dropout, message):
    with pytest.raises(ValueError, match=message):
        World("Reach", robot="gripper", sensors=BLIND, dropout=dropout)


# --- anybody's environments


class Toy(gym.Env):
    """Two vectors, a flag and a picture; an episode lasts as many steps as it is told."""

    def __init__(self, length=5, image=0, extra=None):
        spaces = {
            "left": gym.spaces.Box(-1, 1, (3,), np.float32),
            "right": gym.spaces.Box(-9, 9, (2,), np.float64),
            "switch": gym.spaces.Discrete(3),
        }
        if image:
            spaces["eye"] = gym.spaces.Box(0, 255, (image, image, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(spaces | (extra or {}))
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.length, self.elapsed = length, 0

    def _observe(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        observation = self.observation_space.sample()
        return observation | {"left": np.float32([0.1, 0.2, 0.3])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(), {}

    def step(self, action):
        self.elapsed += 1
        return self._observe(), float(action.sum()), False, self.elapsed >= self.length, {}


TOY_PLANS = [
    Dropout(law, every, outage_steps=2)
    for law in (
        Independent(0.5),
        Subsets(),
        Groups((("left", "switch"),), 0.5),
        Rates({"left": 0.5, "right": 0.2}),
    )
    for every in EVERY
]
TOY_PLANS += [Dropout(Markov(0.3, 0.3)), Dropout(every="step", schedule=Linear(0.5), full=0.2)]


@pytest.mark.parametrize("plan", [TOY_PLANS[1], TOY_PLANS[-2]], ids=name)
def test_checkers_accept_wrapped_environments(plan):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(SensorDropout(Toy(image=36), plan), skip_render_check=True)
        sb3_check_env(SensorDropout(Toy(image=36), plan))
        check_env(SensorDropout(Toy(), plan, fill="keep"), skip_render_check=True)


@pytest.mark.parametrize("plan", TOY_PLANS, ids=name)
def test_both_wrappers_hide_alike_and_end_with_the_mask_of_the_episode(plan):
    keys = ("left", "right", "switch")
    wrapped = VecSensorDropout(DummyVecEnv([Toy, lambda: Toy(7)]), plan, seed=3)
    single = SensorDropout(Toy(), plan, seed=3)
    observation, one = wrapped.reset(), single.reset()[0]
    assert wrapped.observation_space.contains({key: value[0] for key, value in observation.items()})
    episode, elapsed = [0, 1], [0, 0]
    for step in range(23):
        for row in range(2):
            mask = play(plan, [episode[row]], elapsed[row], 3, keys)[-1, 0].numpy()
            assert np.array_equal(observation["available"][row], mask)
            assert bool(observation["left"][row].any()) == bool(mask[0])
        if step < 6:
            assert np.array_equal(one["available"], play(plan, [0], min(step, 5), 3, keys)[-1, 0])
            assert single.observation_space.contains(one)
        observation, _, dones, infos = wrapped.step(np.zeros((2, 2)))
        if step < 5:
            one = single.step(np.zeros(2))[0]
        for row in range(2):
            elapsed[row] += 1
            if dones[row]:
                last = infos[row]["terminal_observation"]
                mask = play(plan, [episode[row]], elapsed[row], 3, keys)[-1, 0].numpy()
                assert np.array_equal(last["available"], mask) and bool(last["left"].any()) == bool(mask[0])
                episode[row], elapsed[row] = episode[row] + 2, 0
    assert single.reset()[0]["available"].tolist() == play(plan, [1], 0, 3, keys)[0, 0].tolist()


def test_seeding_wrappers():
    first = [SensorDropout(Toy(), 0.5).reset()[0]["available"].tolist() for _ in range(30)]
    assert any(mask != first[0] for mask in first)  # unseeded ones differ
    env = SensorDropout(Toy(), Dropout(every="step"))
    runs = []
    for _ in range(2):
        masks = [env.reset(seed=5)[0]["available"]] + [env.reset()[0]["available"] for _ in range(20)]
        runs.append(np.stack(masks))
    assert np.array_equal(*runs) and (runs[0] != runs[0][0]).any()
    venv = VecSensorDropout(DummyVecEnv([Toy] * 8), 0.5)
    masks = []
    for seed in (1, None, 1, 2):
        venv.seed(seed) if seed is not None else None
        masks.append(venv.reset()["available"])
    assert np.array_equal(masks[0], masks[2])
    assert not np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[3])


def test_sensors_and_fill():
    plan = Dropout(Subsets(), "step")
    extra = {"desired_goal": gym.spaces.Box(-1, 1, (2,)), "privileged": gym.spaces.Box(-1, 1, (2,))}
    venv = VecSensorDropout(DummyVecEnv([lambda: Toy(extra=extra)] * 9), plan)
    assert venv.observation_space["available"] == gym.spaces.MultiBinary(4)  # desired_goal, left, right, switch
    masks = np.stack([venv.reset()["available"] for _ in range(5)])
    assert masks[..., 0].all() and not masks[..., 1].all()
    some = VecSensorDropout(DummyVecEnv([Toy] * 9), plan, sensors=["left", "switch"], fill="keep")
    observation = some.reset()
    assert observation["available"][:, 1].all() and not observation["available"].all() and observation["left"].all()
    assert not hasattr(some.venv.reset(), "available")


def test_an_own_available_is_respected():
    class Broken(Toy):
        def __init__(self):
            super().__init__(extra={"available": gym.spaces.MultiBinary(3)})

        def _observe(self):
            return super()._observe() | {"available": np.array([1, 1, 0], np.int8)}

    env = SensorDropout(Broken(), Dropout(Independent({"right": 0.5}), "step"), seed=0)
    venv = VecSensorDropout(DummyVecEnv([Broken]), Dropout(Independent({"right": 0.5}), "step"))
    venv.reset()
    seen = {tuple(env.reset()[0]["available"]) for _ in range(20)}
    assert seen == {(1, 1, 0), (1, 0, 0)}
    assert {tuple(venv.step(np.zeros((1, 2)))[0]["available"][0]) for _ in range(20)} == seen


def test_wrappers_refuse():
    class Flat(Toy):
        def __init__(self, space):
            super().__init__()
            self.observation_space = space

    box, nested = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Dict(a=gym.spaces.Dict(b=gym.spaces.Discrete(2)))
    far = gym.spaces.Dict(a=gym.spaces.Box(1, 2, (2,)), b=gym.spaces.Discrete(2))
    wrong = gym.spaces.Dict(a=box, b=box, available=gym.spaces.MultiBinary(3))
    for space, message in (
        (box, "TransformObservation"),
        (nested, "'a' is a Dict"),
        (far, "fill='keep'"),
        (wrong, "MultiBinary\\(2\\)"),
    ):
        for wrap in (SensorDropout, lambda env, p: VecSensorDropout(DummyVecEnv([lambda: env]), p)):
            if space is nested and wrap is not SensorDropout:
                continue  # SB3 itself refuses it
            with pytest.raises(ValueError, match=message):
                wrap(Flat(space), 0.3)
    SensorDropout(Flat(far), 0.3, fill="keep")
    for options, message in (
        ({"sensors": ["lefft"]}, "'lefft' in sensors; sensors: left, right, switch"),
        ({"sensors": "left"}, "only sensor"),
        ({"sensors": []}, "no sensor"),
        ({"fill": "nan"}, "zeros, keep"),
        ({"dropout": None}, "missing"),
        ({"dropout": Independent({"x": 0.1})}, "'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            SensorDropout(Toy(), **{"dropout": 0.3, **options})
        with pytest.raises(ValueError, match=message):
            VecSensorDropout(DummyVecEnv([Toy]), **{"dropout": 0.3, **options})


# --- training


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small wait longer for each other's threads than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("plan", TOY_PLANS, ids=name)
def test_ppo_updates_with_the_masks_it_acted_with(plan):
    """METHODS, section 6: the ratio of the first minibatch is 1, for plain SB3 with its own policy."""
    venv = VecSensorDropout(DummyVecEnv([Toy] * 4), plan)
    model = PPO("MultiInputPolicy", venv, n_steps=16, batch_size=64, policy_kwargs={"net_arch": [8]}, device="cpu")
    _, callback = model._setup_learn(64, DropoutProgress())
    callback.on_training_start({}, {})
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 16)
    batch = next(model.rollout_buffer.get(64))
    assert not batch.observations["available"].all()
    model.policy.set_training_mode(True)

    def ratio(observations):
        _, log_prob, _ = model.policy.evaluate_actions(observations, batch.actions)
        return (log_prob - batch.old_log_prob).exp()

    assert (ratio(batch.observations) - 1.0).abs().max() < 1e-5
    other = {**batch.observations, "available": batch.observations["available"].flip(0)}
    assert (ratio(other) - 1.0).abs().max() > 1e-4  # the check would notice


class Watch(BaseCallback):
    """Remembers what was told."""

    def __init__(self, masker):
        super().__init__()
        self.masker, self.seen = masker, []

    def _on_step(self):
        self.seen.append(self.masker.progress)
        return True


def test_progress_reaches_every_wrapper():
    inner = [SensorDropout(gym.wrappers.TimeLimit(Toy(), 9), Dropout(schedule=Linear())) for _ in range(2)]
    outer = VecSensorDropout(
        VecMonitor(DummyVecEnv([lambda env=env: env for env in inner])), Dropout(schedule=Cosine())
    )
    watch = Watch(outer._masker)
    model = PPO("MultiInputPolicy", outer, n_steps=10, batch_size=20, n_epochs=1, device="cpu")
    model.learn(80, [DropoutProgress(), watch])
    assert sorted(set(watch.seen)) == [0.0, 0.25, 0.5, 0.75]
    assert all(env._masker.progress == 0.75 for env in inner)
    model.learn(80, [DropoutProgress(total=100), watch], reset_num_timesteps=False)
    assert outer._masker.progress == 1.0
    with pytest.raises(ValueError, match="VecSensorDropout"):
        PPO("MultiInputPolicy", DummyVecEnv([Toy]), n_steps=8, batch_size=8).learn(8, DropoutProgress())
    assert not tell_progress(DummyVecEnv([Toy]), 0.5)


def test_off_policy_and_normalised_environments():
    class Discrete(Toy):
        def __init__(self):
            super().__init__()
            self.action_space = gym.spaces.Discrete(2)

    venv = VecSensorDropout(DummyVecEnv([Discrete]), Dropout(Subsets(), "outage", Linear()))
    normalised = VecNormalize(venv, norm_obs_keys=["left", "right"])
    DQN("MultiInputPolicy", normalised, learning_starts=10, buffer_size=100, device="cpu").learn(40, DropoutProgress())
    assert venv._masker.progress > 0.8
    venv = VecSensorDropout(VecNormalize(DummyVecEnv([Toy]), norm_obs_keys=["left", "right"]), 0.5)
    PPO("MultiInputPolicy", venv, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(16)


def test_laws_do_not_bring_stable_baselines3():
    code = "import sys; from robofuse.dropout import Masker, Markov; print('stable_baselines3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
