"""Several training seeds evaluated by one command."""

import csv

import cv2
import numpy as np
import pytest
import torch
from lab import Fake

from robofuse import policies
from robofuse.cli import main
from robofuse.evaluate import Evaluate, run, run_evaluate
from robofuse.evaluate.folder import read_evaluation
from robofuse.evaluate.seeds import by_method, trainings_in
from robofuse.play import make_world


class Idle(Fake):
    """Forgot everything."""

    def act(self, observation):
        return 0.0 * super().act(observation)


class Narrow(Fake):
    """Has one sensor, and stands still."""

    keys = ("proprio",)

    def act(self, observation):
        return torch.zeros(len(observation["available"]), 5)


@pytest.fixture(autouse=True)
def scripted(monkeypatch):
    """Files of seed 1 hold a policy that stands still, others the scripted expert."""
    monkeypatch.setitem(vars(policies), "load", lambda name, device="auto": Idle() if "seed1" in name else Fake())

    def make(trained, *arguments):
        trained.policy.place = make_world(trained, *arguments)
        return trained.policy.place

    monkeypatch.setattr(run, "make_world", make)


@pytest.fixture
def study(tmp_path):
    """Two trainings as a sweep leaves them."""
    for seed in range(2):
        leave(tmp_path / "sweep" / "jobs" / f"remask-2_Reach_seed{seed}" / "run")
    return tmp_path / "sweep"


def leave(folder, *files):
    folder.mkdir(parents=True)
    for file in files or ("best.safetensors", "final.safetensors"):
        (folder / file).touch()


def small(folder, out, **options):
    return Evaluate(str(folder), 6, ("all", "no-force"), out=out, num_envs=4, **options)


def test_a_table_over_the_seeds(study, tmp_path, capsys):
    assert run_evaluate(small(study, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "remask-2_Reach: mean over 2" in said and "seeds.csv, seeds.png" in said
    with (tmp_path / "out/seeds.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["condition"], row["training"]): float(row["success"]) for row in rows}
    one, other = (found["all", f"remask-2_Reach_seed{seed}"] for seed in range(2))
    assert one > 0.9 and other < 0.5 and found["all", "mean"] == pytest.approx((one + other) / 2)
    (mean,) = [row for row in rows if (row["condition"], row["training"]) == ("all", "mean")]
    assert float(mean["success_low"]) == pytest.approx(other) and float(mean["success_high"]) == pytest.approx(one)
    picture = cv2.imdecode(np.fromfile(tmp_path / "out/seeds.png", np.uint8), cv2.IMREAD_COLOR)
    assert picture.std() > 5
    assert run_evaluate(small(study, tmp_path / "out")) == 0  # nothing is played again
    assert capsys.readouterr().out.count("episodes are already in") == 2


def test_trainings_beside_each_other(tmp_path):
    for seed in (0, 3):
        leave(tmp_path / f"seed-{seed}")
    found = trainings_in(str(tmp_path))
    assert [*found] == ["seed-0", "seed-3"] and by_method([*found]) == {"seeds": ["seed-0", "seed-3"]}
    assert by_method(["a_seed0", "a_seed1", "b_seed0"]) == {"a": ["a_seed0", "a_seed1"], "b": ["b_seed0"]}
    assert trainings_in(str(tmp_path / "seed-0")) == trainings_in("grasp") == {}
    leave(tmp_path / "never-validated", "final.safetensors", "config.json")
    assert trainings_in(str(tmp_path))["never-validated"].name == "final.safetensors"
    leave(tmp_path / "alone", "config.json")  # a training that was stopped, after its teacher
    leave(tmp_path / "alone" / "teacher")
    assert trainings_in(str(tmp_path / "alone")) == {}


def test_one_training_tells_no_interval(study, tmp_path, capsys):
    leave(study / "jobs" / "remask-0_Reach_seed0" / "run")
    assert run_evaluate(small(study, tmp_path / "out")) == 0
    assert "remask-0_Reach: mean over 1" in capsys.readouterr().out
    with (tmp_path / "out/seeds.csv").open() as file:
        (mean,) = [row for row in csv.DictReader(file) if (row["condition"], row["method"], row["training"])
                   == ("all", "remask-0_Reach", "mean")]  # fmt: skip
    assert mean["n"] == "1" and mean["success_low"] == mean["success_high"] == ""


def test_the_first_training_may_have_fewer_sensors(study, tmp_path, monkeypatch):
    def loaded(name, device="auto"):
        return Narrow(sensors=["proprio"]) if "seed0" in name else Fake()

    monkeypatch.setitem(vars(policies), "load", loaded)
    assert run_evaluate(small(study, tmp_path / "out")) == 0
    found = [read_evaluation(tmp_path / "out" / f"remask-2_Reach_seed{seed}") for seed in range(2)]
    assert found[0].conditions.keys() == found[1].conditions.keys() == {"all", "no-force"}
    assert [one.label for one in found] == ["remask-2_Reach_seed0-best", "remask-2_Reach_seed1-best"]


def test_what_does_not_fit_is_refused(study, tmp_path):
    with pytest.raises(ValueError, match="holds 2 trainings, which are compared anyway"):
        run_evaluate(small(study, tmp_path / "out", compare=("grasp",)))
    (study / "jobs/remask-2_Reach_seed2/run").mkdir(parents=True)
    with pytest.raises(ValueError, match="remask-2_Reach_seed2 not finished; finish"):
        run_evaluate(small(study, tmp_path / "out"))
    leave(tmp_path / "alone" / "run-1")
    with pytest.raises(ValueError, match="holds one training; evaluate .*run-1"):
        run_evaluate(small(tmp_path / "alone", tmp_path / "out"))


@pytest.mark.slow
def test_what_train_with_seeds_leaves_is_evaluated(tmp_path, monkeypatch, capsys):
    monkeypatch.undo()  # real policies
    monkeypatch.chdir(tmp_path)
    options = "--robot gripper --sensors proprio force --steps 160 --num-envs 4 --n-steps 20 --batch-size 80"
    asked = f"train Reach {options} --validation-episodes 4 --teacher none --seeds 0 1 2 --out sweep".split()
    assert main(asked) == 0
    words = ["evaluate", "sweep", "--episodes", "4", "--num-envs", "4"]
    assert main(words) == 0
    first = (tmp_path / "evaluation/sweep/seeds.csv").read_bytes()
    assert "seeds: mean over 3" in capsys.readouterr().out
    assert main(words) == 0  # all is there
    assert capsys.readouterr().out.count("20 episodes are already in") == 3
    assert (tmp_path / "evaluation/sweep/seeds.csv").read_bytes() == first
    assert main(["report", "evaluation/sweep", "--out", "report.html"]) == 0
    assert "seed2-best" in (tmp_path / "report.html").read_text()
