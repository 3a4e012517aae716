"""rl-baselines3-zoo runs our extractor from its own command line. It patches Gymnasium, hence the subprocesses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import robofuse  # noqa: F401
from robofuse.registration import TASKS
from robofuse.rl_zoo import TypicalScales

KNOWING = ["robot:'gripper'", "sensors:('proprio','truth')"]
LINES = """
import gymnasium
gymnasium.register("Line-v0", entry_point="toys:Line")
"""
# what `rl_zoo3.train` does, up to the model
BUILD = """
import argparse, json, sys
import lines, robofuse
from rl_zoo3.exp_manager import ExperimentManager
from robofuse.registration import TASKS
from robofuse.rl_zoo import TypicalScales
from robofuse.wrappers import VecSensorDropout
from stable_baselines3.common.vec_env import is_vecenv_wrapped
found = {}
for algo in ("ppo", "sac", "tqc"):
    for id in [*TASKS, "Line-v0"]:
        kwargs = {"robot": "gripper", "sensors": ("proprio", "force")} if id in TASKS else {}
        manager = ExperimentManager(argparse.Namespace(), algo, id, sys.argv[1], config=f"robofuse.rl_zoo.{algo}",
                                    env_kwargs=kwargs, eval_freq=-1, verbose=0, device="cpu")
        model, _ = manager.setup_experiment()
        env, part = model.get_env(), (model.policy if algo == "ppo" else model.critic).features_extractor
        found[f"{algo} {id}"] = [type(part).__name__, part.dropout, len(model.observation_space["available"].sample()),
                                 is_vecenv_wrapped(env, VecSensorDropout), env.env_is_wrapped(TypicalScales)[0]]
        env.close()
print(json.dumps(found))
"""


@pytest.fixture
def zoo(tmp_path):
    """Runs Python in an empty folder; returns what it printed."""
    (tmp_path / "lines.py").write_text(LINES)
    here = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tmp_path), str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])

    def run(*arguments):
        command = [sys.executable, "-W", "error", *map(str, arguments)]
        env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_every_entry_builds_a_model(zoo, tmp_path):
    found = json.loads(zoo("-c", BUILD, tmp_path).splitlines()[-1])
    for algo, inside in (("ppo", 0.0), ("sac", 0.3), ("tqc", 0.3)):
        for id in TASKS:
            assert found[f"{algo} {id}"] == ["FusionExtractor", inside, 2, False, True]
        assert found[f"{algo} Line-v0"] == ["FusionExtractor", inside, 3, True, False]


def test_masks_come_from_the_environment_or_from_the_extractor():
    from robofuse.rl_zoo import ppo, sac, tqc

    assert all(ppo.hyperparams[id]["env_kwargs"] == {"dropout": 0.3} for id in TASKS)
    assert not any("env_kwargs" in module.hyperparams[id] for module in (sac, tqc) for id in TASKS)
    entries = [*ppo.hyperparams.values(), *sac.hyperparams.values()]
    assert len({id(entry["policy_kwargs"]) for entry in entries}) == len(entries)  # SB3 writes into them


def train(zoo, algo, folder, *more, id="robofuse/Reach-v0"):
    words = ["--gym-packages", "robofuse", "lines", "--algo", algo, "--env", id, "--seed", 0, "--device", "cpu"]
    return zoo("-m", "rl_zoo3.train", *words, "--conf-file", f"robofuse.rl_zoo.{algo}", "-f", folder, *more)


def enjoy(zoo, algo, folder, *more, id="robofuse/Reach-v0"):
    """Mean return."""
    words = ["--gym-packages", "robofuse", "lines", "--algo", algo, "--env", id, "--no-render", "--device", "cpu"]
    told = zoo("-m", "rl_zoo3.enjoy", *words, "-f", folder, *more)
    return float(re.search(r"Mean reward: (\S+)", told)[1])


@pytest.mark.slow
def test_the_zoos_command_line_trains(zoo, tmp_path):
    smaller = ["-params", "n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:1"]
    told = train(zoo, "ppo", "logs", "-n", 64, "--eval-freq", 32, "--eval-episodes", 1, *smaller, id="Line-v0")
    assert "Using 'default' hyperparameters" in told and "Eval num_timesteps=64" in told
    assert (tmp_path / "logs/ppo/Line-v0_1/Line-v0.zip").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_train_enjoy_and_resume(zoo, tmp_path, algo):
    few = ["-n", 256, "--save-replay-buffer", "--eval-freq", 128, "--eval-episodes", 1]
    few += ["-params", *(["n_envs:2", "n_steps:16", "batch_size:16"] if algo == "ppo" else ["learning_starts:100"])]
    told = train(zoo, algo, "logs", *few, "--env-kwargs", *KNOWING, "dropout:0.3", "--eval-env-kwargs", *KNOWING)
    assert "Eval num_timesteps=256" in told
    run = tmp_path / f"logs/{algo}/robofuse-Reach-v0_1"
    assert enjoy(zoo, algo, "logs", "-n", 130, "--env-kwargs", "dropout:0.0") > -5
    assert enjoy(zoo, algo, "logs", "-n", 130, "--env-kwargs", "dropout:0.0", "faults:'truth:blackout!'") > -5
    again = train(zoo, algo, "logs", *few, "--env-kwargs", *KNOWING, "-i", run / "robofuse-Reach-v0.zip")
    assert "Loading pretrained agent" in again and (run.parent / "robofuse-Reach-v0_2/robofuse-Reach-v0.zip").is_file()
    assert ("Loading replay buffer" in again) == (algo == "sac")


def test_typical_scales():
    env = gym.make("robofuse/Reach-v0", robot="gripper", sensors=("proprio", "force", "truth"), seed=0, noise=False)
    plain, _ = env.reset(seed=3)
    scaled = TypicalScales(env)
    seen, _ = scaled.reset(seed=3)
    sensors = {sensor.key: sensor for sensor in env.unwrapped.world.sensors}
    assert seen.keys() == plain.keys() == scaled.observation_space.spaces.keys()
    for key, sensor in sensors.items():
        np.testing.assert_allclose(seen[key] * np.float32(sensor.scale), plain[key], rtol=1e-5, atol=1e-6)
        assert seen[key].dtype == np.float32 and seen[key].shape == plain[key].shape
    assert np.abs(plain["truth"][:3]).max() < 0.3 and np.abs(seen["truth"][:3]).max() > 0.3  # the ball, in 10 cm
    assert scaled.observation_space.contains(seen) and (seen["available"] == plain["available"]).all()
    env.close()


def test_pictures_keep_their_scale():
    env = TypicalScales(gym.make("robofuse/Reach-v0", robot="gripper", image_size=16))
    assert env.observation_space["rgb"] == env.unwrapped.observation_space["rgb"]
    seen, _ = env.reset(seed=0)
    assert seen["rgb"].dtype == np.uint8 and seen["depth"].dtype == np.uint16
    assert env.observation_space.contains(seen)
    env.close()


def test_scales_need_a_world():
    with pytest.raises(ValueError, match="VecNormalize"):
        TypicalScales(gym.make("Pendulum-v1"))
