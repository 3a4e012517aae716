"""Time to success from learning curves, and a tiny real benchmark that is interrupted and goes on."""

import csv
import json
import math

import numpy as np
import pytest

from robofuse.errors import InputError, StateError
from robofuse.stats import wilson
from scripts.bench import learn
from scripts.bench.__main__ import main
from scripts.bench.curves import NEVER, WORST, Point, band, draw, time_to, times
from scripts.bench.learn import LearnBench, bench_learn, read_curve
from scripts.bench.tables import learn_table


def curve(*rates, teacher=10.0, worst=None):
    """A validation every 100 s of training, each of 20 s."""
    points = enumerate(zip(rates, worst or rates, strict=True), start=1)
    return [
        Point(1000 * i, teacher, 100.0 * i, 20.0 * i, {"all": x, "no-rgb": low, "no-force": min(1.0, low + 0.1)})
        for i, (x, low) in points
    ]


def test_time_counts_teacher_training_and_validation_until_the_result_is_there():
    found = curve(0.5, 0.95, 0.7, 1.0)
    assert found[1].seconds == 10.0 + 200.0 + 40.0
    assert time_to(found, "all", 0.8, 64) == 250.0  # the first time; what comes after it does not matter
    assert time_to(found, "all", 0.5, 64) == 250.0
    assert time_to(found, "all", 0.0, 64) == 130.0


def test_the_lower_wilson_bound_must_pass():
    for count in range(65):
        passed = time_to(curve(count / 64), "all", 0.9, 64) < NEVER
        assert passed == (wilson(count, 64)[0] >= 0.9) == (count >= 63)
    assert time_to(curve(0.95), "all", 0.9, 64) == NEVER
    assert time_to(curve(0.95), "all", 0.9, 400) == 130.0


def test_the_worst_loss_is_that_of_each_validation():
    found = curve(1.0, 1.0, 1.0, worst=(0.2, 0.9, 0.95))
    assert [point.rate(WORST) for point in found] == [0.2, 0.9, 0.95]
    turned = [found[0], found[1]._replace(success={"all": 1.0, "no-rgb": 1.0, "no-force": 0.0})]
    assert turned[1].rate(WORST) == 0.0
    assert time_to(found, WORST, 0.8, 64) == 250.0
    assert time_to(turned, WORST, 0.1, 64) == 130.0


@pytest.mark.parametrize(
    ("reached", "expected"),
    [((1, 2, 3), 250.0), ((1, 2, None), 250.0), ((1, None, None), None), ((1, 2), 190.0), ((1, None), None)],
)
def test_median_over_seeds_where_some_never_reach(reached, expected):
    """A seed that never reached it counts as later than any; with two in the middle of which one never did, never."""
    curves = {
        seed: curve(*(1.0 if when is not None and i >= when else 0.0 for i in (1, 2, 3)))
        for seed, when in enumerate(reached)
    }
    row = times({"ours": curves}, 64)[0]
    assert (row["contender"], row["which"], row["threshold"]) == ("ours", "all", 0.8)
    assert row["reached"] == sum(when is not None for when in reached)
    assert row["median"] == expected
    assert row["seconds"] == {str(k): None if when is None else 10.0 + 120.0 * when for k, when in enumerate(reached)}
    json.dumps(row, allow_nan=False)


def test_band_is_median_and_range_to_the_end_of_the_shortest():
    curves = [curve(0.2, 0.4), curve(0.4, 0.8), curve(0.6, 1.0, 1.0)]
    x, middle, low, high = band(curves, "all", 251)
    assert x[-1] == 250.0
    assert (middle[:11] == 0.0).all()  # the teacher's training
    at = {seconds: int(np.argmin(abs(x - seconds))) for seconds in (70, 130, 190, 250)}
    assert [round(float(middle[i]), 6) for i in at.values()] == [0.2, 0.4, 0.6, 0.8]
    assert (low[at[130]], high[at[130]]) == pytest.approx((0.2, 0.6))
    assert ((low <= middle) & (middle <= high)).all()


def test_table_and_picture(tmp_path):
    curves = {"ours": {0: curve(0.5, 1.0), 1: curve(1.0, 1.0)}, "sb3": {0: curve(0.0, 0.1, teacher=0.0)}}
    table = learn_table({"times": times(curves, 64), "config": {"episodes": 64}})
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["ours", "sb3"] and columns[1] == ["190 (2 of 2)", "never (0 of 1)"]
    assert draw(curves, "title", tmp_path / "learn.png").read_bytes().startswith(b"\x89PNG")


def test_validations_of_a_run_are_read(tmp_path):
    head = "step,score,all,no-force,only-force,seconds,validation_seconds\n"
    (tmp_path / "validation.csv").write_text(head + "800,0.4,0.5,0.25,0.1,12.5,3.0\n1600,0.9,1.0,0.75,0.1,25.0,6.5\n")
    found = read_curve(tmp_path, 7.0)
    assert found[0] == Point(800, 7.0, 12.5, 3.0, {"all": 0.5, "no-force": 0.25})
    assert found[1].seconds == 38.5 and found[1].rate(WORST) == 0.75


def test_contenders_differ_in_what_they_say(tmp_path):
    config = LearnBench(out=tmp_path)
    options = {name: learn._options(config, name) for name in config.contenders}
    assert options["no-remask"].learning.remask == options["zeros"].learning.remask == 0
    assert options["no-dropout"].masking.dropout == "none" and options["no-dropout"].learning.remask == 0
    assert options["zeros"].network.masked_as == "zeros"
    assert options["zeros"].masking == options["ours"].masking
    assert options["sb3"].learning.teacher == "none" and options["sb3"].scenes.image_size >= 36
    assert len({one.steps for one in options.values()}) == 1
    assert all(one.records.validation_episodes == 64 for one in options.values())


@pytest.mark.slow
def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Without training: what is finished is not done again, and what is missing is done in order."""
    done, patience = [], [3]

    def train(options, folder):
        if len(done) == patience[0]:
            raise StateError("stopped; the same command goes on from here")
        done.append(folder.name)
        return curve(0.5, 1.0)

    monkeypatch.setattr(learn, "_train", train)
    config = LearnBench(contenders=("no-dropout", "zeros"), seeds=2, out=tmp_path / "all", threads=1)
    with pytest.raises(StateError, match="stopped"):
        bench_learn(config)
    assert done == ["no-dropout-0", "zeros-0", "no-dropout-1"]
    patience[0] = math.inf
    result = bench_learn(config)
    assert done == ["no-dropout-0", "zeros-0", "no-dropout-1", "zeros-1"]
    assert json.loads((tmp_path / "all/learn.json").read_text()) == json.loads(json.dumps(result))
    assert [row["reached"] for row in result["times"]] == [2] * 8
    rows = list(csv.DictReader((tmp_path / "all/learn.csv").read_text().splitlines()))
    assert len(rows) == 8 and rows[1]["seconds"] == "250.0" and rows[1]["worst"] == "1.0"
    assert bench_learn(config)["times"] == result["times"] and len(done) == 4
    with pytest.raises(InputError, match="--episodes 64, now 32"):
        bench_learn(LearnBench(contenders=("zeros",), episodes=32, out=tmp_path / "all"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "error: --seeds must be"),
        (["--episodes", "0"], "error: --episodes must be"),
        (["--preset", "slow"], "error: unknown preset 'slow'"),
        (["--steps", "0"], "error: --steps must be"),
        (["--preset", "teacher"], "error: --preset teacher has one sensor alone"),
        (["--robot", "octopus"], "error: unknown robot 'octopus'"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(arguments, message, tmp_path, capsys):
    assert main(["learn", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*-0*"))  # so that the right options may follow


@pytest.mark.slow
def test_a_tiny_benchmark(tmp_path, needs_gl, capsys):
    """Ours and SB3's PPO, a few updates each, with all files."""
    needs_gl()
    out = tmp_path / "out"
    arguments = ["--contenders", "ours", "sb3", "--task", "Reach", "--steps", "3200", "--seeds", "1", "--out", str(out)]
    arguments += ["--num-envs", "16", "--episodes", "4", "--validate-every", "1600", "--threads", "1"]
    assert main(["learn", *arguments]) == 0
    result = json.loads((out / "learn.json").read_text())
    assert [run["contender"] for run in result["runs"]] == ["ours", "sb3"]
    for run in result["runs"]:
        seconds = [point["training"] for point in run["curve"]]
        assert [point["step"] for point in run["curve"]] == [1600, 3200]
        assert 0.0 < seconds[0] < seconds[1] and run["curve"][0]["validation"] > 0.0
        assert set(run["curve"][0]["success"]) == {"all", "no-rgb", "no-depth", "no-proprio", "no-force"}
    assert {path.name for path in out.iterdir()} >= {"learn.json", "learn.csv", "learn.png", "ours-0.json", "ours-0"}
    assert "seconds until" in capsys.readouterr().out
