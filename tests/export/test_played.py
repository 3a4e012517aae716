"""An exported policy in simulated worlds: the same actions and successes as the policy that it was made of."""

import json
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from exporting import make
from helpers import BLIND

from robofuse import cli
from robofuse.envs import World
from robofuse.evaluate.conditions import parse, parse_faults
from robofuse.evaluate.rollout import rollout, schedule
from robofuse.export import export
from robofuse.export.played import Played
from robofuse.play import load_trained, make_world
from robofuse.policies import Policy, load
from robofuse.policies.saving import save
from robofuse.sensors import observation_space

PLACE = {"task": "Reach", "robot": "gripper", "sensors": list(BLIND)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A policy of the gripper with random weights, as torch's file and exported."""
    folder = tmp_path_factory.mktemp("played")
    world = World(num_envs=1, **PLACE)
    network = make(world.sensors, gym.spaces.Box(-1, 1, (5,), np.float32)).network
    world.close()
    ours = save(network, folder / "blind.safetensors", PLACE, {"steps": 7})
    return ours, export(str(ours), folder / "blind.onnx")


def readings(sensors, n=6):
    space = observation_space(sensors)
    space.seed(0)
    return {key: torch.from_numpy(np.stack([space[key].sample() for _ in range(n)])) for key in space.spaces}


def test_it_acts_like_torch_row_by_row(files):
    ours, played = load(files[0]), load_trained(str(files[1])).policy
    assert isinstance(played, Played) and played.keys == ours.keys and played.card == ours.card
    seen = readings(ours.sensors)
    assert len(seen["available"].unique(dim=0)) > 2
    torch.testing.assert_close(played.act(seen), ours.act(seen), atol=1e-4, rtol=0)
    seen["available"][:] = torch.tensor([0, 1])
    seen["force"][:] = torch.nan  # hidden
    seen["proprio"][2, 0] = torch.inf  # delivered: that row alone has no action
    for policy in (played, ours):
        assert policy.act(seen).isfinite().all(dim=1).tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize("condition", ["all", "no-force@3", "proprio:nan@4"])
def test_episodes_are_the_same(files, condition):
    found = []
    for file in files:
        trained = load_trained(str(file))
        world = make_world(trained, 3, 1_000_000)
        results = rollout(trained.policy, world, schedule(conditions(condition, world), range(4)))
        found.append([(one.episode, one.success, one.steps, one.error) for one in results])
        world.close()
    assert found[0] == found[1]
    assert all(one[3] for one in found[0]) == (condition == "proprio:nan@4")  # no monitor hides it: broken off


def conditions(text, world):
    keys = [sensor.key for sensor in world.sensors]
    return parse_faults([text], world.sensors, 4) if ":" in text else parse([text], keys, 3)


def test_evaluate_takes_files(files, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(files[1]), *"--episodes 2 --conditions all no-force --out".split(), str(out)]) == 0
    assert "no-force" in capsys.readouterr().out
    record = json.loads((out / "evaluation.json").read_text())
    assert record["complete"] and len(record["policy"]["weights"]) == 64
    assert record["policy"]["card"] == {"steps": 7} and record["policy"]["name"].endswith("-blind")


def test_refusals_are_sentences(files, tmp_path, capsys, monkeypatch):
    with pytest.raises(ValueError, match="blind.onnx.*CPU"):
        load_trained(str(files[1]), device="cuda")
    with pytest.raises(ValueError, match="'blind' has no distribution"):
        Played(files[1]).act({}, deterministic=False)
    with pytest.raises(ValueError, match="exported policy"):
        load(files[1])
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(files[1].read_bytes()[:-50])
    assert cli.main(["evaluate", str(cut)]) == 2
    assert "cut.onnx is cut off: its end is missing; fetch it again" in capsys.readouterr().err
    assert cli.main(["evaluate", str(tmp_path / "none.onnx")]) == 2
    assert "there is no file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(["evaluate", str(files[1])]) == 2
    assert "pip install 'robofuse[deploy]'" in capsys.readouterr().err


@pytest.mark.slow
def test_grasp_exported_succeeds_in_the_same_scenes(tmp_path, needs_gl):
    needs_gl()
    found = []
    for name in ("grasp", str(export("grasp", tmp_path / "grasp.onnx"))):
        trained = load_trained(name)
        assert isinstance(trained.policy, Policy)
        world = make_world(trained, 16, 1_000_000)
        jobs = schedule(parse(["all", "no-rgb", "no-proprio@10"], list(trained.policy.keys), 10), range(16))
        found.append([one.success for one in rollout(trained.policy, world, jobs)])
        world.close()
    # a contact makes much of the last bit of an action, so that an episode may end otherwise
    assert np.mean(found[0]) > 0.9 and sum(a != b for a, b in zip(*found, strict=True)) <= 3


@pytest.mark.slow
def test_on_the_way_of_grasp_both_choose_the_same_actions(tmp_path, needs_gl):
    needs_gl()
    torch_, onnx = load_trained("grasp"), load_trained(str(export("grasp", tmp_path / "grasp.onnx")))
    world = make_world(torch_, 16, 1_000_000)
    observation = world.reset(episode=16)  # with the episode that ends otherwise, above
    for _ in range(25):
        action = torch_.policy.act(observation)
        assert (action - onnx.policy.act(observation)).abs().max() < 1e-5
        observation = world.step(action).observation
    world.close()
