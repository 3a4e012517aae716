"""Pictures of N worlds: colour and depth in one pass, by one of two renderers behind one interface."""

from collections.abc import Sequence

import mujoco

from robofuse.checks import usable_cores, whole
from robofuse.envs.rendering.base import FIXED, MOVING, Pictures, Poses, Renderer, View, check
from robofuse.envs.rendering.threads import ThreadedRenderer
from robofuse.errors import InputError
from robofuse.registration import RENDERERS

__all__ = ["FIXED", "MOVING", "RENDERERS", "Pictures", "Poses", "Renderer", "View", "make_renderer"]


def make_renderer(
    name: str, model: mujoco.MjModel, views: Sequence[View], poses: Poses, num_threads: int | None
) -> Renderer:
    """A renderer of N worlds of one model.

    Both draw geom groups 0 to 2 with MuJoCo's headlight and lights, ambient and diffuse, and nothing else: no shadows,
    reflections, textures, highlights, fog, smoothed edges, sites or tendons; what no geom covers is black. Pictures of
    the two agree where a model keeps to directional lights (OpenGL lights corners and blends, so spot lights differ a
    little; it draws no point lights), to alpha 0 or 1, and nothing nearer to a camera than `znear`.

    Args:
        name: a key of `RENDERERS`.
        model: compiled model; copied.
        views: what to draw, at least one; a camera may occur twice.
        poses: live arrays to read from.
        num_threads: threads to draw on, default one per core this process may use.

    Returns:
        The renderer.

    Raises:
        InputError: unknown renderer or camera, a bad size, arrays that do not fit the model; says what would be right.
        StateError: this machine cannot draw that way; says what was tried and what to install.
    """
    if name not in RENDERERS:
        raise InputError(f"unknown renderer {name!r}; renderers: {', '.join(RENDERERS)}")
    check(model, views, poses)
    # what a renderer needs is imported when it is asked for: the other one must work without it
    if name == "warp":
        from robofuse.envs.rendering import ray as chosen
    else:
        from robofuse.envs.rendering import gl as chosen
    threads = usable_cores() if num_threads is None else whole(num_threads, "num_threads", 1)
    factory = chosen.painter_factory(model, tuple(views), poses, threads)
    return ThreadedRenderer(name, factory, chosen.guard, views, poses, threads)
