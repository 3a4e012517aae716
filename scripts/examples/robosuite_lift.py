"""robosuite's Lift with four sensors: an expert that is copied with and without dropout, and who does without what.

    pip install 'robosuite==1.5.2' 'mujoco<3.10' robofuse      # robosuite 1.5 breaks with newer MuJoCos
    MUJOCO_GL=egl python scripts/examples/robosuite_lift.py

robofuse's own worlds need a newer MuJoCo; nothing here does. `robofuse report FOLDER` makes a page of a result.
"""

import numpy as np
import robosuite  # pyright: ignore[reportMissingImports]
from stable_baselines3 import TD3
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse import FusionExtractor, VecSensorDropout, evaluate_agent
from robofuse.policies import clone
from robofuse.wrappers import Robosuite

CAMERA = {"has_renderer": False, "camera_depths": True, "camera_heights": 64, "camera_widths": 64}
DEMONSTRATIONS, PASSES, EPISODES, OUT = 60, 150, 20, "runs/robosuite-lift"


def make() -> Robosuite:
    """Depth, force, proprioception and colours."""
    return Robosuite(robosuite.make("Lift", robots="Panda", horizon=80, control_freq=20, **CAMERA))


def expert(truth: dict) -> np.ndarray:
    """Over the cube, down, close, up; it knows where the cube is."""
    away = truth["cube_pos"] - truth["robot0_eef_pos"]
    over, there = np.abs(away[:2]).max() < 0.015, np.abs(away).max() < 0.02
    closed = truth["robot0_gripper_qpos"][0] < 0.03 and abs(truth["robot0_gripper_qvel"][0]) < 0.005
    move = np.array([0.0, 0.0, 0.1]) if there and closed else away + (0.0 if over else np.array([0.0, 0.0, 0.08]))
    return np.clip([*(move / 0.05), 0.0, 0.0, 0.0, 1.0 if there else -1.0], -1.0, 1.0).astype(np.float32)


env, rows, actions = make(), [], []
for episode in range(DEMONSTRATIONS):
    (observation, _), over = env.reset(seed=episode), False
    while not over:
        rows.append(observation)
        actions.append(expert(env.truth))
        noise = env.np_random.normal(0.0, [0.2] * 3 + [0.0] * 4)  # shows how to recover
        observation, _, lifted, late, _ = env.step(np.clip(actions[-1] + noise, -1.0, 1.0).astype(np.float32))
        over = lifted or late
print(f"{len(actions)} steps of the expert")
observations = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
sensed = VecSensorDropout(DummyVecEnv([lambda: env]), 0.0)  # masks nothing; for the key `available`
for dropout in (0.0, 0.3):
    kwargs = {"features_extractor_class": FusionExtractor, "share_features_extractor": True}
    agent, name = TD3("MultiInputPolicy", sensed, buffer_size=1, policy_kwargs=kwargs, seed=0), f"dropout-{dropout}"
    clone(agent, observations, np.stack(actions), dropout=dropout, passes=PASSES)
    conditions = ("all", *(f"no-{key}" for key in observations))
    found = evaluate_agent(agent, make, f"{OUT}/{name}", name=name, conditions=conditions, episodes=EPISODES)
    print(name, {condition: row.success for condition, row in found.conditions.items()})
