"""The scene as people see it: the same bodies in a room, and what hides from cameras alone is translucent."""

import mujoco
import numpy as np
import pytest
import torch

from robofuse.envs import World
from robofuse.envs.rendering.studio import dressed, screens
from robofuse.errors import StateError


@pytest.mark.parametrize(("task", "robot"), [("Feel", "arm"), ("Sort", "gripper")])
def test_what_was_there_keeps_its_number(task, robot):
    world = World(task, 1, robot=robot, sensors=("proprio",))
    plain, studio = world.backend.model, dressed(world._spec)
    assert (studio.nq, studio.nv, studio.nu) == (plain.nq, plain.nv, plain.nu)
    for kind, count in ((mujoco.mjtObj.mjOBJ_BODY, plain.nbody), (mujoco.mjtObj.mjOBJ_GEOM, plain.ngeom)):
        names = [[mujoco.mj_id2name(model, kind, number) for number in range(count)] for model in (plain, studio)]
        assert names[0] == names[1]
    assert studio.ngeom > plain.ngeom
    assert np.array_equal(plain.body_pos, studio.body_pos[: plain.nbody])


def test_pictures_change_nothing_that_policies_see():
    """The same episode with pictures taken in between and without."""
    worlds = [World("Grasp", 2, robot="gripper", image_size=32, renderer="gl", seed=4) for _ in range(2)]
    seen = [world.reset() for world in worlds]
    for _ in range(3):
        worlds[0].picture(1)
        assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])
        seen = [world.step(world.expert()).observation for world in worlds]


def test_objects_are_drawn_where_they_are_in_their_own_colour():
    """A block of each world, found by its colour; where it was before there is the table."""
    world = World("Grasp", 2, robot="gripper", sensors=("proprio",), seed=1, auto_reset=False)
    world.reset()
    geom = world.backend.model.geom("block").id
    for number, colour in ((0, [0.0, 0.0, 1.0]), (1, [1.0, 0.0, 0.0])):
        world.backend.parameter("geom_rgba")[number, geom, :3] = torch.tensor(colour)
    world.backend.commit(torch.arange(2))
    for number, channel in ((0, 2), (1, 0)):
        picture = world.picture(number).astype(int)
        others = [c for c in range(3) if c != channel]
        block = picture[..., channel] - picture[..., others].max(axis=2) > 80
        assert 50 < block.sum() < 5000


@pytest.mark.parametrize("opengl", [True, False])
def test_a_box_that_hides_from_cameras_is_translucent_for_people(opengl, monkeypatch):
    """The plate inside can be told by its colour; a file's own geoms of the same group stay as they are.

    Without OpenGL the box is left out.
    """
    if not opengl:

        def choose_opengl():
            raise StateError("none here")

        monkeypatch.setattr("robofuse.envs.rendering.picture.choose_opengl", choose_opengl)
    world = World("Feel", 1, robot="gripper", sensors=("proprio",), seed=1, auto_reset=False)
    world.reset()
    model = world.backend.model
    hidden = {mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, int(geom)) for geom in screens(model).nonzero()[0]}
    assert hidden == {"box_top", "box_0", "box_1", "box_2", "box_3", "handle"}
    opacity = {shape.name: shape.rgba[3] for shape in world.shapes()}
    assert opacity["box_top"] == 0.25 and opacity["plate"] == 1.0
    plate = model.geom("plate").id
    shown = []
    for colour in ([1.0, 0.0, 1.0], [0.0, 1.0, 0.0]):
        world.backend.parameter("geom_rgba")[0, plate, :3] = torch.tensor(colour)
        world.backend.commit(torch.arange(1))
        shown.append(world.picture(0).astype(int))
    assert (np.abs(shown[0] - shown[1]).max(axis=2) > 20).sum() > 50
