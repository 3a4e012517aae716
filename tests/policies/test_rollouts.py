import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer

from robofuse.dropout import Dropout
from robofuse.envs import SB3VecEnv
from robofuse.policies import FusionPPO
from robofuse.policies.rollouts import TensorRolloutBuffer


def make_env(law=None, every="episode", **options):
    options = {"sensors": ("proprio", "force"), "robot": "gripper", "privileged": True, "seed": 3} | options
    dropout = None if law is None else Dropout(law, every=every)
    return SB3VecEnv("Reach", 6, dropout=dropout, **options)


def test_advantages_are_those_of_sb3():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,))})
    args = {"observation_space": space, "action_space": gym.spaces.Box(-1, 1, (1,)), "n_envs": 3, "device": "cpu"}
    rng = np.random.default_rng(0)
    ours, theirs = (kind(7, gamma=0.9, gae_lambda=0.8, **args) for kind in (TensorRolloutBuffer, DictRolloutBuffer))
    ours.reset()
    for _ in range(7):
        step = [{"a": rng.normal(size=(3, 2)).astype(np.float32)}, rng.normal(size=(3, 1)), rng.normal(size=3),
                rng.random(3) < 0.3, torch.randn(3), torch.randn(3)]  # fmt: skip
        ours.add(*step)
        theirs.add(*step)
    last, dones = torch.randn(3), np.array([True, False, False])
    ours.compute_returns_and_advantage(last, dones)
    theirs.compute_returns_and_advantage(last, dones)
    np.testing.assert_allclose(ours.advantage.numpy(), theirs.advantages, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-5, atol=1e-5)
    rows = torch.cat([batch.actions for batch in ours.minibatches(5)])
    # the last batch would have had one row and is left out
    assert len(rows) == 20 and set(rows.flatten().tolist()) < set(theirs.actions.flatten().tolist())


def test_no_image_is_copied_into_another_type_or_order():
    env = make_env(None, sensors=("rgb",), image_size=24)
    model = FusionPPO(env=env, n_steps=4, batch_size=24, device="cpu", n_epochs=1)
    assert model.get_env() is env
    model.learn(24)
    # rgb, available, privileged, action, six scalars
    held = 24 * 24 * 3 + 1 + 4 * (len(env.world.privileged_names) + 5 + 6)
    assert model.rollout_buffer.bytes_per_step() == held
    env.close()
