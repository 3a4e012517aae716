"""Films and windows."""

import gc
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from replaying import pictures_of

from robofuse.demos.parts import read_mp4
from robofuse.files import draft_of
from robofuse.replay import video
from robofuse.replay.run import Replay, run_replay
from robofuse.replay.video import Mp4


def test_video_is_there_when_complete_and_not_before(tmp_path):
    path = tmp_path / "a.mp4"
    with Mp4(path, (64, 32), 20.0) as film:
        for shade in (0, 100, 200):
            film.write(np.full((32, 64, 3), shade, np.uint8))
            assert not path.exists()
    assert [round(frame.mean(), -1) for frame in pictures_of(path)] == [0, 100, 200]
    assert os.listdir(tmp_path) == ["a.mp4"]
    colours = np.zeros((32, 64, 3), np.uint8)
    colours[:, :32], colours[:, 32:] = (220, 40, 40), (40, 90, 220)
    with Mp4(path, (64, 32), 20.0) as film:
        film.write(colours)
    (frame,) = pictures_of(path)
    assert np.abs(frame[16, (16, 48)].astype(int) - colours[16, (16, 48)]).max() < 25


@pytest.mark.parametrize(("error", "left"), [(KeyboardInterrupt, ["a.mp4"]), (RuntimeError, [])])
def test_an_interrupt_keeps_the_video_and_an_error_does_not(tmp_path, error, left):
    with pytest.raises(error), Mp4(tmp_path / "a.mp4", (64, 32), 20.0) as film:
        film.write(np.zeros((32, 64, 3), np.uint8))
        raise error
    assert os.listdir(tmp_path) == left


def test_no_video_without_pictures(tmp_path):
    Mp4(tmp_path / "a.mp4", (64, 32), 20.0).close(keep=False)
    assert os.listdir(tmp_path) == []


def test_what_is_no_picture_of_the_film_is_refused(tmp_path):
    with pytest.raises(ValueError, match="63 × 31"):
        Mp4(tmp_path / "a.mp4", (63, 31), 20.0)
    with Mp4(tmp_path / "a.mp4", (64, 32), 20.0) as film:
        with pytest.raises(ValueError, match=r"uint8 \(32, 64, 3\).*float64 \(64, 32\)"):
            film.write(np.zeros((64, 32)))
    assert os.listdir(tmp_path) == []


def test_no_encoder_is_told(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("none found")

    monkeypatch.setattr(video.imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(RuntimeError, match="pip install imageio-ffmpeg"):
        Mp4(tmp_path / "a.mp4", (64, 32), 20.0)


# imageio-ffmpeg leaves the pipe to a dead encoder open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_encoder_that_dies_is_told(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(video._PLAYED, "codec", "libx999")
    with pytest.raises(RuntimeError, match="ffmpeg .*a.mp4"):
        with Mp4(tmp_path / "a.mp4", (64, 32), 20.0) as film:
            for _ in range(200):
                film.write(np.zeros((32, 64, 3), np.uint8))
    assert os.listdir(tmp_path) == [] and "libx999" in capfd.readouterr().err
    gc.collect()


def test_a_film_that_is_not_whole_does_not_take_the_place_of_another(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError, match="ffmpeg .*a.mp4"):
        with Mp4(path, (64, 32), 20.0) as film:
            film.write(np.zeros((32, 64, 3), np.uint8))
            film.frames += 1  # as if the encoder had lost one
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("size", [(64, 32), (63, 31)])
def test_a_lossless_film_keeps_every_bit(tmp_path, size):
    pictures = np.random.default_rng(0).integers(0, 256, (5, size[1], size[0], 3), np.uint8)
    with Mp4(tmp_path / "a.mp4", size, 20.0, lossless=True) as film:
        for picture in pictures:
            film.write(picture)
    assert np.array_equal(read_mp4(tmp_path / "a.mp4", 5, (*size[::-1], 3)), pictures)


def test_what_a_killed_process_left_of_a_film_goes(tmp_path):
    code = f"""
import os, signal, sys
from pathlib import Path
import numpy as np
from robofuse.replay.video import Mp4
film = Mp4(Path({str(tmp_path / "a.mp4")!r}), (64, 32), 20.0)
for _ in range(50):
    film.write(np.zeros((32, 64, 3), np.uint8))
while not list(Path({str(tmp_path)!r}).iterdir()):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL and os.listdir(tmp_path) != []
    other = draft_of(tmp_path / "b.mp4")
    other.touch()
    with Mp4(tmp_path / "a.mp4", (64, 32), 20.0) as film:
        film.write(np.zeros((32, 64, 3), np.uint8))
    assert sorted(os.listdir(tmp_path)) == sorted(["a.mp4", other.name])


def test_no_window_without_a_display(monkeypatch):
    information = "  GUI:                           QT5\n"
    monkeypatch.setattr(video.cv2, "getBuildInformation", lambda: information)
    monkeypatch.setattr(video.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "no display" in video.window_problem()
    with pytest.raises(RuntimeError, match="no display"):
        run_replay(Replay("expert", show="yes"))
    monkeypatch.setenv("DISPLAY", ":98765")  # Qt aborts where nobody answers
    assert video.window_problem().startswith("no window opens (")
    monkeypatch.setattr(video, "_TRY", "")
    assert video.window_problem() == ""
    information = "  GUI:                           NONE\n"
    assert "opencv-python-headless" in video.window_problem()


def test_the_window_keeps_time_and_hears_the_keys(monkeypatch):
    shown, visible, key = [], [1.0], [-1]
    monkeypatch.setattr(video.cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(video.cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(video.cv2, "destroyWindow", lambda *_: None)
    monkeypatch.setattr(video.cv2, "getWindowProperty", lambda *_: visible[0])
    monkeypatch.setattr(video.cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(video.cv2, "waitKey", lambda delay: shown.append(delay) or key[0])
    screen = video.Window(20.0)
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    for _ in range(2):
        screen.show(red)
    assert shown[0][0, 0].tolist() == [0, 0, 255]  # OpenCV's order
    assert shown[1] == 1 and 40 <= shown[3] <= 50  # milliseconds
    assert not screen.quit
    key[0] = ord("q")
    screen.show(red)
    assert screen.quit
    visible[0] = 0.0
    screen.show(red)
    assert len(shown) == 6  # the user has closed it
    screen.close()
    screen.close()
