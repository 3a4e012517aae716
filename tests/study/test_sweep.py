"""A sweep is a study of trainings that is declared on the command line."""

import csv

import pytest

from robofuse.cli import main
from robofuse.errors import InputError
from robofuse.study.sweep import Sweep, declare
from robofuse.train import Train
from robofuse.train.config import preset

TINY = ["--robot", "gripper", "--sensors", "proprio", "force", "--steps", "160", "--num-envs", "4", "--n-steps", "20",
        "--batch-size", "80", "--validation-episodes", "4", "--teacher", "expert"]  # fmt: skip


def test_what_was_asked_of_a_training_is_what_its_jobs_do():
    study = declare(Sweep(seeds=(3, 4)), preset("quick").replace(task="Reach", lr=0.002))
    assert [job.seed for job in study.jobs()] == [3, 4]
    assert study.base == {"preset": "quick", "task": "Reach", "robot": preset("quick").robot, "lr": 0.002}


def test_every_combination():
    study = declare(Sweep(vary=("remask=0,2", "sensors=rgb+depth,force", "--batch-size=128")), Train())
    found = [(job.options["remask"], job.options["sensors"], job.options["batch_size"]) for job in study.jobs()][:4]
    assert found == [(0, ["rgb", "depth"], 128), (0, ["force"], 128), (2, ["rgb", "depth"], 128), (2, ["force"], 128)]
    assert next(iter(study.methods)) == "remask=0, sensors=rgb+depth, batch_size=128"


def test_ranges_are_searched():
    study = declare(Sweep(vary=("lr=1e-4..1e-3:log", "remask=0..3", "fusion=concat,film"), trials=8), Train())
    assert study.space == {
        "lr": ["float", 1e-4, 1e-3, True],
        "remask": ["int", 0, 3, False],
        "fusion": ["choice", ["concat", "film"]],
    }
    assert len(study.jobs()) == 5


@pytest.mark.parametrize(
    ("sweep", "train", "message"),
    [
        (Sweep(vary=("lr",)), {}, "OPTION=VALUE"),
        (Sweep(vary=("speed=1,2",)), {}, "OPTION=VALUE"),
        (Sweep(vary=("seed=1,2",)), {}, "OPTION=VALUE"),
        (Sweep(vary=("p=0.1..0.5",)), {}, "a range is for --trials"),
        (Sweep(vary=("p=a..b",), trials=3), {}, "a range is of numbers"),
        (Sweep(vary=("p=0.1,7",)), {}, "--p must lie in"),
        (Sweep(vary=("lr=fast",)), {}, "--lr must be float"),
        (Sweep(trials=3), {}, "needs options to --vary"),
        (Sweep(seeds=()), {}, "seeds must be at least one"),
        (Sweep(), {"out": "x"}, "--out of a training"),
        (Sweep(), {"validate_every": 0}, "leave out --validate-every 0"),
    ],
)
def test_mistakes_are_said(sweep, train, message):
    with pytest.raises(InputError, match=message):
        declare(sweep, Train().replace(**train))


@pytest.mark.slow
def test_seeds_of_a_training_from_the_command_line(tmp_path, capsys):
    command = ["train", "Reach", *TINY, "--out", str(tmp_path), "--seeds", "0", "1"]
    assert main(command) == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["seed"] for row in rows] == ["0", "1"] and all(row["steps"] == "160.0" for row in rows)
    assert {"success/all", "success/no-force", "success/worst"} <= set(rows[0])
    assert (tmp_path / "report.html").exists()
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("jobs/*/result.json"))]
    assert main([*command, "2"]) == 0
    after = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("jobs/*/result.json"))]
    assert after[:2] == before and len(after) == 3
    assert len(list(tmp_path.glob("jobs/*/run/*.safetensors"))) >= 3
