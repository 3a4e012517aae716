"""Fixtures for every test."""

import functools

import pytest


@functools.cache
def _gl_problem():
    """Why the gl renderer does not work on this machine, or an empty string."""
    from robofuse.envs import World

    try:
        World("Reach", 1, renderer="gl", image_size=16).close()
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture
def needs_gl():
    """Call it to skip a test where OpenGL is not installed; everything else runs on `warp`."""

    def check():
        if _gl_problem():
            pytest.skip(f"the gl renderer does not work here: {_gl_problem()}")

    return check
