"""A window that shows pictures at their pace."""

import os
import re
import subprocess
import sys
import time

import cv2
import numpy as np

_TITLE = "robofuse replay"
_TRY = "import cv2; cv2.namedWindow('robofuse'); cv2.waitKey(1); cv2.destroyAllWindows()"
_QUIT = (ord("q"), 27)  # 27 is Escape


def window_problem() -> str:
    """Why no window can be opened here, or an empty string."""
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is None or gui[1] == "NONE":
        return (
            "this OpenCV was built without windows (opencv-python-headless): "
            "pip uninstall opencv-python-headless, then pip install --force-reinstall opencv-python"
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set"
    try:  # in a process of its own: where the display does not answer, Qt ends the process
        tried = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    return "" if tried.returncode == 0 else f"no window opens ({(tried.stderr.strip().splitlines() or ['?'])[-1]})"


class Window:
    """A window of OpenCV.

    Attributes:
        quit: whether Q or Escape was pressed.
    """

    def __init__(self, fps: float) -> None:
        """Opens when the first picture comes.

        Args:
            fps: pictures per second; `show` waits for their time.
        """
        self.quit, self._closed, self._shown = False, False, False
        self._period, self._due = 1.0 / fps, 0.0

    def show(self, image: np.ndarray) -> None:
        """Show a picture, RGB uint8 (H, W, 3), once it is due; does nothing once the user has closed the window."""
        if self._closed:
            return
        if self._shown and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            self._closed = True
            return
        if not self._shown:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(_TITLE, image.shape[1], image.shape[0])
            self._shown = True
        cv2.imshow(_TITLE, np.ascontiguousarray(image[..., ::-1]))
        wait = max(0.0, self._due - time.monotonic())
        self.quit = (cv2.waitKey(max(1, round(1000 * wait))) & 0xFF) in _QUIT
        self._due = max(time.monotonic(), self._due) + self._period

    def close(self) -> None:
        """Close it; may be called twice."""
        if self._shown and not self._closed:
            cv2.destroyWindow(_TITLE)
        self._closed = True
