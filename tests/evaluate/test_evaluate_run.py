"""`robofuse evaluate`: the folder it writes, going on after an interruption, and refusals."""

import csv
import json
import runpy
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from lab import Fake

from robofuse import cli, policies
from robofuse.evaluate import Evaluate, Report, run, run_evaluate
from robofuse.play import make_world

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
    assert "100.0\N{NO-BREAK SPACE}%" in shown and "44 to 100" in shown and "interrupted" not in shown


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
            {"onset": 60, "conditions": ("midway",)},
            "no-force@60 .*Reach end at control step 60",
        ),
        ({"renderer": "crayon"}, "unknown renderer 'crayon'; renderers: warp, gl"),
        ({"conditions": "all"}, "--conditions must be tuple.*, got 'all'"),
        ({"faults": 5}, "--faults must be tuple.*, got 5"),
        ({"out": "folder"}, "--out must be .*Path.*, got 'folder'"),
        ({"allow_mismatch": "yes"}, "--allow-mismatch must be bool, got 'yes'"),
    ],
)
def test_a_request_that_cannot_be_met_leaves_no_trace(fake, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run_evaluate(ask(tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": 7}, "seed 1000000, now 7.*--out"),
        ({"episodes": 1}, "episode 1 under all"),
        ({"conditions": ("all",)}, "under no-force"),
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
    with pytest.raises(ValueError, match='policy.card .*world.robot "gripper", now "arm".*--out'):
        run_evaluate(ask(tmp_path, episodes=1, conditions=("all",)))


def test_a_folder_of_something_else_is_left_alone(fake, tmp_path):
    (tmp_path / "evaluation.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="evaluation.json .*--out"):
        run_evaluate(ask(tmp_path))
    (tmp_path / "evaluation.json").unlink()
    (tmp_path / "episodes.csv").write_text("mine")
    with pytest.raises(ValueError, match="no evaluation.json"):
        run_evaluate(ask(tmp_path))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_played(fake, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file/out: Not a directory.*--out"):
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
    assert capsys.readouterr().err.splitlines()[-3].startswith("error: unknown condition 'sunny'; groups: singles")


def test_names_of_policies_and_folders(tmp_path):
    path = tmp_path / "run-3" / "best.zip"
    path.parent.mkdir()
    path.touch()
    assert Evaluate(str(path)).folder == Path("evaluation/run-3-best")
    assert Evaluate("grasp").folder == Path("evaluation/grasp")


def test_the_script_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "evaluate.py"), run_name="__main__")
    assert end.value.code == 0 and "--onset" in capsys.readouterr().out


# what was found by trying it


def test_two_evaluations_do_not_share_a_folder(fake, tmp_path):
    refused = []

    def second():
        with pytest.raises(ValueError, match="another evaluation is at work"):
            run_evaluate(ask(tmp_path))
        refused.append(True)

    fake.on_call = {20: second}
    assert run_evaluate(ask(tmp_path)) == 0
    assert refused and len(episodes(tmp_path)) == 9 and not list(tmp_path.glob(".*"))


def test_an_evaluation_that_grows_has_never_fewer_than_four_worlds(fake, tmp_path):
    """Products of fewer rows round differently, and an episode must not depend on how many are asked for."""
    seen = []
    fake.on_call = {1: lambda: seen.append(fake.place.num_envs)}
    assert run_evaluate(ask(tmp_path, episodes=1, conditions=("all",), num_envs=64)) == 0
    fake.calls = 0
    assert run_evaluate(ask(tmp_path, num_envs=64)) == 0
    assert seen == [4, 9]


def test_what_is_left_is_played_in_worlds_for_all(fake, tmp_path):
    seen = []
    fake.break_down(40)
    assert run_evaluate(ask(tmp_path, num_envs=64)) == 130
    left = 9 - len(episodes(tmp_path))
    fake.calls, fake.on_call = 0, {1: lambda: seen.append(fake.place.num_envs)}
    assert run_evaluate(ask(tmp_path, num_envs=64)) == 0
    assert left < 9 and seen == [9]


def test_brackets_in_names_are_printed_as_they_are(fake, tmp_path, capsys):
    folder = tmp_path / "[" / "red] [bold]"
    asked = ask(folder, policy="[bold]fake", seed=7, episodes=1, compare=("other[/]",))
    assert run_evaluate(asked) == 0
    shown = capsys.readouterr().out
    assert "[bold]fake: 3 conditions" in shown and f"wrote {folder}/comparison.csv" in shown.replace("\n", "")


def test_a_disk_that_is_full_in_the_middle_is_told_in_one_line(fake, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "_SAVE_EVERY", 0.0)

    def full(source, target):
        raise OSError(28, "No space left on device")

    fake.on_call = {40: lambda: monkeypatch.setattr("robofuse.files.os.replace", full)}
    words = ["evaluate", "fake", "--episodes", "3", "--conditions", *FEW, "--num-envs", "4", "--out", str(tmp_path)]
    assert cli.main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: cannot write ") and said.endswith("No space left on device")
    assert episodes(tmp_path) and not list(tmp_path.glob(".*"))  # what was saved before, and no drafts


def test_drafts_of_a_killed_evaluation_go(fake, tmp_path):
    (tmp_path / ".episodes.1.draft.csv").touch()
    assert run_evaluate(ask(tmp_path)) == 0 and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("command", [Evaluate, Report])
def test_every_option_has_a_help_text(command):
    assert [one.name for one in fields(command) if f"    {one.name}: " not in command.__doc__] == []
