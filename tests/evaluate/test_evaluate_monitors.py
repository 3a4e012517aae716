"""Monitors of policies: found, refused, at work in evaluations and replays."""

import json

import pytest

from robofuse.evaluate import Evaluate, run_evaluate
from robofuse.evaluate.run import MONITOR, find_monitor
from robofuse.monitor import Monitor
from robofuse.play import fingerprint, load_trained
from robofuse.policies.saving import ZOO
from robofuse.replay.run import Replay, run_replay


@pytest.fixture(scope="module")
def trained():
    return load_trained("grasp", device="cpu")


def test_the_policy_that_comes_along_has_a_monitor(trained, tmp_path):
    found = find_monitor("auto", "grasp", trained)
    assert found.card["weights"] == fingerprint(trained.policy) and found.keys == trained.policy.keys
    assert find_monitor("none", "grasp", trained) is None
    path = found.save(tmp_path / "copy.safetensors")
    assert find_monitor(str(path), "grasp", trained).card == found.card


def test_a_policy_without_its_critic_is_known_again(trained):
    assert fingerprint(load_trained("grasp", device="cpu").policy) == fingerprint(trained.policy)


def test_a_monitor_of_another_policy_is_refused_or_passed_over(trained, tmp_path):
    other = Monitor.load(ZOO / "grasp.monitor")
    other.card["weights"] = "0"
    path = other.save(tmp_path / MONITOR)
    with pytest.raises(ValueError, match="another policy; --monitor auto"):
        find_monitor(str(path), "grasp", trained)
    assert find_monitor("auto", "grasp", trained, [tmp_path]).card["weights"] != "0"
    with pytest.raises(ValueError, match="is no monitor"):
        find_monitor(str(ZOO / "grasp.safetensors"), "grasp", trained)


@pytest.mark.slow
def test_what_nobody_announces_is_found_in_evaluations_and_replays(tmp_path):
    faults = ("rgb:blackout@10?", "rgb:freeze@10")
    asked = Evaluate("grasp", 8, ("all",), faults, monitor="auto", num_envs=24, out=tmp_path, device="cpu")
    assert run_evaluate(asked) == 0
    record = json.loads((tmp_path / "evaluation.json").read_text())
    full, *broken = record["conditions"]
    assert full["watched"] > 100 and full["false_alarms"] <= 1 and full["detected"] is None
    assert all(row["detected"] == 1.0 and row["delay"] <= 2 for row in broken)
    assert record["monitor"]["weights"] == record["policy"]["weights"]
    (last,) = run_replay(
        Replay("grasp", faults=faults[0], monitor="auto", episodes=1, show="no", device="cpu", out=tmp_path / "a.mp4")
    )
    assert last.on == {"depth": True, "force": True, "proprio": True, "rgb": False}
    assert last.off_since["rgb"] in (10, 11, 12)
