"""The scene as people see it: floor, sky, soft light and shadows around the same bodies. Policies never see it."""

import copy
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from robofuse.envs.rendering.base import Poses, View
from robofuse.envs.rendering.gl import GlPainter
from robofuse.envs.robot import ROBOT_PREFIX

SCREEN_GROUP = 1
"""Group of geoms that hide something from cameras, but not from people."""
SEEN_THROUGH = 0.25
"""Their opacity for people."""
_FLOOR = -0.72  # below the table's top [m]
_FAR = 12.0  # where the floor ends, in fog [m]; MuJoCo's endless plane takes longer than the rest of the picture
_TABLE = "table"
# texels of a shadow map and samples of a pixel: more of either costs more than it shows, in software
_SHADOWS, _SAMPLES = 1024, 0
_ROUND = 0.018  # radius of edges [m]
_THINNEST = 0.002  # half a side of what gets them [m]: MuJoCo refuses meshes of next to no volume
_SKY, _HORIZON = (0.42, 0.52, 0.62), (0.86, 0.88, 0.90)


def screens(model: mujoco.MjModel) -> np.ndarray:
    """Which geoms hide something from cameras alone, bool (ngeom,): see `Task.add_objects`.

    Files of others use the same group for their own ends, so what comes from one, with a prefix, never counts.
    """
    names = (mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or "/" for geom in range(model.ngeom))
    return np.array(["/" not in name for name in names], bool) & (model.geom_group == SCREEN_GROUP)


def rotations(model: mujoco.MjModel) -> np.ndarray:
    """Orientations of geoms in their bodies, (ngeom, 3, 3)."""
    found = np.zeros((model.ngeom, 9))
    for matrix, quaternion in zip(found, model.geom_quat, strict=True):
        mujoco.mju_quat2Mat(matrix, quaternion)
    return found.reshape(-1, 3, 3)


def dressed(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """The model of a scene with a floor, a sky, table legs, lamps and materials.

    Args:
        spec: as it was compiled for the physics; stays as it is.

    Returns:
        A model whose bodies, joints, geoms, cameras and lights begin with those of the scene, under the same numbers.
    """
    spec = spec.copy()
    _quality(spec)
    _materials(spec)
    _round_edges(spec)
    for light in spec.lights[:1]:  # the light of the cameras; lamps of the task's own scene stay
        light.active = False
    # the last body, so that all that was there keeps its number
    stage = spec.worldbody.add_body(name="robofuse/stage")
    _room(spec, stage)
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
    model = spec.compile()
    model.geom_rbound[:] = 0.0  # draw all: what is beside the picture may throw a shadow into it
    return model


def _quality(spec: mujoco.MjSpec) -> None:
    visual = spec.visual
    visual.quality.shadowsize, visual.quality.offsamples = _SHADOWS, _SAMPLES
    visual.map.zfar = 40.0
    visual.map.shadowclip, visual.map.shadowscale = 1.15, 0.6
    visual.map.fogstart, visual.map.fogend = 2.5, _FAR
    visual.rgba.fog = [*_HORIZON, 1.0]
    visual.headlight.ambient = [0.33, 0.33, 0.34]
    visual.headlight.diffuse = [0.20, 0.20, 0.20]
    visual.headlight.specular = [0.0, 0.0, 0.0]


def _materials(spec: mujoco.MjSpec) -> None:
    _texture(spec, "floor", _concrete())
    _texture(spec, "wood", _wood())
    spec.add_texture(
        name="robofuse/sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=_HORIZON, rgb2=_SKY, width=256, height=256,
    )  # fmt: skip
    texture = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
    for name, repeat, shine in (("floor", (0.5, 0.5), 0.0), ("wood", (1.0, 1.0), 0.25)):
        material = spec.add_material(
            name=f"robofuse/{name}", texuniform=True, texrepeat=repeat, specular=shine, shininess=0.4, reflectance=0.0
        )
        material.textures[texture] = f"robofuse/{name}"
    spec.add_material(name="robofuse/satin", rgba=[0.5, 0.5, 0.5, 1.0], specular=0.45, shininess=0.55)
    for geom in spec.geoms:
        if not geom.material:
            geom.material = "robofuse/satin"
    table = spec.geom(_TABLE)
    table.material, table.rgba = "robofuse/wood", [1.0, 1.0, 1.0, 1.0]


def _round_edges(spec: mujoco.MjSpec) -> None:
    """Boxes of the robot get round edges: each becomes the hull of the corners of a smaller one, a ball around each."""
    angles = np.linspace(0.0, np.pi / 2, 5)
    up, around = (grid.ravel() for grid in np.meshgrid(angles, angles))
    ball = np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], axis=-1)
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 1, 3)
    for number, box in enumerate(spec.geoms):
        half = np.array(box.size)
        if not box.name.startswith(ROBOT_PREFIX) or box.type != mujoco.mjtGeom.mjGEOM_BOX or not half.min() > _THINNEST:
            continue
        radius = min(_ROUND, 0.5 * half.min())
        corners = np.unique((signs * (half - radius + radius * ball)).reshape(-1, 3).round(6), axis=0)
        mesh = spec.add_mesh(name=f"robofuse/round_{number}", uservert=corners.ravel().tolist())
        box.type, box.meshname = mujoco.mjtGeom.mjGEOM_MESH, mesh.name


def _room(spec: mujoco.MjSpec, stage: mujoco.MjsBody) -> None:
    table = spec.geom(_TABLE)
    stage.add_geom(
        name="robofuse/floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[_FAR, _FAR, 1.0], pos=[*table.pos[:2], _FLOOR],
        material="robofuse/floor", rgba=[1.0, 1.0, 1.0, 1.0], contype=0, conaffinity=0,
    )  # fmt: skip
    across, along, half = table.size
    top = table.pos[2] - half
    height = (top - _FLOOR) / 2.0
    for x in (-1, 1):
        for y in (-1, 1):
            stage.add_geom(
                name=f"robofuse/leg_{x}_{y}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.03, 0.03, height],
                pos=[table.pos[0] + x * (across - 0.06), table.pos[1] + y * (along - 0.06), top - height],
                material="robofuse/satin", rgba=[0.20, 0.21, 0.22, 1.0], contype=0, conaffinity=0,
            )  # fmt: skip
    for direction, strength, shadow in (((-0.55, -0.15, -0.80), 0.46, True), ((0.3, -0.7, -0.6), 0.12, False)):
        stage.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=np.subtract(table.pos, 1.5 * np.asarray(direction)),
            dir=direction,
            ambient=[0.0, 0.0, 0.0],
            diffuse=strength * np.array([1.0, 0.97, 0.92]),
            specular=[0.35 * shadow] * 3,
            castshadow=shadow,
        )


def _texture(spec: mujoco.MjSpec, name: str, pixels: np.ndarray) -> None:
    height, width, channels = pixels.shape
    spec.add_texture(
        name=f"robofuse/{name}", type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=channels,
        data=pixels.ravel().tolist(),
    )  # fmt: skip


def _concrete() -> np.ndarray:
    """A slab with seams at its edges, uint8 (256, 256, 3)."""
    grain = np.random.default_rng(0).normal(0.0, 3.0, (256, 256))
    grain[:3] -= 30.0
    grain[:, :3] -= 30.0
    return _bytes(np.array([136.0, 142.0, 150.0]) + grain[..., None])


def _wood() -> np.ndarray:
    """Boards with a fine grain along x, uint8 (256, 256, 3)."""
    random = np.random.default_rng(1)
    grain = np.repeat(random.normal(0.0, 3.0, (256, 16)), 16, axis=1)  # the same for a while along each line
    grain += random.normal(0.0, 5.0, (256, 1)) + np.repeat(random.uniform(-14.0, 14.0, 8), 32)[:, None]
    grain[::32] -= 30.0
    return _bytes(np.array([208.0, 180.0, 146.0]) + grain[..., None])


def _bytes(colours: np.ndarray) -> np.ndarray:
    return colours.clip(0, 255).round().astype(np.uint8)


class StudioPainter(GlPainter):
    """Draws a dressed model with all that OpenGL can do, smoothed edges apart, which cost more than all the rest."""

    def __init__(
        self, model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, context: Callable[[int, int], Any]
    ) -> None:
        """See `GlPainter`."""
        super().__init__(model, views, poses, context)
        self._option.flags[mujoco.mjtVisFlag.mjVIS_TEXTURE] = 1
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_SKYBOX, mujoco.mjtRndFlag.mjRND_FOG):
            self._scene.flags[flag] = 1

    def _prepared(self, model: mujoco.MjModel, views: tuple[View, ...]) -> mujoco.MjModel:
        model = copy.copy(model)
        model.vis.global_.offwidth = max(view.width for view in views)
        model.vis.global_.offheight = max(view.height for view in views)
        return model
