"""The benchmark runs as it stands on this machine, and refuses what cannot be measured before it starts."""

import json
import math
import os
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from exporting import make
from stable_baselines3.common.preprocessing import is_image_space

from robofuse.envs import World
from robofuse.policies import FUSIONS
from robofuse.policies.saving import save
from scripts.bench.__main__ import main
from scripts.bench.contenders import ByteDepth
from scripts.bench.deploy import DeployBench, bench_deploy
from scripts.bench.device import PARTS, DeviceBench, bench_device
from scripts.bench.env import EnvBench, bench_env
from scripts.bench.fusion import FusionBench, bench_fusion
from scripts.bench.live import LiveBench, bench_live
from scripts.bench.train import TrainBench, bench_train


@pytest.mark.slow  # five processes have to start
def test_a_tiny_run_measures_every_contender(tmp_path, needs_gl, capsys, monkeypatch):
    needs_gl()
    monkeypatch.delenv("MUJOCO_GL", raising=False)  # as a user without a screen would start it
    path = tmp_path / "bench.json"
    few = {"num_envs": (1,), "sizes": (16,), "renderers": ("gl",), "processes": (1,), "seconds": 0.2, "rounds": 1}
    config = EnvBench(task="Reach", robot="gripper", json=path, **few)
    result = bench_env(config)
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    (row,) = result["worlds"]
    for name in ("physics", "floor", "world", "ours", "gym", "tuned", "world_to_floor", "peak_mib", "ms_per_step"):
        assert math.isfinite(row[name]) and row[name] > 0, name
    assert row["physics"] > row["floor"]
    assert [other["tuned"] for other in result["subprocesses"]] == [True, False]
    assert "World/floor" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "Juggle"], "error: unknown task 'Juggle'; tasks: Reach, Grasp, Feel, PegInsert, Sort, Stack"),
        (["--robot", "octopus"], "error: unknown robot 'octopus'"),
        (["--renderers", "crayon"], "error: unknown renderer 'crayon'; renderers: warp, gl"),
        (["--num-envs", "0"], "error: num_envs must be an integer of at least 1, got 0"),
        (["--seconds", "0"], "error: seconds must be more than 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments, message, capsys):
    assert main(["env", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_tiny_training_is_measured_consistently(tmp_path, capsys):
    path, size = tmp_path / "bench.json", 36
    few = {"n_steps": 8, "batch_size": 32, "epochs": 1, "rollouts": 1, "turns": 1, "threads": 1, "dropout": (0.5,)}
    result = bench_train(TrainBench("Reach", "gripper", 4, size, json=path, device="cpu", **few))
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))

    training = result["training"]
    speeds = [training[name]["samples_per_second"] for name in ("fusion", "sb3")]
    assert training["ratio"] == pytest.approx(speeds[0] / speeds[1])
    assert 0.0 < training["ratio_least"] <= training["ratio"] <= training["ratio_most"]

    world = World("Reach", 1, robot="gripper", image_size=size, sensors=("proprio", "force"), privileged=True)
    vectors = sum(4 * math.prod(world.observation_space[key].shape) for key in ("proprio", "force"))
    truth = 4 * math.prod(world.observation_space["privileged"].shape)
    world.close()
    rest = 4 + vectors + 4 * 5 + 6 * 4  # available, vectors, action, six numbers of PPO
    fusion, sb3 = result["memory"]["fusion"], result["memory"]["sb3"]
    assert fusion["held"] == size**2 * (3 + 2) + truth + rest
    assert sb3["held"] == size**2 * (3 + 1) + rest
    assert (fusion["copied"], fusion["beside"]) == (0, 0)
    assert sb3["copied"] == sb3["held"] - 2 * 4  # rewards and starts of episodes are no longer needed
    assert sb3["beside"] == size**2 * 3

    phases = result["phases"]
    assert phases["samples"] == 4 * 8
    assert sum(phases.values()) - phases["samples"] == pytest.approx(4 * 8 / speeds[0])
    assert all(phases[name] > 0.0 for name in ("simulate", "act", "learn", "other"))

    (row,) = result["live_rows"]
    assert row["p"] == 0.5 and 0.25 < row["share"] < 0.85
    both = (sum(row["all"].values()), sum(row["live"].values()))
    assert row["speedup"]["both"] == pytest.approx(both[0] / both[1])
    assert "FusionPPO" in capsys.readouterr().out


def test_depth_as_bytes_is_a_picture_to_sb3():
    box = gym.spaces.Box
    seen = {"depth": np.array([[[[0], [1607]], [[8], [65535]]]], np.uint16), "proprio": np.ones((1, 3), np.float32)}
    space = {"depth": box(0, 65535, (2, 2, 1), np.uint16), "proprio": box(-1, 1, (3,)), "privileged": box(-1, 1, (2,))}
    worlds = SimpleNamespace(observation_space=gym.spaces.Dict(space), action_space=box(-1, 1, (5,)), num_envs=1)
    worlds.get_attr, worlds.reset = lambda *_: [None], lambda: {**seen, "privileged": np.zeros((1, 2))}
    last = {**{key: x[0] for key, x in seen.items()}, "privileged": np.zeros(2)}
    worlds.step_wait = lambda: (worlds.reset(), np.zeros(1), np.ones(1, bool), [{"terminal_observation": last}])
    env = ByteDepth(worlds)
    assert is_image_space(env.observation_space["depth"])
    observation, _, _, infos = env.step_wait()
    for one in (observation, env.reset(), infos[0]["terminal_observation"]):
        assert set(one) == set(env.observation_space.spaces) == {"depth", "proprio"}
        assert one["depth"].dtype == np.uint8 and one["depth"].flatten().tolist() == [0, 200, 1, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "Juggle"], "error: unknown task 'Juggle'"),
        (["--image-size", "24"], "error: --image-size must be an integer of at least 36, got 24"),
        (["--turns", "0"], "error: --turns must be an integer of at least 1, got 0"),
        (["--num-envs", "3"], "error: --batch-size 400 must divide the 75 rows of a rollout"),
        (["--dropout", "0.3", "1"], "error: --dropout takes probabilities in [0, 1), got 1"),
        (["--json", "no/such/folder.json"], "error: --json: there is no folder"),
        (["--device", "abacus"], "error: unknown device 'abacus'"),
    ],
)
def test_what_cannot_be_learned_is_refused_at_once(arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_tiny_deployment_is_measured_with_every_sensor_hidden(tmp_path, capsys):
    file, out = save(make().network, tmp_path / "small.safetensors"), tmp_path / "bench.json"
    before = os.sched_getaffinity(0)
    result = bench_deploy(DeployBench(str(file), calls=6, rounds=2, core=min(before), json=out))
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    hidden = [(), ("depth",), ("force",), ("proprio",), ("rgb",), ("depth", "rgb"), ("force", "proprio", "rgb")]
    expected = [(one, who) for one in hidden for who in ("torch", "onnx", "onnx, fed")]
    assert [(tuple(row["hidden"]), row["contender"]) for row in result["rows"]] == expected
    for row in result["rows"]:
        for clock in ("wall", "cpu"):
            assert 0.0 < row[clock]["p50"] <= row[clock]["p99"] and row[clock]["mean"] > 0.0
    assert os.sched_getaffinity(0) == before and "depth, rgb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "grusp"], "error: no policy 'grusp'"),
        (["--calls", "0"], "error: calls must be an integer of at least 1, got 0"),
        (["--core", "9999"], "error: --core 9999 may not be used; cores: ["),
        (["--json", "no/such/folder.json"], "error: --json: there is no folder"),
    ],
)
def test_what_cannot_be_deployed_is_refused_at_once(arguments, message, capsys):
    assert main(["deploy", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow  # mujoco_warp's kernels have to be compiled, on a machine that has not met them
@pytest.mark.parametrize("physics", ["warp", "mixed", "mujoco"])
def test_a_device_is_measured_part_by_part(physics, tmp_path, capsys):
    path = tmp_path / "bench.json"
    few = {"num_envs": (2,), "image_size": 16, "steps": 4, "turns": 1, "batch_size": 4}
    result = bench_device(DeviceBench("Reach", "gripper", physics=physics, device="cpu", json=path, **few))
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    (row,) = result["rows"]
    assert all(math.isfinite(row[part]) and row[part] > 0 for part in PARTS) and row["warm_up_s"] > 0
    assert "waits" not in row  # nobody counts what is not there
    assert "not counted" in capsys.readouterr().out


def test_too_many_worlds_for_a_device_say_how_many_may_fit(monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("scripts.bench.device._row", full)
    with pytest.raises(RuntimeError, match=r"4,096 worlds do not fit into the memory of cpu; less than that may"):
        bench_device(DeviceBench("Reach", "gripper", (4096,), device="cpu"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-envs", "0"], "--num-envs must be an integer of at least 1"),
        (["--steps", "1"], "--steps must be an integer of at least 2"),
        (["--device", "toaster"], "toaster"),
        (["--json", "nowhere/x.json"], "there is no folder"),
    ],
)
def test_a_device_that_cannot_be_measured_is_refused_at_once(arguments, message, capsys):
    assert main(["device", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_every_fusion_is_measured(tmp_path, capsys):
    out = tmp_path / "bench.json"
    result = bench_fusion(FusionBench(sensors=3, token_dim=8, rows=4, rounds=1, json=out))
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    rows = {row["fusion"]: row for row in result["rows"]}
    assert list(rows) == list(FUSIONS)
    assert rows["concat"]["parameters"] == (3 * 8 + 1) * 128 and rows["sum"]["features"] == 8
    assert all(row["learn"] > 0.0 and row["act"] > 0.0 for row in rows.values())
    assert main(["fusion", "--rounds", "0"]) == 2
    assert "error: --rounds must be an integer of at least 1" in capsys.readouterr().err


@pytest.mark.slow  # in real time
def test_a_live_replay_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scripts.bench.live._WARM_UP", 0.5)
    out = tmp_path / "bench.json"
    result = bench_live(LiveBench(seconds=2.0, json=out))
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    (row,) = result["rows"]
    assert row["switches"] >= 3 and 0.0 < row["delay_ms"]["p50"] <= row["delay_ms"]["p95"] <= row["delay_ms"]["max"]
    assert 1.0 < row["frames_per_second"] < 21.0  # 20 is real time
    assert "live replay" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "grusp"], "error: no policy 'grusp'"),
        (["--seconds", "0"], "error: --seconds must be at least 1, got 0"),
        (["--browser", "no/such/chromium"], "error: --browser: there is no no/such/chromium"),
        (["--json", "no/such/folder.json"], "error: --json: there is no folder"),
    ],
)
def test_a_live_replay_that_cannot_be_measured_is_refused_at_once(arguments, message, capsys):
    assert main(["live", *arguments]) == 2
    assert message in capsys.readouterr().err
