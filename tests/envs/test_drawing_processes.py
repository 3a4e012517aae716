"""OpenGL in software draws in processes of its own: they must come and go with the renderer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mujoco
import numpy as np
import pytest
from helpers import rest

from robofuse.envs import World
from robofuse.envs.rendering import Poses, gl, threads


def _children(pid="self"):
    """Processes that any thread of this process has started."""
    return {child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()}


@pytest.fixture
def drawing(needs_gl):
    """A World that two processes draw, and their ids."""
    needs_gl()
    if not gl.choose_opengl().software:
        pytest.skip("only OpenGL in software draws in processes of its own; here it is not")
    before = _children()
    world = World("Reach", 4, renderer="gl", image_size=16, num_threads=2)
    yield world, sorted(int(pid) for pid in _children() - before)
    world.close()
    assert _children() == before


def test_two_processes_draw_and_end_with_the_world(drawing):
    world, processes = drawing
    assert len(processes) == 2
    assert world.reset(seed=0)["rgb"].float().std() > 10
    # Ctrl-C at a terminal must not reach them before the parent has closed them
    assert all(os.getsid(pid) != os.getsid(0) for pid in processes)


def test_a_process_that_dies_is_an_error_not_a_hang(drawing):
    world, processes = drawing
    world.reset(seed=0)
    os.kill(processes[0], signal.SIGKILL)
    with pytest.raises(RuntimeError, match=f"{processes[0]}.* status -9"):
        world.step(rest(world))


@pytest.mark.slow
def test_a_process_that_is_stopped_is_an_error_not_a_hang(drawing, monkeypatch):
    world, processes = drawing
    world.reset(seed=0)
    monkeypatch.setattr(threads, "ANSWER_TIMEOUT", 0.5)
    os.kill(processes[1], signal.SIGSTOP)
    with pytest.raises(RuntimeError, match=f"{processes[1]}.* answered for 1 s"):
        world.step(rest(world))


@pytest.mark.parametrize("rasteriser", ["llvmpipe (LLVM 15.0.6, 256 bits)", "softpipe"])
def test_egl_without_a_gpu_draws_in_processes(rasteriser, monkeypatch):
    """What counts is the rasteriser, not the library: both rasterisers serialise threads, behind EGL as well."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    found = {"llvmpipe": gl.OpenGL("egl", print, rasteriser), "gpu": gl.OpenGL("egl", print, "NVIDIA H100/PCIe/SSE2")}
    poses = Poses(*(np.zeros((4, 1, 3)) for _ in Poses._fields))
    makers = {}
    for name, opengl in found.items():
        monkeypatch.setattr(gl, "choose_opengl", lambda opengl=opengl: opengl)
        makers[name] = gl.painter_factory(model, (), poses, 2).func
    assert makers == {"llvmpipe": threads.ProcessPainter, "gpu": gl.GlPainter}


@pytest.mark.slow
def test_they_end_when_the_parent_is_killed(needs_gl):
    needs_gl()
    script = (
        "import time\nfrom robofuse.envs import World\n"
        "world = World('Reach', 4, renderer='gl', image_size=16, num_threads=2)\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"up\n"
    children = _children(parent.pid)
    if gl.choose_opengl().software:
        assert len(children) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10.0
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children):
        assert time.monotonic() < deadline, "a drawing process outlived its parent"
        time.sleep(0.05)
