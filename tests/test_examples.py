"""The examples of things of one's own: short, they run, and commands take them."""

import re
import runpy
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from helpers import BLIND

from robofuse import cli, plugins
from robofuse.envs import ROBOTS, World
from robofuse.policies import FUSIONS, FusionExtractor, load
from robofuse.sensors import Sensor, observation_space

EXAMPLES = Path(__file__).parents[1] / "scripts" / "examples"
LONGEST = {"own_robot": 59, "own_task": 59, "own_encoder": 19, "own_fusion": 19}


pytestmark = pytest.mark.usefixtures("nothing_stays")


def _users_lines(name):
    """Of robot and task the whole file; of encoder and fusion what one writes, without docstrings and demonstration."""
    text = (EXAMPLES / f"{name}.py").read_text()
    if name in ("own_robot", "own_task"):
        return len(text.splitlines())
    text = re.sub(r'""".*?"""', "", text.partition('if __name__ == "__main__"')[0], flags=re.DOTALL)
    return len([line for line in text.splitlines() if line.strip()])


def test_every_example_is_counted():
    assert {path.stem for path in EXAMPLES.glob("own_*.py")} == set(LONGEST)


@pytest.mark.parametrize("name", LONGEST)
def test_examples_are_short_and_say_how_to_use_them(name):
    assert _users_lines(name) <= LONGEST[name]
    docstring = (EXAMPLES / f"{name}.py").read_text().split('"""')[1]
    assert f"python scripts/examples/{name}.py" in docstring
    assert f"--import scripts/examples/{name}.py" in docstring


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_robot", ["Reach: the scripted expert solves 8 of 8", "Grasp: the scripted expert solves", "hand_x"]),
        ("own_task", ["as the critic sees them", "'success': 0.0"]),
        ("own_encoder", ["(rgb): Thumbnail(", "unknown encoder 'thumbnail'"]),
        ("own_fusion", ["features (2, 8)", "same features: True"]),
    ],
)
def test_examples_run(name, says, capsys):
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    told = capsys.readouterr().out
    assert all(words in told for words in says), told


def test_a_task_of_ones_own_is_a_gymnasium_environment_that_can_be_solved():
    plugins.import_plugin(str(EXAMPLES / "own_task.py"))
    env = gym.make("robofuse/Push-v0", robot="gripper", sensors=BLIND)
    env.reset(seed=0)
    assert set(env.step(env.action_space.sample())[4]["reward_terms"]) == {"near", "goal", "success"}
    env.close()
    world = World("Push", 4, robot="gripper", sensors=BLIND, auto_reset=False, num_threads=1)
    world.reset(seed=0)
    # push along the line from the puck to the goal, with closed fingers
    won = torch.zeros(4, dtype=torch.bool)
    for _ in range(world.max_steps):
        truth = world.task.privileged()
        away = -truth[:, 3:] / truth[:, 3:].norm(dim=1, keepdim=True)
        behind = truth[:, :2] + 0.05 * away
        there = (behind.norm(dim=1) < 0.01) | (world.robot.position[:, 2] < 0.04)
        low = torch.where(there, 0.02, 0.08) - world.robot.position[:, 2]
        lowered = there & (world.robot.position[:, 2] < 0.03)
        aim = torch.where(lowered[:, None], -0.02 * away, behind)
        action = torch.cat([aim, low[:, None], torch.zeros(4, 2)], dim=1) / world.robot.model.step
        action[:, 4] = -1.0
        won |= world.step(action.clamp(-1.0, 1.0)).success
    assert won.float().mean() >= 0.75
    world.close()


def test_commands_take_it_all(tmp_path, capsys):
    """A robot, a task, an encoder and a fusion, none of them ours, from training to a policy that is loaded."""
    imports = [argument for name in LONGEST for argument in ("--import", str(EXAMPLES / f"{name}.py"))]
    assert cli.main([*imports[:4], "list"]) == 0
    listed = capsys.readouterr().out
    assert "robofuse/Push-v0" in listed and "four axes over the table" in listed
    out = tmp_path / "run"
    arguments = (
        "train Push --robot gantry --sensors proprio force --fusion strongest --steps 32 --num-envs 2 --n-steps 4"
    )
    arguments += " --batch-size 8 --teacher none --validate-every 0 --encoders window=vector"
    assert cli.main([*arguments.split(), "--out", str(out), *imports]) == 0
    told = capsys.readouterr().out
    assert f"robofuse evaluate {out}/final.safetensors --import" in told and "own_fusion.py" in told
    policy = load(out)
    assert policy.world["task"] == "Push" and type(policy.network.features_extractor.fusion).__name__ == "Strongest"
    assert cli.main(["train", "--resume", str(out), f"--import={EXAMPLES / 'own_task.py'}"]) == 0

    FUSIONS.pop("strongest")
    with pytest.raises(ValueError, match=r"holds no code.*unknown fusion 'strongest'.*register_fusion.*--import FILE"):
        load(out)
    assert cli.main(["replay", str(out), "--episodes", "1"]) == 2
    assert "unknown fusion 'strongest'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--import"], "--import takes the path of a .py file or the name of a module, got nothing"),
        (["--import", "--json"], "--import takes the path of a .py file or the name of a module, got --json"),
        (["--import", "nowhere/mine.py"], "--import nowhere/mine.py: there is no such file"),
        (
            [f"--import={EXAMPLES}/own_tsk.py"],
            "there is no such file; .* has .*own_encoder.py, own_fusion.py, own_robot",
        ),
        (["--import", "no_such_module.tasks"], "no_such_module.tasks: Python finds no module of that name; give the"),
        (["--import", "mine"], "no module of that name; for the file here say --import mine.py"),
        (["--import", "json.py"], "'json' is no name for a module, or another one's; rename the file"),
    ],
)
def test_what_cannot_be_imported_is_named(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "json.py").write_text("")
    assert cli.main(["list", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(says, error), error


def test_mistakes_in_a_file_of_ones_own_keep_their_traceback(tmp_path):
    (tmp_path / "mistaken.py").write_text("import robofuse_nonsense\n")
    with pytest.raises(ModuleNotFoundError, match="robofuse_nonsense"):
        plugins.import_plugin(str(tmp_path / "mistaken.py"))
    assert "mistaken" not in sys.modules
    (tmp_path / "mistaken.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text("there = True\n")
    module = plugins.import_plugin(str(tmp_path / "mistaken.py"))
    assert module.beside.there and plugins.import_plugin(str(tmp_path / "mistaken.py")) is module
    assert plugins.import_options().count("--import") == 1


def test_names_that_are_taken_or_unknown():
    plugins.import_plugin(str(EXAMPLES / "own_robot.py"))
    with pytest.raises(ValueError, match="'gantry' belongs to another.* arm, gripper, gantry"):
        from dataclasses import replace

        from robofuse.envs import register_robot

        register_robot(replace(ROBOTS["gantry"], step=0.01))
    register_robot(replace(ROBOTS["gantry"]))  # the same once more, as in a notebook
    with pytest.raises(ValueError, match="'crane'; robots: arm, .*register_robot.*--import"):
        World("Reach", 1, robot="crane")
    with pytest.raises(ValueError, match="'Pusch'; tasks: Reach, Grasp.*register_task.*--import"):
        World("Pusch", 1)
    sensors = [Sensor("arm", "vector", (3,), "float32", "rad", 1.0, 20.0)]
    with pytest.raises(ValueError, match="'thumbnail'; encoders: rgb, depth, vector, window, .*; register"):
        FusionExtractor(observation_space(sensors), sensors, encoders={"arm": "thumbnail"})
