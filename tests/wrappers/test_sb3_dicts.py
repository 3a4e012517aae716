"""Dict observations in Stable-Baselines3: pictures either way round, numbers of every sort, vector environments."""

import sys
import types

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.envs import BitFlippingEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from robofuse.dropout import Dropout, Independent
from robofuse.policies import FusionExtractor
from robofuse.wrappers import SensorDropout, SensorFaults, VecSensorDropout, VecSensorFaults

NUMBERS = {"vector": Box(-3, 3, (4,)), "window": Box(-3, 3, (2, 3))}
SORTS = {**NUMBERS, "flags": MultiBinary(2), "gear": Discrete(3)}


class Room(gym.Env):
    """Colour, depth and numbers of every sort; an action is as good as the vector's first number is near to it."""

    def __init__(self, last=True, discrete=False, parts=SORTS, **options):
        size = (lambda c: (24, 28, c)) if last else (lambda c: (c, 24, 28))
        pictures = {"camera": Box(0, 255, size(3), np.uint8), "depth": Box(0, 65535, size(1), np.uint16)}
        self.observation_space = Dict({**pictures, **parts})
        self.action_space = Discrete(2) if discrete else Box(-1, 1, (1,))
        self.render_mode, self.metadata = options.get("render_mode"), {"render_modes": ["rgb_array"], "render_fps": 20}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left, self.now = 5, self.observation_space.sample()
        return self.now, {}

    def step(self, action):
        reward = -abs(float(self.now["vector"][0]) - float(np.reshape(action, -1)[0]))
        self.left, self.now = self.left - 1, self.observation_space.sample()
        return self.now, reward, False, self.left == 0, {}

    def render(self):
        return np.full((32, 32, 3), 30 * self.left, np.uint8)


def kwargs(**options):
    return {
        "features_extractor_class": FusionExtractor,
        "features_extractor_kwargs": {"token_dim": 8} | options,
        "net_arch": [8],
    }


BRIEF = {
    PPO: {"n_steps": 8, "batch_size": 8, "n_epochs": 1},
    A2C: {"n_steps": 8},
    **dict.fromkeys((DQN, SAC, TD3, DDPG), {"learning_starts": 8, "buffer_size": 60, "batch_size": 8, "train_freq": 4}),
}


def agent(kind, env, **options):
    return kind("MultiInputPolicy", env, seed=0, device="cpu", policy_kwargs=kwargs(**options), **BRIEF[kind])


QUICK = [(PPO, True), (SAC, False), (DQN, True)]
SLOW = [(kind, last) for kind in BRIEF for last in (True, False) if (kind, last) not in QUICK]


@pytest.mark.parametrize(("kind", "last"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)])
def test_every_algorithm_takes_every_sort(kind, last, tmp_path):
    env = VecSensorDropout(DummyVecEnv([lambda: Room(last, kind is DQN)] * 2), 0.3, seed=0)
    model = agent(kind, env, **({} if kind in (PPO, A2C) else {"dropout": 0.3})).learn(32)
    model.save(tmp_path / "agent")
    again = kind.load(tmp_path / "agent", env, device="cpu")
    seen = model.get_env().reset()
    assert np.array_equal(model.predict(seen, deterministic=True)[0], again.predict(seen, deterministic=True)[0])
    one = {key: x[0] for key, x in seen.items()}
    alone = model.predict(one, deterministic=True)[0]
    np.testing.assert_allclose(alone, model.predict(seen, deterministic=True)[0][0], rtol=1e-4, atol=1e-5)
    again.learn(16)
    assert np.isfinite(evaluate_policy(again, env, 2, warn=False)[0])


def test_pictures_either_way_round_give_the_same_action():
    actions = []
    seen = Room().reset(seed=3)[0]
    for last in (True, False):
        env = SensorDropout(Room(last), 0.0)
        torch.manual_seed(0)
        model = agent(PPO, env)
        turned = {
            key: np.moveaxis(x, -1, 0).copy() if key in ("camera", "depth") and not last else x
            for key, x in seen.items()
        }
        actions.append(model.predict(turned | {"available": np.ones(6, np.int8)}, deterministic=True)[0])
        if last:  # SB3 turns the camera of vector environments, and takes either in `predict`
            chw = {**turned, "camera": np.moveaxis(turned["camera"], -1, 0).copy(), "available": np.ones(6, np.int8)}
            actions.append(model.predict(chw, deterministic=True)[0])
    np.testing.assert_allclose(actions[1], actions[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actions[2], actions[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "wrap", [lambda env: SensorDropout(env, 0.4), lambda env: SensorFaults(env, "vector:blackout@1")]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # about NatureCNN, and pictures that are not bytes
def test_sb3s_checker_accepts(wrap):
    check_env(wrap(Room()), skip_render_check=True)


@pytest.mark.parametrize("kind", [PPO, pytest.param(A2C, marks=pytest.mark.slow)])
def test_goals_without_hindsight(kind):
    """As in SB3's own tests: MultiBinary goals, for learners that know no HER."""
    env = BitFlippingEnv(n_bits=4)
    model = agent(kind, env).learn(16)
    assert [sensor.key for sensor in model.policy.features_extractor.sensors] == sorted(env.observation_space.spaces)
    assert np.isfinite(evaluate_policy(model, model.get_env(), 2, warn=False)[0])


STACKED = [(PPO, True), *(pytest.param(kind, last, marks=pytest.mark.slow) for kind in BRIEF for last in (True, False))]


@pytest.mark.parametrize(("kind", "last"), STACKED)
def test_frames_of_sb3s_own_environment_either_way_round(kind, last):
    """As in SB3's own tests: what VecFrameStack makes, its channels told by hand, and hidden afterwards."""
    discrete = kind not in (SAC, TD3, DDPG)
    env = DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=True, discrete_actions=discrete, channel_last=last)])
    env = VecFrameStack(env, 3, channels_order={"vec": None, "img": "last" if last else "first"})
    model = agent(kind, VecSensorDropout(env, 0.3, seed=0)).learn(32)
    assert [sensor.key for sensor in extractor_of(model).sensors] == ["img", "vec"]
    assert model.observation_space["img"].shape == (3, 64, 64)
    assert np.isfinite(evaluate_policy(model, model.get_env(), 1, warn=False)[0])


def extractor_of(model):
    return next(part for part in model.policy.modules() if isinstance(part, FusionExtractor))


def test_what_sb3_cannot_nest_is_told_with_its_key():
    """SB3 raises NotImplementedError without a key, or stumbles; what hides sensors says which key, and what to do."""
    nested = Room(parts={"inner": Dict(gear=Discrete(4)), **NUMBERS})
    with pytest.raises(NotImplementedError):
        agent(PPO, nested)
    with pytest.raises(ValueError, match="'inner' is a Dict"):
        SensorDropout(nested, 0.0)


def test_pictures_that_vecnormalize_has_normalised_are_told():
    env = VecNormalize(DummyVecEnv([lambda: Room(parts=NUMBERS)]), norm_obs_keys=["camera"])
    with pytest.raises(ValueError, match="kinds={'camera'"):
        agent(PPO, env, kinds={"depth": "depth"})


@pytest.mark.slow
def test_environments_in_processes_of_their_own():
    env = VecSensorDropout(SubprocVecEnv([Room, Room], start_method="spawn"), 0.3)
    agent(PPO, env).learn(32)
    env.close()


def made_of_vec_wrappers(kind):
    """All wrappers in the order that the README says."""
    stacked = VecFrameStack(VecMonitor(DummyVecEnv([lambda: Room(parts=NUMBERS, discrete=kind is DQN)] * 2)), 2)
    keys = {"norm_obs_keys": ["vector", "window"], "norm_reward": False}
    if kind is PPO:
        broken = VecSensorFaults(VecNormalize(stacked, **keys), "vector:offset(1)@0?", kinds={"depth": "depth"})
        return VecSensorDropout(broken, Dropout(Independent(0.5), every="step"), seed=0)
    hidden = VecSensorDropout(stacked, Dropout(Independent(0.5), every="step"), seed=0)
    # VecNormalize keeps what it was given for the replay buffer, so pictures must have been turned before
    return VecNormalize(VecTransposeImage(hidden), **keys)


@pytest.mark.parametrize("kind", [PPO, SAC, DQN])
def test_wrappers_of_vector_environments_in_order(kind):
    env = made_of_vec_wrappers(kind)
    model = agent(kind, env, kinds={"depth": "depth"}).learn(64)
    assert len(model.ep_info_buffer) > 2  # VecMonitor's
    space = model.observation_space
    assert space["camera"].shape == (6, 24, 28) and space["depth"].shape == (24, 28, 2)
    assert space["vector"].shape == (8,) and space["available"].shape == (4,)
    if kind is PPO:
        stored = model.rollout_buffer.observations
        hidden = stored["available"].reshape(-1, 4)[:, 2] == 0
        assert 0.2 < hidden.mean() < 0.7 and (stored["vector"].reshape(-1, 8)[hidden] == 0).all()
        assert env.venv.venv.obs_rms["vector"].mean.shape == (8,) and "available" not in env.venv.venv.obs_rms
        model.policy.set_training_mode(True)
        with torch.no_grad():
            batch = next(model.rollout_buffer.get(16))
        assert set(np.unique(batch.observations["available"])) <= {0.0, 1.0}
    else:
        sample = model.replay_buffer.sample(40, env)  # normalised as it comes out
        assert set(sample.observations["available"].unique().tolist()) <= {0.0, 1.0}
        assert model.replay_buffer.observations["camera"].dtype == np.uint8


def test_wrappers_of_one_environment_in_order(tmp_path, monkeypatch):
    films = stand_in_for_moviepy(monkeypatch)
    base = Room(parts={"state": Box(-3, 3, (5,))}, render_mode="rgb_array")
    base.observation_space = base.observation_space["state"]  # a Box, as most environments have
    monkeypatch.setattr(Room, "step", lambda self, action: still(self))
    monkeypatch.setattr(Room, "reset", lambda self, *, seed=None, options=None: (still(self, 4)[0], {}))
    env = gym.wrappers.RecordVideo(base, str(tmp_path / "films"), episode_trigger=lambda episode: True, gc_trigger=None)
    env = gym.wrappers.NormalizeObservation(env)
    space = Dict(left=Box(-np.inf, np.inf, (2,)), right=Box(-np.inf, np.inf, (3,)))
    env = gym.wrappers.TransformObservation(env, lambda x: {"left": x[:2], "right": x[2:]}, space)
    env = gym.wrappers.FrameStackObservation(env, 3)
    env = SensorDropout(SensorFaults(env, "left:bias(1)@1!"), Independent({"right": 0.9}), seed=0)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    assert env.observation_space["left"].shape == (3, 2) and env.observation_space["available"].shape == (2,)
    for _ in range(6):
        seen, _ = env.reset()
        for _ in range(4):
            assert env.observation_space.contains(seen)
            assert bool(seen["available"][1]) == bool(seen["right"].any())
            seen, _, _, ended, info = env.step(np.zeros(1))
        assert ended and info["episode"]["l"] == 4
    model = agent(PPO, env).learn(16)
    assert [sensor.kind for sensor in model.policy.features_extractor.sensors] == ["window", "window"]
    env.close()
    assert len(films) >= 6 and films[0] == 5


def still(room, left=None):
    room.left = room.left - 1 if left is None else left
    return np.arange(1.0, 6.0, dtype=np.float32) * (1 + room.left), -1.0, False, room.left == 0, {}


def stand_in_for_moviepy(monkeypatch):
    """moviepy 2.2 wants an older Pillow than matplotlib's; what RecordVideo gives it is all that matters here."""
    lengths = []

    class ImageSequenceClip:
        def __init__(self, frames, fps):
            lengths.append(len(frames))

        def write_videofile(self, path, logger=None):
            pass

    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        module = types.ModuleType(name)
        module.ImageSequenceClip = ImageSequenceClip
        monkeypatch.setitem(sys.modules, name, module)
    return lengths
