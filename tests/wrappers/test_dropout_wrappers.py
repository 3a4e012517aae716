"""Dropout around other people's environments, and what training sees of it."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from masks import EVERY, law_and_pace, masks_of
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from robofuse.dropout import Cosine, Dropout, Groups, Independent, Linear, Markov, Rates, Subsets
from robofuse.wrappers import (
    DropoutProgress,
    SensorDropout,
    SensorFaults,
    SensorStack,
    VecSensorDropout,
    VecSensorFaults,
    tell_progress,
)


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


@pytest.mark.parametrize("plan", [TOY_PLANS[1], TOY_PLANS[-2]], ids=law_and_pace)
def test_checkers_accept_wrapped_environments(plan):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(SensorDropout(Toy(image=36), plan), skip_render_check=True)
        sb3_check_env(SensorDropout(Toy(image=36), plan))
        check_env(SensorDropout(Toy(), plan, fill="keep"), skip_render_check=True)


@pytest.mark.parametrize("plan", TOY_PLANS, ids=law_and_pace)
def test_both_wrappers_hide_alike_and_end_with_the_mask_of_the_episode(plan):
    keys = ("left", "right", "switch")
    wrapped = VecSensorDropout(DummyVecEnv([Toy, lambda: Toy(7)]), plan, seed=3)
    single = SensorDropout(Toy(), plan, seed=3)
    observation, one = wrapped.reset(), single.reset()[0]
    assert wrapped.observation_space.contains({key: value[0] for key, value in observation.items()})
    episode, elapsed = [0, 1], [0, 0]
    for step in range(23):
        for row in range(2):
            mask = masks_of(plan, [episode[row]], elapsed[row], 3, keys)[-1, 0].numpy()
            assert np.array_equal(observation["available"][row], mask)
            assert bool(observation["left"][row].any()) == bool(mask[0])
        if step < 6:
            assert np.array_equal(one["available"], masks_of(plan, [0], min(step, 5), 3, keys)[-1, 0])
            assert single.observation_space.contains(one)
        observation, _, dones, infos = wrapped.step(np.zeros((2, 2)))
        if step < 5:
            one = single.step(np.zeros(2))[0]
        for row in range(2):
            elapsed[row] += 1
            if dones[row]:
                last = infos[row]["terminal_observation"]
                mask = masks_of(plan, [episode[row]], elapsed[row], 3, keys)[-1, 0].numpy()
                assert np.array_equal(last["available"], mask) and bool(last["left"].any()) == bool(mask[0])
                episode[row], elapsed[row] = episode[row] + 2, 0
    assert single.reset()[0]["available"].tolist() == masks_of(plan, [1], 0, 3, keys)[0, 0].tolist()


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


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ([1, 0.5, 1], "0 and 1 alone.*got 0.5 to 1"),
        ([1, 1, 2], "alone"),
        ([1, 1], r"shape \(2,\).*3 sensors"),
    ],
)
def test_an_own_available_that_is_none_is_refused(own, message):
    class Odd(Toy):
        def __init__(self):
            super().__init__(extra={"available": gym.spaces.MultiBinary(3)})

        def _observe(self):
            return super()._observe() | {"available": np.array(own)}

    for wrap in (lambda env: SensorDropout(env, 0.3), lambda env: SensorFaults(env, "left:offset"), SensorStack):
        with pytest.raises(ValueError, match=message):
            wrap(Odd() if wrap is not SensorStack else Numbers(Odd())).reset()


class Numbers(gym.ObservationWrapper):
    """Without the Discrete, which cannot be stacked."""

    def __init__(self, env):
        super().__init__(env)
        box = gym.spaces.Box(0, 3, (1,), np.float32)
        self.observation_space = gym.spaces.Dict({**env.observation_space.spaces, "switch": box})

    def observation(self, observation):
        return observation | {"switch": np.float32([observation["switch"]])}


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


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small wait longer for each other's threads than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("plan", TOY_PLANS, ids=law_and_pace)
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
    assert not tell_progress(VecSensorFaults(DummyVecEnv([Toy]), "left:offset"), 0.5)  # it has no schedule
    assert tell_progress(VecSensorFaults(outer, "left:offset"), 0.5) and outer._masker.progress == 0.5


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
