"""`robofuse budget`: which sensors to read for so many milliseconds or watts."""

import json
import sys
from itertools import combinations

import gymnasium as gym
import numpy as np
import pytest
from exporting import FORCE, PROPRIO, make, observe
from helpers import BLIND
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

from robofuse import cli
from robofuse.envs import World
from robofuse.evaluate import Budget, Subset, budget, efficient, pareto, pick, run_budget
from robofuse.evaluate.timing import eager_call, exported_call, one_core, take_turns
from robofuse.export import export
from robofuse.export.make import exported
from robofuse.policies.saving import save
from robofuse.stats import wilson

PLACE = {"task": "Reach", "robot": "gripper", "sensors": list(BLIND)}
KNOWN = [
    Subset(("force",), 0.0, 0.05, 0.0),
    Subset(("rgb",), 0.9, 0.12, 1.8),
    Subset(("depth",), 0.9, 0.10, 2.5),
    Subset(("force", "rgb"), 0.9, 0.13, 1.8),  # rgb alone is as good, and faster
    Subset(("depth", "rgb"), 0.95, 0.17, 4.3),
    Subset(("depth", "force", "rgb"), 0.95, 0.19, 4.3),
]
SETS = st.builds(
    Subset, st.just(("x",)), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 4).map(float), st.integers(0, 3)
)


def test_the_front_of_known_sets():
    assert efficient(KNOWN) == [True, True, True, False, True, False]
    free = [one._replace(cost=0.0) for one in KNOWN]
    assert efficient(free) == [True, False, True, False, True, False]
    assert efficient([KNOWN[1], KNOWN[1]._replace(live=("ir",))]) == [True, True]  # equals do not shut each other out


@given(st.lists(SETS, min_size=1, max_size=12))
def test_nothing_dominates_the_front_and_the_front_dominates_the_rest(rows):
    front = [one for one, good in zip(rows, efficient(rows), strict=True) if good]
    for one, good in zip(rows, efficient(rows), strict=True):
        better = [other for other in front if other.dominates(one)]
        assert bool(better) != good
        for other in better:
            assert other.success >= one.success and other.ms <= one.ms and other.cost <= one.cost


@given(st.lists(SETS, min_size=1, max_size=12), st.none() | st.integers(1, 4), st.none() | st.integers(0, 3))
def test_what_is_picked_is_efficient_and_fits(rows, ms, max_cost):
    fits = [one for one in rows if (ms is None or one.ms <= ms) and (max_cost is None or one.cost <= max_cost)]
    if not fits:
        with pytest.raises(ValueError, match="nothing fits --m.* the cheapest"):
            pick(rows, ms, max_cost)
        return
    chosen = pick(rows, ms, max_cost)
    assert chosen in fits and chosen.success == max(one.success for one in fits)
    assert dict(zip(rows, efficient(rows), strict=True))[chosen]


@pytest.mark.parametrize(
    "asked, live",
    [
        ({}, ("depth", "rgb")),
        ({"ms": 0.17}, ("depth", "rgb")),
        ({"ms": 0.15}, ("depth",)),  # as good as rgb, and faster
        ({"max_cost": 2.0}, ("rgb",)),
        ({"ms": 0.11, "max_cost": 2.0}, ("force",)),
    ],
)
def test_the_best_within_the_budget(asked, live):
    assert pick(KNOWN, **asked).live == live


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ({"ms": 0.01}, "nothing fits --ms 0.01: the cheapest is depth, 0.1 ms"),
        ({"max_cost": 1.0}, "nothing fits --max-cost 1: the cheapest is rgb, 1.8"),
        ({"ms": 0.1, "max_cost": 2}, "nothing fits --ms 0.1: the cheapest of what fits --max-cost 2 is rgb, 0.12 ms"),
    ],
)
def test_where_nothing_fits_the_cheapest_is_named(asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        pick(KNOWN[1:], **asked)


def test_what_is_timed_is_the_action_without_those_sensors():
    sensors = (FORCE, PROPRIO)
    policy, seen = make(sensors, maskable=["force"]), observe(sensors=sensors)
    deployed = exported(policy).deployed
    both, one = exported_call(deployed, seen, ())(), exported_call(deployed, seen, ("force",))()
    assert np.array_equal(both, deployed(seen)) and np.array_equal(one, deployed(seen | {"available": [0, 1]}))
    np.testing.assert_allclose(eager_call(policy, seen, (), ["proprio"])()[0], both, atol=1e-4)
    np.testing.assert_allclose(eager_call(policy, seen, ("force",), ["proprio"])()[0], one, atol=1e-4)
    assert not np.array_equal(both, one) and deployed.off == ()


def test_contenders_take_turns():
    order = []
    with one_core():
        taken = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, calls=5, rounds=2)
    assert "".join(order) == "aaabbbaaaabbbb"  # the first of each turn does not count
    assert 0.0 < taken["a"]["wall"]["p50"] <= taken["a"]["wall"]["p99"] and set(taken["b"]) == {"wall", "cpu"}


def test_no_label_covers_another_or_leaves_the_picture(monkeypatch):
    keys = ("depth", "force", "proprio", "rgb")
    sets = [live for count in range(1, 5) for live in combinations(keys, count)]
    cost = {"depth": 0.05, "rgb": 0.06, "force": 0.005, "proprio": 0.004}
    points = [
        pareto.Priced("+".join(live), 0.05 + sum(cost[key] for key in live), won / 50, wilson(won, 50), won == 50)
        for live in sets
        for won in [50 - len(live) % 3 if {"depth", "rgb"} & {*live} else 0]
    ]
    drawn = []
    monkeypatch.setattr(pareto, "to_png", lambda figure, title: drawn.append(figure))
    pareto.draw_budget(points, "$x$: success", ms=0.13)
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}  # without the line to the mark
    assert set(boxes) == {point.label for point in points}
    for a, b in combinations(boxes, 2):
        assert not boxes[a].shrunk(0.95, 0.8).overlaps(boxes[b].shrunk(0.95, 0.8)), (a, b)
    assert all(axes.bbox.padded(2).containsx(x) for box in boxes.values() for x in (box.x0, box.x1))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A policy of the gripper with random weights that can do without force, exported."""
    folder = tmp_path_factory.mktemp("budget")
    world = World(num_envs=1, **PLACE)
    network = make(world.sensors, gym.spaces.Box(-1, 1, (5,), np.float32), maskable=["force"]).network
    world.close()
    return export(str(save(network, folder / "blind.safetensors", PLACE)), folder / "blind.onnx")


FEW = {"episodes": 1, "num_envs": 4, "calls": 3}


@pytest.fixture(scope="module")
def done(file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget") / "out"
    assert run_budget(Budget(str(file), ms=1e3, cost=("force=0.5", "proprio=2"), out=folder, **FEW)) == 0
    return folder


def test_a_policy_is_played_timed_and_told(file, done, capsys):
    found = json.loads((done / "budget.json").read_text())
    assert [sorted(one["live"]) for one in sorted(found["sets"], key=lambda one: one["cost"])] == [
        ["proprio"],
        ["force", "proprio"],
    ]  # never without proprio, which it cannot do without
    (chosen,) = (one for one in found["sets"] if one["chosen"])
    assert chosen["efficient"] and found["engine"] == "onnxruntime"
    assert {one["cost"] for one in found["sets"]} == {2.0, 2.5} and all(one["n"] == 1 for one in found["sets"])
    assert all(one["milliseconds"]["cpu"]["p50"] > 0.0 for one in found["sets"])
    off = "" if len(chosen["live"]) == 2 else ', off=("force",)'
    assert found["line"] == f'Policy("{file}"{off})'
    assert (done / "budget.png").read_bytes().startswith(b"\x89PNG")
    assert not list(done.glob(".*"))


def test_an_evaluation_that_is_there_is_not_played_again(file, done, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(budget, "run_evaluate", None)
    arguments = [str(file), "--evaluation", str(done / "evaluation"), "--calls", "3", "--out", str(tmp_path)]
    assert cli.main(["budget", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "force+proprio" in shown and "*" in shown and "Policy(" not in shown  # no budget, so nothing is chosen
    assert cli.main(["budget", *arguments, *"--max-cost 0.3 --cost force=0.1 proprio=0.2".split()]) == 0
    assert f'Policy("{file}"' in capsys.readouterr().out
    assert {one["cost"] for one in json.loads((tmp_path / "budget.json").read_text())["sets"]} == {0.2, 0.3}


def test_episodes_that_were_interrupted_write_no_table(file, tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "run_evaluate", lambda asked: 130)
    assert run_budget(Budget(str(file), out=tmp_path, **FEW)) == 130
    assert not list(tmp_path.glob("budget.*"))


def test_without_onnxruntime_torch_is_timed_and_it_is_said(file, done, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    source = str(file.with_suffix(".safetensors"))
    monkeypatch.setattr(budget, "_read", lambda *_: budget.read_evaluation(done / "evaluation"))
    assert run_budget(Budget(source, evaluation=tmp_path, calls=3, out=tmp_path, ms=1e3)) == 0
    shown = capsys.readouterr().out
    assert "by torch" in shown and "timed in torch, as it cannot be exported here: " in shown
    assert 'Policy("blind.onnx"' in shown


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"ms": 1e-9}, "nothing fits --ms 1e-09: the cheapest is (force.)?proprio, .* ms"),
        ({"ms": -1.0}, "--ms must be a finite number of at least 0, got -1"),
        ({"max_cost": 3.0}, "--max-cost needs what each sensor costs, such as --cost"),
        ({"cost": ("lidar=2",)}, "unknown sensor 'lidar'.*force, proprio"),
        ({"cost": ("force",)}, "--cost takes entries such as rgb=1.8, got 'force'"),
        ({"cost": ("force=-2",)}, "--cost of force must be .* at least 0, got -2"),
        ({"cost": ("force=2",), "max_cost": float("nan")}, "--max-cost must be a finite number"),
        ({"calls": 0}, "calls must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_met_is_refused_before_anything_is_played(file, tmp_path, options, sentence, monkeypatch):
    monkeypatch.setattr(budget, "run_evaluate", None)
    with pytest.raises(ValueError, match=sentence):
        run_budget(Budget(str(file), out=tmp_path / "out", **(FEW | options)))
    assert not (tmp_path / "out").exists()


def test_evaluations_of_something_else_are_refused(file, done, tmp_path):
    ask = Budget(str(file), evaluation=done / "evaluation", out=tmp_path / "out", **FEW)
    other = file.with_suffix(".safetensors")
    with pytest.raises(ValueError, match="evaluation is not of .*safetensors: it was played with other weights"):
        run_budget(Budget(str(other), evaluation=ask.evaluation, out=ask.out, **FEW))
    for name in ("evaluation.json", "episodes.csv"):
        text = (done / "evaluation" / name).read_text()
        (tmp_path / name).write_text(text.replace('"monitor": null', '"monitor": {}'))
    with pytest.raises(ValueError, match="was played with a health monitor"):
        run_budget(Budget(str(file), evaluation=tmp_path, out=ask.out, **FEW))
    assert not ask.out.exists()
