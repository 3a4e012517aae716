import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import Line

from robofuse.dropout import Dropout, Groups, Independent, Markov, Rates, Subsets
from robofuse.envs import SB3VecEnv
from robofuse.policies import FusionActorCriticPolicy, FusionExtractor, FusionPPO
from robofuse.wrappers import VecSensorDropout

TINY = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu"}


@pytest.mark.parametrize("policy", ["MultiInputPolicy", "FusionPolicy", FusionActorCriticPolicy])
def test_the_arguments_of_sb3_are_taken(policy):
    model = FusionPPO(policy, Line(), **TINY)
    assert type(model.policy) is FusionActorCriticPolicy
    model.learn(8)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", MultiInputActorCriticPolicy])
def test_other_policies_are_refused_with_the_way_to_have_them(policy):
    with pytest.raises(ValueError, match="FusionPolicy or MultiInputPolicy.*features_extractor_class"):
        FusionPPO(policy, Line(), **TINY)
    PPO("MultiInputPolicy", Line(), **TINY)


def test_observations_must_be_a_dict():
    with pytest.raises(ValueError, match="Dict"):
        FusionPPO("MultiInputPolicy", gym.make("CartPole-v1"), **TINY)


LAWS = {
    "independent": Independent(0.4),
    "per sensor": Independent({"proprio": 0.9, "force": 0.2}),
    "subsets": Subsets(),
    "groups": Groups((("force", "proprio"),), 0.4),
    "rates": Rates({"force": 0.5}),
    "markov": Markov(0.2, 0.3),
}
# each law and each duration once; the other pairs are slow tests
QUICK = [("independent", "step"), ("per sensor", "outage"), ("subsets", "episode"), ("groups", "step"),
         ("rates", "outage"), ("markov", "step")]  # fmt: skip


def make_env(law=None, every="episode", **options):
    options = {"sensors": ("proprio", "force"), "robot": "gripper", "privileged": True, "seed": 3} | options
    dropout = None if law is None else Dropout(law, every=every)
    return SB3VecEnv("Reach", 6, dropout=dropout, **options)


@pytest.mark.parametrize(
    ("law", "every"),
    [
        pytest.param(law, every, marks=[] if (law, every) in QUICK else pytest.mark.slow)
        for law in LAWS
        for every in ("episode", "outage", "step")
        if law != "markov" or every == "step"
    ],
)
def test_first_ratio_is_one(law, every):
    env = make_env(LAWS[law], every, sensors=("truth", "proprio", "force"))
    model = FusionPPO(env=env, n_steps=16, batch_size=48, n_epochs=2, seed=0, device="cpu", learning_rate=3e-3)
    model.learn(3 * 6 * 16)
    assert model.rollout_buffer.stored["available"].float().mean() < 1.0
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    plain = PPO(
        "MultiInputPolicy", env, n_steps=16, batch_size=48, n_epochs=1, seed=0, device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor},
    )  # fmt: skip
    plain.learn(6 * 16)
    plain.collect_rollouts(env, plain._init_callback(None), plain.rollout_buffer, 16)
    plain.policy.set_training_mode(True)
    batch = next(plain.rollout_buffer.get(48))
    with torch.no_grad():
        _, log_prob, _ = plain.policy.evaluate_actions(batch.observations, batch.actions)
    assert (log_prob - batch.old_log_prob).abs().max() < 1e-5
    env.close()


@pytest.mark.parametrize("mixed", [False, True])
def test_first_ratio_is_one_with_images(mixed):
    env = make_env(Independent(0.5), "step", sensors=("rgb", "depth", "proprio"), image_size=24)
    options = {"sensors": env.world.sensors, "mixed_precision": mixed}
    model = FusionPPO(env=env, n_steps=8, batch_size=48, n_epochs=1, seed=0, device="cpu",
                      policy_kwargs={"features_extractor_kwargs": options})  # fmt: skip
    model.learn(2 * 48)
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    assert model.rollout_buffer.stored["rgb"].dtype == torch.uint8
    assert model.rollout_buffer.stored["depth"].dtype == torch.uint16
    env.close()


def test_dropout_inside_the_extractor_is_for_replay_buffers():
    env = make_env(None, privileged=False)
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"dropout": 0.5}}
    for make in (PPO, FusionPPO):
        with pytest.raises(ValueError, match="VecSensorDropout"):
            policy = "FusionPolicy" if make is FusionPPO else "MultiInputPolicy"
            make(policy, env, n_steps=8, batch_size=48, policy_kwargs=kwargs, device="cpu")
    model = SAC("MultiInputPolicy", env, policy_kwargs=kwargs, learning_starts=12, device="cpu", buffer_size=100)
    model.learn(24)
    observation = {"proprio": torch.randn(64, 2), "force": torch.randn(64, 4, 8), "available": torch.ones(64, 2)}
    extractor = FusionExtractor(
        gym.spaces.Dict(
            {
                "force": gym.spaces.Box(-9, 9, (4, 8)),
                "proprio": gym.spaces.Box(-9, 9, (2,)),
                "available": gym.spaces.MultiBinary(2),
            }
        ),
        dropout=0.5,
    )
    share = extractor.fuse(observation).available.float()
    assert share.any(1).all() and 0.4 < share.mean() < 0.9
    assert extractor.eval().fuse(observation).available.all()
    env.close()


def test_discrete_actions():
    class Toy(gym.Env):
        observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-1, 1, (2,))})
        action_space = gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"state": self.observation_space["state"].sample()}, {}

        def step(self, action):
            return {"state": self.observation_space["state"].sample()}, float(action == 1), False, True, {}

    env = VecSensorDropout(DummyVecEnv([Toy]), 0.0)
    model = FusionPPO(env=env, n_steps=32, batch_size=32, seed=0, device="cpu", learning_rate=1e-2).learn(600)
    action, _ = model.predict(env.reset(), deterministic=True)
    assert action.tolist() == [1]


def test_nan_is_refused_before_it_reaches_the_weights():
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0)
    model.learn(48)
    before = {name: p.clone() for name, p in model.policy.named_parameters()}
    model.rollout_buffer.advantage[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="learning rate"):
        model.train()
    model.rollout_buffer.advantage[0, 0] = 0.0
    model.rollout_buffer.stored["proprio"][0, 0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="'proprio' holds NaN"):
        model.train()
    assert all(torch.equal(p, before[name]) for name, p in model.policy.named_parameters())
    model.rollout_buffer.stored["available"][0, 0] = torch.tensor([1, 0])  # hidden NaN is nobody's fault
    model.rollout_buffer.target[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="rewards or values.*NaN"):
        model.train()
    model.rollout_buffer.target[0, 0] = 0.0
    model.train()
    model.rollout_buffer.advantage[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="learning rate"):
        model.train()
    assert model.policy.return_norm.mean.isfinite().all()
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clip_range_vf": 0.2}, "clip_range_vf"), ({"use_sde": True}, "use_sde")],
)
def test_options_that_would_do_nothing_are_refused(options, message):
    env = make_env()
    with pytest.raises(ValueError, match=message):
        FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", **options)
    env.close()


def test_learning_beyond_the_asked_steps():
    env = make_env(Independent(0.3))
    FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu").learn(60)  # the second rollout ends at 96
    env.close()


def test_the_entropy_bonus_may_follow_the_progress():
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0, ent_coef=lambda left: 0.5 * left)
    model.learn(48)
    batch = next(model.rollout_buffer.minibatches(48))
    found = {}
    for left in (1.0, 0.2, 0.0):
        model._current_progress_remaining = left
        loss, _, parts = model.loss(batch, 0.2)
        found[left] = loss.item() + 0.5 * left * parts["entropy"].item()
    assert parts["entropy"].abs() > 0.1
    assert found[1.0] == pytest.approx(found[0.0], abs=1e-5) and found[0.2] == pytest.approx(found[0.0], abs=1e-5)
    env.close()


def test_without_the_weight_of_ppo_advantages_teach_nothing():
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0, ent_coef=0.0)
    model.learn(48)
    batch = next(model.rollout_buffer.minibatches(48))
    other = batch._replace(advantages=batch.advantages.square())
    for weight, same in ((0.0, True), (1.0, False)):
        model.policy_coef = weight
        gradients = []
        for one in (batch, other):
            model.policy.zero_grad()
            model.loss(one, 0.2)[0].backward()
            gradients.append(torch.cat([p.grad.flatten() for p in model.policy.parameters() if p.grad is not None]))
        assert torch.equal(*gradients) == same
    env.close()


def test_save_and_load(tmp_path):
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0).learn(48)
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="trust=True"):
        FusionPPO.load(tmp_path / "model.zip")
    again = FusionPPO.load(tmp_path / "model.zip", env=env, device="cpu", trust=True)
    observation = env.reset()
    actions = [m.predict(observation, deterministic=True)[0] for m in (model, again)]
    assert np.array_equal(*actions)
    again.learn(48)
    env.close()
