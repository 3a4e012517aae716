"""What a task of one's own must do, and what one is told if it does not."""

import re
from dataclasses import replace

import pytest
import torch
from helpers import BLIND, rest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_robot import CRANE

from robofuse.envs import TASKS, Task, World, register_robot, register_task
from robofuse.envs.tasks import Reach
from robofuse.policies import ENCODERS, FUSIONS, register_encoder, register_fusion


def task_with(**parts):
    return type("Mine", (Reach,), {"name": "Mine", **parts})


METHODS = ("add_objects", "place", "terms", "success", "privileged")
ATTRIBUTES = ("name", "horizon", "weights", "draws", "privileged_names", "privileged_scale")


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(METHODS)), st.sets(st.sampled_from(ATTRIBUTES)))
def test_exactly_the_missing_parts_of_a_task_are_named(no_methods, no_attributes):
    parts = {name: getattr(Reach, name) for name in (*METHODS, *ATTRIBUTES) if name not in no_methods | no_attributes}
    task = type("Mine", (Task,), parts)
    if not no_methods and not no_attributes:
        World(task, 1, sensors=("proprio",), num_threads=1).close()
        return
    for make in (lambda: World(task, 1), lambda: register_task(task)):
        with pytest.raises(ValueError) as caught:
            make()
        told = set(re.split(r"\W+", str(caught.value).partition(";")[0].partition("lacks")[2]))
        wanted, other = (no_methods, METHODS) if no_methods else (no_attributes, ATTRIBUTES)
        assert told & set(other) == wanted
    assert "Mine" not in TASKS


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"horizon": 0.0}, "'Mine': horizon must be a positive number of seconds, got 0.0"),
        ({"draws": -1}, "'Mine': draws must be an integer of at least 0, got -1"),
        ({"weights": {"reach": float("nan")}}, "'Mine': weights must be .* finite"),
        ({"privileged_scale": (1.0,)}, "a positive number for each of the 4 privileged_names, got"),
        ({"privileged_names": "ball"}, "privileged_names must be a tuple, got the text 'ball'"),
        ({"visible_names": ("cube",)}, "visible_names has 'cube', which is not one of ball_dx, ball_dy"),
        ({"phases": ("far", "near")}, "'Mine' has phases, so it needs the method phase"),
    ],
)
def test_wrong_attributes_of_a_task_are_named(parts, says):
    with pytest.raises(ValueError, match=says):
        World(task_with(**parts), 1)


def _n(task):
    return task.backend.num_envs


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"success": lambda t: torch.zeros(_n(t), 1).bool()},
            r"success\(\) must be a tensor bool \(3,\).*got bool \(3, 1",
        ),
        ({"success": lambda t: torch.zeros(_n(t))}, r"success\(\) must be a tensor bool \(3,\).*got float32 \(3,\)"),
        ({"success": lambda t: False}, r"success\(\) must be a tensor bool \(3,\), got bool"),
        (
            {"terms": lambda t, a: {"reach": torch.ones(_n(t))}},
            r"exactly the terms of weights, reach, success, effort; it gav",
        ),
        ({"terms": lambda t, a: None}, r"terms\(\) must give exactly the terms .* it gave NoneType"),
        (
            {"terms": lambda t, a: {**Reach.terms(t, a), "effort": a.square()}},
            r"'Mine': the reward term 'effort' must be a tensor of floats \(3,\).*got float64 \(3, 5\)",
        ),
        (
            {"terms": lambda t, a: {**Reach.terms(t, a), "reach": torch.tensor(1.0)}},
            r"'Mine': the reward term 'reach' must be a tensor of floats \(3,\).*got float32 \(\)",
        ),
    ],
)
def test_wrong_answers_of_a_task_are_named(parts, says):
    world = World(task_with(**parts), 3, sensors=("proprio",), num_threads=1)
    world.reset(seed=0)
    with pytest.raises(ValueError, match=says):
        world.step(rest(world))
    world.close()


def test_truth_of_another_length_is_named():
    world = World(task_with(privileged=lambda t: Reach.privileged(t)[:, :3]), 3, sensors=BLIND, privileged=True)
    with pytest.raises(
        ValueError, match=r"'Mine': privileged\(\) must be a tensor of floats \(3, 4\).*got float64 \(3, 3"
    ):
        world.reset(seed=0)
    world.close()


def test_a_task_may_do_without_an_expert():
    world = World(task_with(expert=Task.expert), 1, sensors=("proprio",))
    world.reset(seed=0)
    with pytest.raises(RuntimeError, match="'Mine' has no scripted expert"):
        world.expert()
    world.close()


def test_our_names_are_never_taken():
    with pytest.raises(ValueError, match="'Reach' belongs to another.* Reach, Grasp"):
        register_task(task_with(name="Reach"))
    with pytest.raises(ValueError, match="name.*got 'my task'"):
        register_task(task_with(name="my task"))
    with pytest.raises(ValueError, match="'arm' belongs to another robot"):
        register_robot(replace(CRANE, name="arm"))
    with pytest.raises(ValueError, match="'concat' belongs to another fusion"):
        register_fusion("concat")(FUSIONS["sum"])
    with pytest.raises(ValueError, match="'rgb' belongs to another encoder"):
        register_encoder("rgb")(ENCODERS["vector"])


def test_a_task_is_a_task():
    with pytest.raises(ValueError, match="robofuse.envs.Task, got 3"):
        World(3, 1)
