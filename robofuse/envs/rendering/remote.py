"""A painter in a process of its own, for OpenGL in software.

Mesa has one rasteriser a process, and a lock around it: two threads that draw small pictures are hardly faster than
one. Two processes are. Worlds and pictures travel through shared memory, and a line of text says when; nothing is
pickled, the process starts in half a second, needs no main guard in the user's script, and ends when its input does.

Started as a program, this module is that process.
"""

import json
import mmap
import os
import subprocess
import sys
import tempfile

import mujoco
import numpy as np

from robofuse.envs.rendering import Pictures, Poses, View
from robofuse.errors import StateError

Layout = list[tuple[str, tuple[int, ...]]]  # dtype and shape of every array, one behind the other


class RemotePainter:
    """See `Painter`: forwards to a `GlPainter` in a process of its own."""

    def __init__(self, model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, slots: int) -> None:
        """Starts the process and waits until it can draw.

        Args:
            model: compiled model.
            views: what to draw.
            poses: live arrays to read from.
            slots: worlds drawn at a time.

        Raises:
            RuntimeError: the process cannot draw.
        """
        self._poses, self._slots = poses, slots
        layout: Layout = [(live.dtype.str, (slots, *live.shape[1:])) for live in poses]
        for view in views:
            layout += [("|u1", (slots, view.height, view.width, 3)), ("<f4", (slots, view.height, view.width))]
        with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
            file.truncate(_size(layout))
            arrays = _arrays(file.fileno(), layout)
            self._inputs, self._outputs = arrays[: len(poses)], arrays[len(poses) :]
            binary = np.empty(mujoco.mj_sizeModel(model), np.uint8)
            mujoco.mj_saveModel(model, None, binary)
            header = {
                "memory": file.fileno(),
                "layout": layout,
                "views": [(view.camera, view.height, view.width) for view in views],
                "model": len(binary),
            }
            # its own session: Ctrl-C at a terminal is for the parent, which ends this one by closing its input
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                # it finds what this process finds, however that came about
                env=os.environ | {"MUJOCO_GL": "osmesa", "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                start_new_session=True,
            )
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(header).encode() + b"\n" + binary.tobytes())
            self._expect(b"ready\n", 0)

    def paint(self, env_ids: np.ndarray, out: Pictures) -> None:
        """See `Painter.paint`."""
        assert self._process.stdin is not None
        for start in range(0, len(env_ids), self._slots):
            rows = env_ids[start : start + self._slots]
            for slot, live in zip(self._inputs, self._poses, strict=True):
                slot[: len(rows)] = live[rows]
            self._process.stdin.write(b"%d\n" % len(rows))
            self._expect(b"done\n", len(rows))
            flat = [array for picture in out for array in picture]
            for target, drawn in zip(flat, self._outputs, strict=True):
                target[start : start + len(rows)] = drawn[: len(rows)]

    def close(self) -> None:
        """See `Painter.close`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _expect(self, answer: bytes, count: int) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone: the next line says so
        if self._process.stdout.readline() != answer:
            code = self._process.wait(timeout=5.0)
            raise StateError(f"the process that draws ended with status {code} (asked for {count} pictures)")


def _size(layout: Layout) -> int:
    return sum(_bytes(dtype, shape) for dtype, shape in layout)


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Of one array, rounded up so that the next one is aligned."""
    return -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 64) * 64


def _arrays(descriptor: int, layout: Layout) -> list[np.ndarray]:
    memory, arrays, start = mmap.mmap(descriptor, _size(layout)), [], 0
    for dtype, shape in layout:
        arrays.append(np.frombuffer(memory, dtype, int(np.prod(shape)), start).reshape(shape))
        start += _bytes(dtype, shape)
    return arrays


def _serve() -> None:
    # imported here: the parent has no use for it, and what it imports imports this module
    from robofuse.envs.rendering.gl import GlPainter
    from robofuse.envs.rendering.gl_context import choose_context

    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    header = json.loads(requests.readline())
    model = mujoco.MjModel.from_binary_path("model.mjb", {"model.mjb": requests.read(header["model"])})
    arrays = _arrays(header["memory"], header["layout"])
    count = len(Poses._fields)
    views = tuple(View(*view) for view in header["views"])
    painter = GlPainter(model, views, Poses(*arrays[:count]), choose_context())
    pictures = list(zip(arrays[count::2], arrays[count + 1 :: 2], strict=True))
    answers.write(b"ready\n")
    answers.flush()
    for request in requests:
        rows = np.arange(int(request))
        painter.paint(rows, [(rgb[: len(rows)], depth[: len(rows)]) for rgb, depth in pictures])
        answers.write(b"done\n")
        answers.flush()
    painter.close()


if __name__ == "__main__":
    _serve()
