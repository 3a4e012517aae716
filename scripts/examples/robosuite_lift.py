"""robosuite's Lift with four sensors: a copied expert, with and without sensor dropout, and who does without what.

    pip install 'robosuite==1.5.2' 'mujoco<3.10' robofuse      # robosuite 1.5 breaks with newer MuJoCos
    MUJOCO_GL=egl python scripts/examples/robosuite_lift.py

robofuse's own worlds need a newer MuJoCo; nothing here does. `robofuse report FOLDER` makes a page of a result.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import robosuite  # pyright: ignore[reportMissingImports]
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse import FusionExtractor, VecSensorDropout, evaluate_agent

KEYS = ("depth", "force", "proprio", "rgb")  # in the order of `available`
CONDITIONS = ("all", *(f"no-{key}" for key in KEYS))
HAND = ("joint_pos_cos", "joint_pos_sin", "eef_pos", "eef_quat", "gripper_qpos")
Observation = dict[str, np.ndarray]


class Lift(gym.Env[Any, Any]):
    """robosuite's task with a Dict observation, and `is_success` in its `info`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    render_mode = "rgb_array"

    def __init__(self) -> None:
        self.sim: Any = robosuite.make(
            "Lift", robots="Panda", has_renderer=False, camera_depths=True, camera_heights=64, camera_widths=64,
            reward_shaping=True, horizon=80, control_freq=20,
        )  # fmt: skip
        self.truth: Any = {}
        self.action_space = gym.spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = gym.spaces.Dict(
            depth=gym.spaces.Box(0.0, np.inf, (64, 64, 1), np.float32),
            force=gym.spaces.Box(-np.inf, np.inf, (6,), np.float32),
            proprio=gym.spaces.Box(-np.inf, np.inf, (23,), np.float32),
            rgb=gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict]:  # noqa: ANN401
        super().reset(seed=seed)
        self.sim.rng = self.sim.placement_initializer.rng = self.np_random
        return self._sense(self.sim.reset()), {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict]:
        truth, reward, over, _ = self.sim.step(action)
        lifted = bool(self.sim._check_success())
        return self._sense(truth), float(reward), lifted, over and not lifted, {"is_success": lifted}

    def render(self) -> np.ndarray:
        return self.sim.sim.render(width=640, height=480, camera_name="agentview")[::-1]

    def _sense(self, truth: Any) -> Observation:  # noqa: ANN401
        self.truth, arm, model = truth, self.sim.robots[0], self.sim.sim.model
        near, far = model.stat.extent * model.vis.map.znear, model.stat.extent * model.vis.map.zfar
        metres = near / (1.0 - truth["agentview_depth"] * (1.0 - near / far))
        return {
            "depth": metres[::-1].astype(np.float32),
            "force": np.concatenate([arm.ee_force["right"], arm.ee_torque["right"]]).astype(np.float32) / 10.0,
            "proprio": np.concatenate([truth[f"robot0_{name}"] for name in HAND]).astype(np.float32),
            "rgb": truth["agentview_image"][::-1],
        }


def expert(truth: Any) -> np.ndarray:  # noqa: ANN401
    """Over the cube, down, close, up; it knows where the cube is."""
    away = truth["cube_pos"] - truth["robot0_eef_pos"]
    over, there = np.abs(away[:2]).max() < 0.015, np.abs(away).max() < 0.02
    closed = truth["robot0_gripper_qpos"][0] < 0.03 and abs(truth["robot0_gripper_qvel"][0]) < 0.005
    move = np.array([0.0, 0.0, 0.1]) if there and closed else away + (0.0 if over else np.array([0.0, 0.0, 0.08]))
    return np.clip([*(move / 0.05), 0.0, 0.0, 0.0, 1.0 if there else -1.0], -1.0, 1.0).astype(np.float32)


def record(env: Lift, episodes: int) -> tuple[Observation, np.ndarray]:
    """What the sensors said and the expert did; some noise on what is executed shows how to recover."""
    rows, actions = {key: [] for key in KEYS}, []
    for episode in range(episodes):
        (observation, _), over = env.reset(seed=episode), False
        while not over:
            for key in KEYS:
                rows[key].append(observation[key])
            actions.append(expert(env.truth))
            noise = env.np_random.normal(0.0, [0.2] * 3 + [0.0] * 4)
            executed = np.clip(actions[-1] + noise, -1.0, 1.0).astype(np.float32)
            observation, _, lifted, late, _ = env.step(executed)
            over = lifted or late
    return {key: np.stack(x) for key, x in rows.items()}, np.stack(actions)


def clone(env: Lift, rows: Observation, actions: np.ndarray, dropout: float, passes: int) -> TD3:
    """An agent of SB3 whose actor copies the expert, with sensors masked so often."""
    sensed = VecSensorDropout(DummyVecEnv([lambda: env]), 0.0)  # masks nothing; for the key `available`
    kwargs = {
        "features_extractor_class": FusionExtractor,
        "features_extractor_kwargs": {"dropout": dropout} if dropout else {},
        "share_features_extractor": True,
    }
    agent = TD3("MultiInputPolicy", sensed, buffer_size=1, policy_kwargs=kwargs, seed=0, device="cpu")
    seen: Any = agent.policy.obs_to_tensor({**rows, "available": np.ones((len(actions), len(KEYS)), np.int8)})[0]
    wanted, optimizer = torch.as_tensor(actions), torch.optim.Adam(agent.actor.parameters(), 1e-3)
    agent.policy.set_training_mode(True)
    for _ in range(passes):
        for batch in torch.randperm(len(wanted)).split(64):
            loss = (agent.actor({key: x[batch] for key, x in seen.items()}) - wanted[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return agent


def main(demonstrations: int, passes: int, episodes: int, out: str) -> None:
    """Record, copy, evaluate."""
    env = Lift()
    rows, actions = record(env, demonstrations)
    print(f"{len(actions)} steps of the expert")
    for dropout in (0.0, 0.3):
        agent, name = clone(env, rows, actions, dropout, passes), f"dropout-{dropout}"
        found = evaluate_agent(agent, Lift, f"{out}/{name}", name=name, conditions=CONDITIONS, episodes=episodes)
        print(name, {condition: row.success for condition, row in found.conditions.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demonstrations", type=int, default=60)
    parser.add_argument("--passes", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", default="runs/robosuite-lift")
    main(**vars(parser.parse_args()))
