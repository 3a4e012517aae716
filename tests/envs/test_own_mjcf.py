"""Robots and scenes of one's own: what they lack is told, with what is there."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import BLIND, rest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_robot import CRANE, OWN

from robofuse.envs import World, attach, register_robot
from robofuse.envs.tasks import Grasp


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(["grip", "wrist", "left_tip", "right_tip"]), st.sampled_from(["Grip", "tool0", "ee"]))
def test_a_site_that_is_missing_is_named_with_those_that_are_there(site, instead):
    left = [name for name in re.findall('site name="([^"]+)', OWN) if name != site]
    with pytest.raises(ValueError, match=f"has no site '{site}'; sites: ") as caught:
        register_robot(replace(CRANE, mjcf=OWN.replace(f'site name="{site}"', f'site name="{instead}"')))
    assert set(str(caught.value).partition("sites: ")[2].split(", ")) == {*left, instead}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            ('<position joint="pan"/>', '<velocity joint="pan"/>'),
            "'pan' must have one <position> servo, it has 0; joints",
        ),
        (
            ('<compiler angle="radian"/>', ""),
            "hinge 'pan' has a range of 4 degrees; for radians, write <compiler angle=",
        ),
        (
            ('quat="0 1 0 0" pos="0 0 -0.1"', 'pos="0 0 -0.1"'),
            r"z axis of site 'grip' .* down; there it points to \[0.0, 0.0",
        ),
        (('range="0 0.04" armature="0.1"/>', 'armature="0.1"/>'), "finger 'left_finger' must be a slide with a range"),
        (('name="pan" axis="0 0 1" range="-2 2"', 'name="pan" type="ball"'), "'pan' must be a slide or a hinge"),
        (("<geom type", "<goem type"), "'crane': MuJoCo cannot read its MJCF: .*unrecognized element"),
        (
            ('<geom type="capsule" fromto="0 0 0 0 0 -0.05" size="0.02" mass="0.5"/>', '<joint name="j"/>'),
            "cannot compile it",
        ),
    ],
)
def test_what_a_robot_lacks_is_named(change, says):
    assert change[0] in OWN
    broken = replace(CRANE, mjcf=OWN.replace(*change))
    with pytest.raises(ValueError, match=says):
        World("Reach", 1, robot=broken, sensors=BLIND)


def test_degrees_are_understood():
    """The same crane, written in degrees."""
    turned = (
        OWN.replace('<compiler angle="radian"/>', "").replace('"-2 2"', '"-115 115"').replace('"-3 3"', '"-172 172"')
    )
    World("Reach", 1, robot=replace(CRANE, mjcf=turned), sensors=BLIND, num_threads=1).close()
    with pytest.raises(ValueError, match=r"'pan' is 2.1.*\[-2.0"):
        World("Reach", 1, robot=replace(CRANE, mjcf=turned, home=(2.1, 0.4, 0.02, 0.0)), sensors=BLIND)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="'crane'.* no MJCF file .*nowhere.xml"):
        replace(CRANE, mjcf=tmp_path / "nowhere.xml").spec()


SCENE = """
<mujoco>
  <asset><mesh name="wedge" vertex="0 0 0  0.1 0 0  0 0.1 0  0 0 0.1"/></asset>
  <worldbody>
    <geom name="wall" type="box" size="0.01 0.1 0.05" pos="0.15 0 0.05"/>
    <body name="cup" pos="0.1 0.12 0.03">
      <freejoint name="cup"/><geom name="cup" type="cylinder" size="0.03 0.03"/>
    </body>
    <geom name="wedge" type="mesh" mesh="wedge" pos="-0.2 -0.2 0"/>
  </worldbody>
  <keyframe><key name="home" qpos="0 0 0 1 0 0 0"/></keyframe>
</mujoco>"""


class Cluttered(Grasp):
    """Grasp in a scene of the user's own."""

    name = "Cluttered"
    needs = {"body": ("cup",), "geom": ("wall",)}

    def add_objects(self, spec, workspace, tips):
        super().add_objects(spec, workspace, tips)
        attach(spec, SCENE, workspace, **self.needs)


@pytest.mark.parametrize("sensors", [BLIND, pytest.param(("rgb", "proprio"), marks=pytest.mark.slow)])
def test_a_scene_of_ones_own_surrounds_a_task_of_ours(sensors):
    """With a mesh, a free body and a keyframe, and a robot of one's own in it."""
    key = '<keyframe><key name="rest" qpos="0 0.4 0 0 0 0"/></keyframe></mujoco>'
    robot = replace(CRANE, mjcf=OWN.replace("</mujoco>", key))
    options = {"robot": robot, "sensors": sensors, "image_size": 24, "noise": False, "num_threads": 1}
    world, plain = World(Cluttered, 2, **options), World(Grasp, 2, **options)
    seen, bare = world.reset(seed=0), plain.reset(seed=0)
    wall = world.backend.model.geom("scene/wall")
    np.testing.assert_allclose(wall.pos, world.robot.workspace.numpy() + [0.15, 0.0, 0.05])
    assert torch.equal(seen["proprio"], bare["proprio"])
    assert "rgb" not in sensors or not torch.equal(seen["rgb"], bare["rgb"])
    for _ in range(10):
        step = world.step(rest(world))
    assert not step.failure.any()
    cup = world.backend.field("xpos")[:, world.backend.model.body("scene/cup").id]
    assert (cup[:, 2] - 0.03).abs().max() < 0.002  # it stands on the table
    world.close()
    plain.close()


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        ({"body": ("mug",)}, "scene 'scene': its MJCF has no body 'mug'; bodies: world, cup"),
        ({"geom": "wal"}, "has no geom 'wal'; geoms: wall, wedge, cup"),
        ({"site": ("goal",)}, "has no site 'goal'; sites: none has a name"),
        ({"bodies": ("cup",)}, "unknown kind 'bodies' of a part of an MJCF; kinds: body, joint"),
    ],
)
def test_what_a_scene_lacks_is_named(needs, says):
    with pytest.raises(ValueError, match=says):
        World(type("Cluttered", (Cluttered,), {"needs": needs}), 1, sensors=BLIND)


def test_scenes_that_clash_are_told_as_such():
    class Twice(Cluttered):
        def add_objects(self, spec, workspace, tips):
            super().add_objects(spec, workspace, tips)
            attach(spec, SCENE, workspace)

    with pytest.raises(ValueError, match="scene"):
        World(Twice, 1, sensors=BLIND)
