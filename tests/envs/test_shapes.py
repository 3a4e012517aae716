"""World.shapes and World.poses: a world as triangles that a viewer of one's own can draw."""

import mujoco
import numpy as np
import pytest
import torch

from robofuse.envs import World
from robofuse.envs.shapes import Looks

MJCF = """
<mujoco>
  <asset>
    <material name="red" rgba="1 0 0 1"/>
    <mesh name="tetra" vertex="0 0 0  1 0 0  0 1 0  0 0 1" inertia="convex"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="2 0 1"/>
    <geom name="hidden" type="box" size="1 1 1" group="3"/>
    <body pos="0.1 0.2 0.3" euler="0 0 90">
      <freejoint/>
      <geom name="box" type="box" size="0.1 0.2 0.3" material="red"/>
      <geom name="ball" type="sphere" size="0.5"/>
      <geom name="egg" type="ellipsoid" size="0.1 0.2 0.3"/>
      <geom name="can" type="cylinder" size="0.2 0.3" rgba="0 1 0 0.5" material="red"/>
      <geom name="pill" type="capsule" size="0.2 0.3"/>
      <geom name="tetra" type="mesh" mesh="tetra" pos="3 0 0"/>
    </body>
  </worldbody>
</mujoco>
"""


class One:
    """A backend of one world, as far as a look at it goes."""

    def __init__(self, model):
        self.model, self.data = model, mujoco.MjData(model)
        mujoco.mj_forward(model, self.data)

    def snapshot(self, world):
        return self.model, self.data

    def field(self, name):
        return torch.from_numpy(getattr(self.data, name))[None]


def volume(shape):
    """Positive if faces look outwards."""
    a, b, c = (shape.vertices[shape.faces[:, k]].astype(float) for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6.0)


def test_every_kind_of_geom_has_its_size_its_colour_and_its_outside_outside():
    looks = Looks(One(mujoco.MjModel.from_xml_string(MJCF)))
    shapes = {shape.name: shape for shape in looks.shapes(0)}
    assert list(shapes) == ["floor", "box", "ball", "egg", "can", "pill", "tetra"]
    extents = {"box": (0.1, 0.2, 0.3), "ball": (0.5,) * 3, "egg": (0.1, 0.2, 0.3), "can": (0.2, 0.2, 0.3)}
    for name, half in (extents | {"pill": (0.2, 0.2, 0.5), "floor": (2, 5, 0)}).items():
        np.testing.assert_allclose(shapes[name].vertices.max(0), half, atol=1e-6)
        np.testing.assert_allclose(shapes[name].vertices.min(0), np.negative(half), atol=1e-6)
    round_ones = 4 / 3 * np.pi
    solid = {"box": 0.048, "ball": round_ones * 0.125, "egg": round_ones * 0.006, "can": np.pi * 0.024}
    for name, expected in (solid | {"pill": round_ones * 0.008 + np.pi * 0.024, "tetra": 1 / 6}).items():
        assert volume(shapes[name]) == pytest.approx(expected, rel=0.04)  # facets lie inside what is round
    assert shapes["box"].rgba.tolist() == [1, 0, 0, 1] and shapes["can"].rgba.tolist() == [0, 1, 0, 0.5]
    assert [name for name, shape in shapes.items() if shape.flat] == ["floor", "box", "can"]
    positions, quaternions = looks.poses(0)
    np.testing.assert_allclose(positions[[0, 1]], [[0, 0, 0], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(quaternions[[0, 1]], [[1, 0, 0, 0], [0.5**0.5, 0, 0, 0.5**0.5]], atol=1e-9)


def test_shapes_follow_the_episode_and_poses_the_step():
    world = World("Grasp", 2, robot="gripper", image_size=8, sensors=("proprio",), auto_reset=False)
    world.reset()
    blocks = [next(shape for shape in world.shapes(k) if shape.name == "block") for k in (0, 1)]
    assert not np.array_equal(blocks[0].vertices, blocks[1].vertices)  # sizes and colours differ by episode
    assert not np.array_equal(blocks[0].rgba, blocks[1].rgba)
    before = world.poses(1)
    world.step(torch.tensor([[0.0] * 5, [1.0] + [0.0] * 4]))
    after = world.poses(1)
    assert after[0].shape == (len(world.shapes(1)), 3) and after[1].shape == (len(world.shapes(1)), 4)
    moved = np.abs(after[0] - before[0]).max(1) > 1e-4
    assert moved.any() and not moved[0]  # the table stays
    world.restart([1], [0])
    again = next(shape for shape in world.shapes(1) if shape.name == "block")
    np.testing.assert_array_equal(again.vertices, blocks[0].vertices)
    with pytest.raises(ValueError, match="index must be an integer from 0 to 1, got 2"):
        world.poses(2)
    world.close()
