"""Several training seeds evaluated by one command."""

import csv

import cv2
import numpy as np
import pytest
from lab import Fake

from robofuse import policies
from robofuse.evaluate import Evaluate, run, run_evaluate
from robofuse.evaluate.seeds import by_method, trainings_in
from robofuse.play import make_world


class Idle(Fake):
    """Forgot everything."""

    def act(self, observation):
        return 0.0 * super().act(observation)


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


def leave(folder):
    folder.mkdir(parents=True)
    (folder / "best.safetensors").touch()


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


def test_what_does_not_fit_is_refused(study, tmp_path):
    with pytest.raises(ValueError, match="holds 2 trainings, which are compared anyway"):
        run_evaluate(small(study, tmp_path / "out", compare=("grasp",)))
    (study / "jobs/remask-2_Reach_seed2/run").mkdir(parents=True)
    with pytest.raises(ValueError, match="no policy yet of remask-2_Reach_seed2; finish"):
        run_evaluate(small(study, tmp_path / "out"))
    leave(tmp_path / "alone" / "run-1")
    with pytest.raises(ValueError, match="holds one training; evaluate .*run-1"):
        run_evaluate(small(tmp_path / "alone", tmp_path / "out"))
