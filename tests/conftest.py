"""Fixtures for every test."""

import functools
import sys

import pytest


@functools.cache
def _gl_problem():
    """Why the gl renderer does not work on this machine, or an empty string."""
    from robofuse.machine import gl_problem

    return gl_problem()


@pytest.fixture
def needs_gl():
    """Call it to skip a test where OpenGL is not installed; everything else runs on `warp`."""

    def check():
        if _gl_problem():
            pytest.skip(f"the gl renderer does not work here: {_gl_problem()}")

    return check


@pytest.fixture(autouse=True)
def _imported_by_this_test(monkeypatch):
    """Commands that are printed name what this test imported, and not what another one did in this process."""
    from robofuse import plugins

    monkeypatch.setattr(plugins, "_imported", [])


@pytest.fixture
def nothing_stays(monkeypatch):
    """What a test makes known, of robots, tasks, networks and faults, is forgotten after it."""
    import gymnasium as gym

    from robofuse import registration
    from robofuse.envs import ROBOTS, TASKS
    from robofuse.faults import catalogue
    from robofuse.policies import ENCODERS, FUSIONS

    tables = (ROBOTS, TASKS, ENCODERS, FUSIONS, registration.ROBOTS, registration.TASKS, gym.registry)
    tables = (*tables, catalogue._CATALOGUE)
    before = [dict(table) for table in tables]
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
    for name in ("own_robot", "own_task", "own_encoder", "own_fusion", "mistaken", "beside"):
        sys.modules.pop(name, None)
