"""Gymnasium-Robotics: SAC with hindsight (HER) reaches a goal with Fetch, also without its proprioception.

    pip install 'robofuse[contrib]'
    python scripts/examples/fetch.py --steps 6000

While learning, the extractor hides `observation` or `achieved_goal`, which says where the hand is too, in some rows of
every batch; the replay buffer, from which HER takes its goals, has both. `desired_goal` is an order, and no sensor.
"""

import argparse

import gymnasium as gym
import gymnasium_robotics
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from robofuse.dropout import Independent
from robofuse.policies import FusionExtractor
from robofuse.wrappers import VecSensorDropout, mend_gymnasium_robotics

mend_gymnasium_robotics()  # with MuJoCo 4
gym.register_envs(gymnasium_robotics)


def environment(name: str = "FetchReach-v4", count: int = 4) -> VecNormalize:
    """`count` environments with `available`, normalised; replay buffers want `VecNormalize` outside."""
    sensed = VecSensorDropout(DummyVecEnv([lambda: gym.make(name)] * count), 0.0)
    return VecNormalize(sensed, norm_reward=False, norm_obs_keys=["observation", "achieved_goal", "desired_goal"])


def train(env: VecEnv, steps: int) -> SAC:
    """An agent that has seen `steps` steps of all environments together."""
    return SAC(
        "MultiInputPolicy",
        env,
        learning_rate=2e-3,
        learning_starts=50 * env.num_envs + 200,  # HER needs a whole episode first
        batch_size=128,
        gamma=0.9,
        ent_coef=0.02,  # chosen by SAC itself, it is too large for rewards of −1 and 0
        train_freq=1,
        gradient_steps=2,
        replay_buffer_class=HerReplayBuffer,
        seed=0,
        device="cpu",
        policy_kwargs={
            "features_extractor_class": FusionExtractor,
            "features_extractor_kwargs": {"dropout": 0.3, "token_dim": 32},
            "net_arch": [64],
        },
    ).learn(steps)


def evaluate(agent: SAC, env: VecNormalize, episodes: int) -> dict[str, float]:
    """Mean returns, from −50 to 0 and minus the steps away from the goal, with all sensors and without one."""
    env.training = False
    blind = VecSensorDropout(env, Independent({"observation": 1.0}), sensors=["observation", "achieved_goal"])
    return {
        name: float(evaluate_policy(agent, each, episodes, warn=False)[0])  # pyright: ignore[reportArgumentType]
        for name, each in (("all", env), ("without observation", blind))
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--episodes", type=int, default=40)
    options = parser.parse_args()
    fetch = environment()
    for name, mean in evaluate(train(fetch, options.steps), fetch, options.episodes).items():
        print(f"{name}: {mean:.1f}")
    fetch.close()
