import inspect
import json
from dataclasses import fields
from pathlib import Path

import pytest
from stable_baselines3 import PPO
from test_train_run import SMALL

from robofuse import cli
from robofuse.policies import FusionActorCriticPolicy, FusionPPO
from robofuse.train import Train, split_defaults
from robofuse.train.config import Learning, preset


def test_explicit_options_win_over_presets(monkeypatch):
    monkeypatch.setattr("robofuse.train.config.PRESETS", {"default": {}, "tuned": {"lr": 1e-3, "robot": "gripper"}})
    assert split_defaults(["Reach", "--preset=tuned"])[0].learning.lr == 1e-3
    seen = []
    monkeypatch.setattr("robofuse.train.run_train", lambda config: seen.append(config) or 0)
    assert cli.main(["train", "Reach", "--lr", "4e-4", "--preset", "tuned", "--sensors", "rgb", "force"]) == 0
    assert (seen[0].learning.lr, seen[0].robot, seen[0].task) == (4e-4, "gripper", "Reach")
    assert seen[0].scenes.sensors == ("rgb", "force") and seen[0].preset == "tuned"
    with pytest.raises(ValueError, match="unknown preset 'fast'"):
        split_defaults(["--preset", "fast"])


def test_options_survive_json():
    config = SMALL.replace(out=Path("a"), rates=("rgb=0.1",), target_kl=0.02)
    assert Train.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="unknown option 'learning_rate'"):
        config.replace(learning_rate=1)


def test_every_number_of_ppo_has_one_default():
    """Those of FusionPPO; where a teacher changes them, they come back with the preset `alone`."""
    ppo = {**inspect.signature(PPO).parameters, **inspect.signature(FusionPPO).parameters}
    renamed = {"lr": "learning_rate", "epochs": "n_epochs", "clip": "clip_range"}
    own = ("lr_schedule", "lr_final", "clip_final", "ent_final", "teacher", "teacher_steps")
    own = (*own, "sensor_weights", "regularisers", "augment")  # texts here, mappings there
    options = dict(preset("alone").items())
    for option in fields(Learning):
        if option.name not in own:
            assert options[option.name] == ppo[renamed.get(option.name, option.name)].default, option.name
    policy = inspect.signature(FusionActorCriticPolicy).parameters
    assert options["log_std_init"] == policy["log_std_init"].default and options["hidden"] == policy["net_arch"].default
    assert Train() == preset("default")  # the same from Python and on the command line


def test_arguments_are_read_once():
    config, rest = split_defaults(["Reach", "--lr", "1e-4", "--preset", "quick", "--out=x"])
    assert config == preset("quick") and rest == ["Reach", "--lr", "1e-4", "--out=x"]
