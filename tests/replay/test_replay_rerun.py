"""`robofuse replay --rerun`: the frames in a recording of rerun, read back."""

import copy
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from replaying import SCENE
from rerun.chunk import RrdReader

from robofuse.envs import World
from robofuse.replay import run
from robofuse.replay.rerun import Recording
from robofuse.replay.run import Replay, film, run_replay

OPTIONS = {"task": "Reach", "robot": "gripper", "image_size": 20, "seed": 7, "show": "no"}


def columns(path):
    """Entity → component → values, in the order of the timeline `frame`; and the frames of each."""
    found, frames = {}, {}
    for chunk in RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        if "frame" not in batch.schema.names:
            continue
        name = str(chunk.entity_path).removeprefix("/")
        frames.setdefault(name, []).extend(batch.column("frame").to_pylist())
        for column in batch.schema.names:
            if ":" in column:
                found.setdefault(name, {}).setdefault(column, []).extend(batch.column(column).to_pylist())
    for name, parts in found.items():  # a file is of pieces, in no order
        for column, values in parts.items():
            if len(values) == len(frames[name]):
                parts[column] = [values[row] for row in np.argsort(frames[name], kind="stable")]
        frames[name].sort()
    return found, frames


@pytest.mark.slow
def test_a_recording_has_every_frame_and_what_the_policy_read(tmp_path, monkeypatch, capsys):
    shown = []

    def filmed(scenes, *args, **kwargs):
        scene = scenes[0]

        def seen():
            for frame in scene.frames:
                shown.append(copy.deepcopy(frame))  # the worlds write into what they have given
                yield frame

        return film([scene._replace(frames=seen())], *args, **kwargs)

    monkeypatch.setattr(run, "film", filmed)
    monkeypatch.setattr(World, "picture", lambda *_: SCENE + np.uint8(90))
    path = tmp_path / "reach.rrd"
    run_replay(Replay("expert", disable="rgb@4", episodes=2, out=tmp_path / "x.mp4", rerun=path, **OPTIONS))
    assert sorted(os.listdir(tmp_path)) == ["reach.rrd", "x.mp4"]
    found, frames = columns(path)
    for name in ("scene", "rgb", "depth", "proprio", "force", "available/rgb", "available/force", "return"):
        assert frames[name] == list(range(len(shown))), name
    scalars = {name: np.array(parts["Scalars:scalars"]) for name, parts in found.items() if "Scalars:scalars" in parts}
    assert scalars["available/rgb"][:, 0].tolist() == [frame.on["rgb"] for frame in shown]
    assert 0.0 in scalars["available/rgb"] and scalars["available/depth"].all()
    np.testing.assert_allclose(scalars["proprio"], [frame.observation["proprio"] for frame in shown], rtol=1e-6)
    np.testing.assert_allclose(scalars["force"], [frame.observation["force"][-1] for frame in shown], rtol=1e-6)
    np.testing.assert_allclose(scalars["return"][:, 0], [frame.total for frame in shown])
    for name in shown[0].terms:
        np.testing.assert_allclose(scalars[f"reward/{name}"][:, 0], [frame.terms[name] for frame in shown])
    for frame, rgb, depth, scene in zip(
        shown,
        found["rgb"]["Image:buffer"],
        found["depth"]["DepthImage:buffer"],
        found["scene"]["EncodedImage:blob"],
        strict=True,
    ):
        assert bytes(rgb[0]) == frame.observation["rgb"].tobytes()
        assert bytes(depth[0]) == frame.observation["depth"].tobytes()
        picture = cv2.imdecode(np.frombuffer(bytes(scene[0]), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (480, 640, 3) and abs(int(picture[0, 0, 0]) - 90) < 3
    assert [text[0] for text in found["outcome"]["TextLog:text"]] == [
        *("episode 0 begins", "episode 0: success", "episode 1 begins", "episode 1: success")
    ]


def test_after_an_error_nothing_is_left_and_an_old_recording_stays(tmp_path):
    path = tmp_path / "old.rrd"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), Recording(path, ()):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["old.rrd"] and path.read_bytes() == b"old"


@pytest.mark.parametrize("path", ["film.mp4", "no/such/folder.rrd"])
def test_where_no_recording_can_be_is_said_before_anything_is_played(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"--rerun .*{path}"):
        run_replay(Replay("expert", rerun=Path(path), **OPTIONS))
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RuntimeError, match=r"pip install 'robofuse\[rerun\]'"):
        Recording(tmp_path / "x.rrd", ())
