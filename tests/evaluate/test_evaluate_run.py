"""`robofuse evaluate`: the folder it writes, going on after an interruption, and refusals."""

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from lab import Fake

from robofuse import cli, play, policies
from robofuse.envs import World
from robofuse.envs.cameras import resolve
from robofuse.evaluate import Evaluate, run, run_evaluate
from robofuse.play import Trained, fingerprint, load_trained, make_world
from robofuse.policies import FusionActorCriticPolicy
from robofuse.policies.saving import save

FEW = ("all", "no-force", "no-proprio@1")


@pytest.fixture
def fake(monkeypatch):
    """A policy named `fake`, which learns of its world when it is made."""
    policy = Fake()
    monkeypatch.setitem(vars(policies), "load", lambda name, device="auto": policy)

    def make(*arguments, **options):
        policy.place = make_world(*arguments, **options)
        return policy.place

    monkeypatch.setattr(run, "make_world", make)
    return policy


def ask(folder, **options):
    return Evaluate(**{"policy": "fake", "episodes": 3, "conditions": FEW, "num_envs": 4, "out": folder} | options)


def episodes(folder):
    with (folder / "episodes.csv").open() as lines:
        return list(csv.DictReader(lines))


def record(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_the_folder_holds_everything(fake, tmp_path, capsys):
    folder = tmp_path / "deep" / "down"
    assert run_evaluate(ask(folder)) == 0
    assert {path.name for path in folder.iterdir()} == {
        *("evaluation.json", "episodes.csv", "conditions.csv", "heatmap.png")
    }
    found = record(folder)
    assert found["complete"] and found["scenes"] == 3 and found["seed"] == 1_000_000
    assert found["policy"]["card"] == {"algorithm": "script"} and found["world"]["task"] == "Reach"
    assert found["machine"]["cores"] >= 1 and found["versions"]["mujoco"] and found["seconds"] > 0
    assert found["command"] == (
        f"robofuse evaluate fake --episodes 3 --conditions all no-force no-proprio@1 --num-envs 4 --out {folder}"
    )
    all_alive, slow, late = found["conditions"]
    assert all_alive["success"] == all_alive["retention"] == 1.0 and all_alive["difference"] is None
    assert slow["live"] == ["proprio"] and slow["dead_from"] == {"force": 0} and slow["n"] == 3
    assert late["success"] == 0.0 and late["difference"] == -1.0 and late["dead_from"] == {"proprio": 1}
    rows = episodes(folder)
    assert len(rows) == 9 and [row["condition"] for row in rows[:4]] == ["all"] * 3 + ["no-force"]
    assert sum(int(row["success"]) for row in rows) == 6 and rows[-1]["steps"] == "60"
    with (folder / "conditions.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert table[2]["dead_from"] == "proprio@1" and table[0]["live"] == "force+proprio"
    shown = capsys.readouterr().out
    assert "3 conditions × 3 episodes of Reach with the gripper" in shown and "no-proprio@1" in shown
    assert "100.0 %" in shown and "44 to 100" in shown and "interrupted" not in shown


def test_an_interruption_loses_nothing(fake, tmp_path, capsys):
    assert run_evaluate(ask(tmp_path / "whole")) == 0
    calls, part = fake.calls, tmp_path / "part"
    fake.break_down(calls + 40)
    assert run_evaluate(ask(part)) == 130
    shown = capsys.readouterr().out
    done = len(episodes(part))
    assert 0 < done < 9 and f"interrupted: {done} of 9 episodes are kept in {part}; the same command" in shown
    assert record(part)["complete"] is False and record(part)["scenes"] == record(part)["conditions"][0]["n"]
    fake.calls = 0
    assert run_evaluate(ask(part)) == 0
    assert f"{done} episodes are already in {part}" in capsys.readouterr().out
    assert fake.calls < calls and record(part)["complete"]
    for name in ("episodes.csv", "conditions.csv", "heatmap.png"):
        assert (part / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_complete_is_not_played_again_and_may_grow(fake, tmp_path):
    run_evaluate(ask(tmp_path, episodes=1, conditions=("all",)))
    calls = fake.calls
    assert run_evaluate(ask(tmp_path, episodes=1, conditions=("all",), num_envs=2)) == 0 and fake.calls == calls
    assert run_evaluate(ask(tmp_path, episodes=2, conditions=("all", "no-force"))) == 0
    assert len(episodes(tmp_path)) == 4 and fake.calls > calls


def test_an_interruption_before_anything_is_finished(fake, tmp_path, capsys):
    fake.break_down(2)
    assert run_evaluate(ask(tmp_path)) == 130
    assert episodes(tmp_path) == [] and record(tmp_path)["conditions"][0]["success"] is None
    assert "0 of 9 episodes are kept" in capsys.readouterr().out


def test_results_are_saved_while_it_runs(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_SAVE_EVERY", 0.0)
    seen = []
    fake.on_call = {40: lambda: seen.append(len(episodes(tmp_path)))}
    run_evaluate(ask(tmp_path))
    assert 0 < seen[0] < 9 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"episodes": 0}, "episodes must be an integer of at least 1, got 0"),
        ({"num_envs": 0}, "num_envs must be an integer of at least 1"),
        ({"seed": -1}, "seed must lie in"),
        ({"conditions": ("bright",)}, "unknown condition 'bright'; groups"),
        (
            {"die_at": 60, "conditions": ("midway",)},
            "no-force@60 never happens: episodes of Reach end at control step 60",
        ),
        ({"renderer": "crayon"}, "unknown renderer 'crayon'; renderers: warp, gl"),
    ],
)
def test_a_request_that_cannot_be_met_leaves_no_trace(fake, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run_evaluate(ask(tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": 7}, "holds another evaluation: seed 1000000, now 7; give another --out"),
        ({"episodes": 1}, "holds episode 1 under all, which is not asked for now"),
        ({"conditions": ("all",)}, "under no-force, which is not asked for now"),
    ],
)
def test_another_evaluation_is_not_overwritten(fake, tmp_path, options, message):
    run_evaluate(ask(tmp_path, episodes=2, conditions=("all", "no-force")))
    before = (tmp_path / "episodes.csv").read_bytes()
    with pytest.raises(ValueError, match=message):
        run_evaluate(ask(tmp_path, **{"episodes": 2, "conditions": ("all", "no-force")} | options))
    assert (tmp_path / "episodes.csv").read_bytes() == before


def test_another_policy_does_not_add_to_the_first(fake, tmp_path):
    run_evaluate(ask(tmp_path, episodes=1, conditions=("all",)))
    fake.card = {"algorithm": "magic"}
    fake.world["robot"] = "arm"
    with pytest.raises(ValueError, match='policy.card .*; world.robot "gripper", now "arm"; give another --out'):
        run_evaluate(ask(tmp_path, episodes=1, conditions=("all",)))


def test_a_folder_of_something_else_is_left_alone(fake, tmp_path):
    (tmp_path / "evaluation.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="evaluation.json is not an evaluation: .*; give another --out"):
        run_evaluate(ask(tmp_path))
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "episodes.csv").write_text("mine")
    with pytest.raises(ValueError, match="has an episodes.csv but no evaluation.json"):
        run_evaluate(ask(tmp_path))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_played(fake, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write to .*file/out: Not a directory; give another --out"):
        run_evaluate(ask(tmp_path / "file" / "out"))
    assert not fake.calls


def test_another_renderer_is_told_and_recorded(fake, tmp_path, capsys, monkeypatch):
    def check(sensors, renderer="warp"):
        if renderer != "warp":
            raise ValueError(f"trained with warp, not {renderer}")

    monkeypatch.setattr(fake, "check", check)
    with pytest.raises(ValueError, match="trained with warp, not gl"):
        run_evaluate(ask(tmp_path, renderer="gl"))
    options = {"renderer": "gl", "allow_mismatch": True, "episodes": 1, "conditions": ("all",), "seed": 3}
    assert run_evaluate(ask(tmp_path, **options)) == 0  # the fake has no camera: nothing is drawn
    assert (
        record(tmp_path)["note"] == "pictures of gl, trained on warp" and record(tmp_path)["world"]["renderer"] == "gl"
    )
    shown = capsys.readouterr().out
    assert "note: pictures of gl, trained on warp" in shown and "seeds below 1000 are for training" in shown


def test_the_command_line(fake, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "fake", "--episodes", "1", "--conditions", "all", "no-force", "--num-envs", "2"]
    assert cli.main(words) == 0
    assert record(tmp_path / "evaluation" / "fake")["complete"]
    assert cli.main(["evaluate", "fake", "--conditions", "sunny"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: unknown condition 'sunny'; groups: standard")


def test_names_of_policies_and_folders(tmp_path):
    path = tmp_path / "run-3" / "best.zip"
    path.parent.mkdir()
    path.touch()
    assert Evaluate(str(path)).folder == Path("evaluation/run-3-best")
    assert Evaluate("grasp").folder == Path("evaluation/grasp")


def test_a_world_such_as_the_file_describes():
    fake = Fake(
        sensors=["rgb"],
        cameras=[{"name": "low", "position": [0.5, 0.0, 0.1], "size": [8, 10]}],
        noise={"rgb": 0.0},
        timing={"rgb_low": {"delay": 1}},
        privileged=True,
        num_envs=9,
    )
    fake.keys = ("rgb_low",)
    policies_world = {key: value for key, value in fake.world.items() if key not in play._OWN}
    world = make_world(Trained(fake, policies_world), 2, 1)
    assert world.num_envs == 2 and world.reset()["rgb_low"].shape == (2, 8, 10, 3) and not world.auto_reset
    world.close()
    fake.keys = ("depth", "rgb_low")
    with pytest.raises(ValueError, match="other sensors"):
        make_world(Trained(fake, policies_world), 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gravity": 1.0}, "world of policy '' has the option 'gravity', which .* knows task, robot, sensors"),
        ({"noise": {"rgbd": 1.0}}, r"noise of .* is {'rgbd': 1.0}; what robofuse knows there: rgb, depth"),
        ({"timing": {"force": {"late": 1}}}, "timing of force of .*'late': 1}; .*: update_interval, delay"),
        ({"timing": [1]}, r"timing of .* must be given by sensor, got \[1\]"),
        ({"cameras": [{"place": 1}]}, "a camera is described by name, position.*{'place': 1}"),
        ({"sensors": 5}, "sensors must be different names out of .*; got 5"),
    ],
)
def test_what_a_file_says_of_its_world_is_checked(options, message):
    fake = Fake(**options)
    with pytest.raises(ValueError, match=message):
        make_world(Trained(fake, fake.world), 1, 1)


def test_a_policy_without_pictures_takes_any_renderer(policy_without_pictures):
    assert load_trained(policy_without_pictures, renderer="gl").options["renderer"] == "gl"
    with pytest.raises(ValueError, match="unknown renderer 'crayon'"):
        load_trained(policy_without_pictures, renderer="crayon")


@pytest.fixture
def policy_without_pictures(tmp_path):
    world = make_world(Trained(fake := Fake(), fake.world), 1, 1)
    network = FusionActorCriticPolicy(
        world.observation_space,
        world.action_space,
        lambda _: 0.0,
        net_arch=[8],
        features_extractor_kwargs={"sensors": world.sensors, "token_dim": 8},
    )
    world.close()
    return str(save(network, tmp_path / "blind.safetensors", fake.world))


def test_weights_have_a_fingerprint():
    fake = Fake()
    assert fingerprint(fake) is None
    fake.network = torch.nn.Linear(2, 1)
    before = fingerprint(fake)
    assert len(before) == 64 and fingerprint(fake) == before
    with torch.no_grad():
        fake.network.bias += 1e-6
    assert fingerprint(fake) != before


def test_the_script_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "evaluate.py"), run_name="__main__")
    assert end.value.code == 0 and "--die-at" in capsys.readouterr().out


def test_where_gl_does_not_work_warp_draws_and_it_is_told(monkeypatch):
    def no_gl(*_, **__):
        raise RuntimeError("no library")

    assert load_trained("grasp").options["renderer"] == "gl"
    monkeypatch.setattr("robofuse.envs.World", no_gl)
    trained = load_trained("grasp")
    assert trained.options["renderer"] == "warp" and "does not work here (no library)" in trained.note


def test_a_policy_files_options_make_its_world(tmp_path):
    from robofuse.train import Train
    from robofuse.train.build import world_options

    told = json.loads(
        json.dumps(world_options(Train("Reach").replace(robot="gripper", image_size=20, renderer="warp")))
    )
    world = World(**told)
    assert [vars(camera) for camera in world.cameras] == [vars(camera) for camera in resolve(("scene",), 20)]
    world.close()
    with pytest.raises(ValueError, match="a camera is described by name"):
        World(**told | {"cameras": [{"name": "scene", "place": 1}]})
