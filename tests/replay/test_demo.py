"""`robofuse demo` shows what the policy that comes along does as its sensors fail."""

import re

import imageio_ffmpeg
import pytest

from robofuse.replay import Demo, run_demo


@pytest.mark.slow
def test_the_demo_shows_what_it_says(tmp_path, capsys):
    out = tmp_path / "demo.mp4"
    assert run_demo(Demo(out=out, show=False)) == 0
    said = " ".join(re.sub("[│┃]", " ", capsys.readouterr().out).split())
    assert said.count("grasped") == 4  # not without any camera, and not with NaN and nobody who notices
    assert said.count("out of time") >= 2 and "action was not finite" in said  # in its line and in the table
    assert imageio_ffmpeg.count_frames_and_secs(out)[0] > 250
