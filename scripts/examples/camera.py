"""A MuJoCo locomotion environment of Gymnasium's with a camera added: PPO, with masks from the environment's side.

Try `python scripts/examples/camera.py --steps 16000`.
"""

import argparse
import os
from typing import Any, cast

import gymnasium as gym
from gymnasium.wrappers import AddRenderObservation, TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from robofuse.dropout import Dropout, Independent
from robofuse.policies import FusionExtractor
from robofuse.wrappers import VecSensorDropout

os.environ.setdefault("MUJOCO_GL", "egl")  # or osmesa


def make(name: str = "HalfCheetah-v5", size: int = 32) -> gym.Env:
    """Observations {rgb uint8 (size, size, 3), state float64 (P,)}, episodes of 100 steps."""
    env = gym.make(name, render_mode="rgb_array", width=size, height=size)
    quality = cast(Any, env.unwrapped).model.vis.quality
    quality.shadowsize = quality.offsamples = 0  # most of the time went into these
    return TimeLimit(AddRenderObservation(env, render_only=False, render_key="rgb", obs_key="state"), 100)


def environment(count: int = 4) -> VecNormalize:
    """The order for learners from rollouts: normalise inside, hide outside."""
    return VecNormalize(DummyVecEnv([make] * count), norm_obs_keys=["state"], norm_reward=False)


def train(env: VecEnv, steps: int) -> PPO:
    """An agent that has seen `steps` steps of all environments together, with sensors missing."""
    return PPO(
        "MultiInputPolicy",
        VecSensorDropout(env, Dropout(Independent(0.3), full=0.4), seed=0),
        n_steps=128,
        batch_size=128,
        n_epochs=5,
        learning_rate=1e-3,
        gamma=0.95,
        seed=0,
        device="cpu",
        policy_kwargs={
            "features_extractor_class": FusionExtractor,
            "features_extractor_kwargs": {"token_dim": 32},
            "net_arch": [64],
            "log_std_init": -0.5,
        },
    ).learn(steps)


def evaluate(agent: PPO, env: VecNormalize, episodes: int) -> dict[str, float]:
    """Mean returns with both sensors, and with each of them alone."""
    env.training = False
    means = {}
    for name, hidden in (("both", None), ("state alone", "rgb"), ("camera alone", "state")):
        law = Independent(0.0) if hidden is None else Independent({hidden: 1.0})
        seen = VecSensorDropout(env, law)
        means[name] = float(evaluate_policy(agent, seen, episodes, warn=False)[0])  # pyright: ignore[reportArgumentType]
    return means


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--episodes", type=int, default=12)
    options = parser.parse_args()
    cheetah = environment()
    for name, mean in evaluate(train(cheetah, options.steps), cheetah, options.episodes).items():
        print(f"{name}: {mean:.1f}")
    cheetah.close()
