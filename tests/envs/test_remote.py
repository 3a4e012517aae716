"""OpenGL in software draws in processes of its own: they must come and go with the renderer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import rest

from robofuse.envs import World
from robofuse.envs.rendering.gl import choose_opengl


def _children(pid="self"):
    """Processes that any thread of this process has started."""
    return {child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()}


@pytest.fixture
def drawing(needs_gl):
    """A World that two processes draw, and their ids."""
    needs_gl()
    if not choose_opengl().software:
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
    with pytest.raises(RuntimeError, match=f"the process that draws, {processes[0]}, ended with status -9"):
        world.step(rest(world))


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
    if choose_opengl().software:
        assert len(children) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10.0
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children):
        assert time.monotonic() < deadline, "a drawing process outlived its parent"
        time.sleep(0.05)
