"""Demonstrations: what is written is what is read, and what is broken is refused."""

import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import BLIND
from PIL import Image

from robofuse import cli
from robofuse.demos import Episode, Record, Recorder, read, run, run_record
from robofuse.demos.layout import describe
from robofuse.demos.parts import from_png, merge_stats, stats_of_feature, to_png
from robofuse.demos.run import demonstrate
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.play import scripted
from robofuse.sensors import Sensor

SENSORS = [
    Sensor("rgb", "rgb", (16, 17, 3), "uint8", "", 255.0, 20.0),
    Sensor("rgb_wrist", "rgb", (8, 8, 3), "uint8", "", 255.0, 20.0),
    Sensor("depth", "depth", (16, 17, 1), "uint16", "mm", 1000.0, 20.0),
    Sensor("proprio", "vector", (5,), "float32", "rad", (1.0, 2.0, 1.0, 1.0, 1.0), 20.0),
    Sensor("force", "window", (4, 8), "float32", "N", 1.0, 20.0, sample_rate=200.0),
]
ACTIONS = ("x", "y", "z", "yaw", "gripper")
OPTIONS = {"privileged": ("a", "b", "c"), "robot": "arm", "task": "Lift the block"}
SMALL = Record(task="Reach", robot="gripper", sensors=BLIND, episodes=5, num_envs=3)


def random_episode(number, steps=6, executed=False):
    generator = torch.Generator().manual_seed(number)

    def noise(*shape):
        return torch.randn(steps, *shape, generator=generator)

    observation = {}
    for sensor in SENSORS:
        if sensor.dtype == "float32":
            observation[sensor.key] = noise(*sensor.shape)
        else:
            top = 1 << (8 if sensor.dtype == "uint8" else 16)
            drawn = torch.randint(top, (steps, *sensor.shape), generator=generator)
            observation[sensor.key] = drawn.to(getattr(torch, sensor.dtype))
    observation["proprio"][1, 2], observation["force"][2, 1, 1] = torch.nan, torch.inf  # faulty sensors give such
    observation["available"] = torch.randint(2, (steps, len(SENSORS)), generator=generator).to(torch.int8)
    observation["privileged"] = noise(3)
    done = torch.arange(steps) == steps - 1
    return Episode(observation, noise(5), noise(), done, 3 * number, noise(5) if executed else None)


def bits(x):
    return x.view(torch.int16) if x.dtype == torch.uint16 else x.view(torch.int32) if x.is_floating_point() else x


def same(one, other, but=()):
    for key, x in one.observation.items():
        y = other.observation[key]
        assert x.dtype == y.dtype and x.shape == y.shape, key
        assert key in but or torch.equal(bits(x), bits(y)), key
    assert one.observation.keys() == other.observation.keys() and one.scene == other.scene
    for name in ("action", "reward", "success", "executed"):
        x, y = getattr(one, name), getattr(other, name)
        assert (x is None and y is None) or (x.dtype == y.dtype and torch.equal(x, y)), name


def recorded(folder, numbers=range(5), **options):
    executed = options.get("executed", False)
    with Recorder(folder, SENSORS, ACTIONS, **{**OPTIONS, "frames": 15, **options}) as recorder:
        for number in numbers:
            recorder.append(random_episode(number, 4 + number, executed))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("demos") / "d")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "d")


@pytest.mark.parametrize("rgb", ["lossless", "png"])
def test_what_is_read_is_what_was_recorded_to_the_bit(tmp_path, rgb):
    recorded(tmp_path / "d", rgb=rgb, executed=True)
    demos = read(tmp_path / "d")
    assert demos.sensors == tuple(sorted(SENSORS, key=lambda sensor: sensor.key)) and demos.actions == ACTIONS
    assert demos.frames == 30 and len(demos.episodes) == 5
    for number, episode in enumerate(demos.episodes):
        same(episode, random_episode(number, 4 + number, True))
    assert list((tmp_path / "d" / "videos").rglob("*.mp4") if rgb != "png" else []) != [] or rgb == "png"


def test_lossy_video_is_lossy_in_colours_only(tmp_path):
    flat = [sensor for sensor in SENSORS if sensor.key != "rgb"]  # 17 pixels wide: no half-size colours
    episode = random_episode(1, 6)
    observation = {key: x for key, x in episode.observation.items() if key != "rgb"}
    observation["available"] = observation["available"][:, :4]
    observation["rgb_wrist"] = torch.linspace(0, 200, 6 * 8 * 8 * 3).to(torch.uint8).reshape(6, 8, 8, 3)
    episode = replace(episode, observation=observation)
    with pytest.raises(ValueError, match="'rgb'.*lossless or png"):
        recorded(tmp_path / "d", rgb="lossy")
    with Recorder(tmp_path / "d", flat, ACTIONS, **OPTIONS, rgb="lossy") as recorder:
        recorder.append(episode)
    found = read(tmp_path / "d").episodes[0]
    same(found, episode, but=("rgb_wrist",))
    apart = (found.observation["rgb_wrist"].int() - observation["rgb_wrist"].int()).abs().float()
    assert 0.0 < apart.mean() < 12.0


def test_the_layout_is_lerobots(folder):
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["robot_type"] == "arm" and info["fps"] == 20
    assert info["total_episodes"] == 5 and info["total_frames"] == 30 and info["splits"] == {"train": "0:5"}
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    kinds = {name: (one["dtype"], one["shape"]) for name, one in info["features"].items()}
    assert kinds == {
        "observation.state": ("float32", [5]),
        "observation.force": ("float32", [4, 8]),
        "observation.images.scene": ("video", [16, 17, 3]),
        "observation.images.wrist": ("video", [8, 8, 3]),
        "observation.images.scene_depth": ("image", [16, 17, 1]),
        "observation.available": ("int8", [5]),
        "observation.environment_state": ("float32", [3]),
        "action": ("float32", [5]),
        **{name: ("float32", [1]) for name in ("next.reward", "timestamp")},
        **{name: ("bool", [1]) for name in ("next.success", "next.done")},
        **{name: ("int64", [1]) for name in ("frame_index", "episode_index", "index", "task_index")},
    }
    assert info["features"]["observation.images.scene_depth"]["info"] == {"is_depth_map": True, "depth_unit": "mm"}
    table = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) == {name for name, (kind, _) in kinds.items() if kind != "video"}
    assert table["frame_index"].to_pylist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]
    assert table["index"].to_pylist() == list(range(15)) and table["timestamp"].to_pylist()[3] == pytest.approx(0.15)
    assert [i for i, done in enumerate(table["next.done"].to_pylist()) if done] == [3, 8, 14]
    tasks = pq.read_table(folder / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "Lift the block"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    rows = [
        row for path in sorted((folder / "meta/episodes").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    assert [(row["episode_index"], row["length"], row["tasks"]) for row in rows] == [
        (number, 4 + number, ["Lift the block"]) for number in range(5)
    ]
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [
        (0, 4), (4, 9), (9, 15), (15, 22), (22, 30)
    ]  # fmt: skip
    assert [row["data/file_index"] for row in rows] == [0, 0, 0, 1, 1]
    video = "videos/observation.images.scene"
    assert [(row[f"{video}/file_index"], row[f"{video}/from_timestamp"]) for row in rows] == [
        (0, 0.0), (0, 0.2), (0, 0.45), (1, 0.0), (1, 0.35)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "dtype", "unit", "info"),
    [
        ("depth", "uint16", "mm", {"is_depth_map": True, "depth_unit": "mm"}),
        ("depth", "uint16", "", {"is_depth_map": True, "depth_unit": "mm"}),
        ("depth", "uint16", "m", {"is_depth_map": True, "depth_unit": "m"}),
        ("depth", "uint16", "0.1 mm", {"is_depth_map": True}),  # LeRobot then gives it as it is, and says so
        ("depth", "uint8", "cm", {"is_depth_map": False}),  # LeRobot reads bytes as shares of 255
        ("rgb", "uint8", "", {"is_depth_map": False}),
        ("depth", "float32", "m", None),  # a column of numbers, which LeRobot would not convert
    ],
)
def test_depth_is_marked_as_lerobot_marks_it(tmp_path, kind, dtype, unit, info):
    sensor = Sensor("view", kind, (4, 6, 1), dtype, unit, 1.0, 20.0)
    drawn = (60_000 * torch.rand(5, 4, 6, 1)).to(getattr(torch, dtype))
    seen = {"view": drawn, "available": torch.ones(5, 1, dtype=torch.int8)}
    one = Episode(seen, torch.zeros(5, 5), torch.zeros(5), torch.arange(5) == 4)
    with Recorder(tmp_path / "d", [sensor], ACTIONS, rgb="png") as recorder:
        recorder.append(one)
    same(read(tmp_path / "d").episodes[0], one)
    (name,) = (feature.name for feature in describe([sensor], ACTIONS) if feature.key == "view")
    told = json.loads((tmp_path / "d/meta/info.json").read_text())["features"][name]
    assert told.get("info") == info and told["shape"] == [4, 6, 1]
    assert told["dtype"] == ("float32" if info is None else "image")
    if info is None:
        return
    share = 1.0 if info["is_depth_map"] else 255.0
    stats = json.loads((tmp_path / "d/meta/stats.json").read_text())[name]
    assert stats["max"] == [[[pytest.approx(float(drawn.numpy().max()) / share)]]]
    (picture, *_) = pq.read_table(tmp_path / "d/data/chunk-000/file-000.parquet")[name].to_pylist()
    with Image.open(io.BytesIO(picture["bytes"])) as image:  # as LeRobot reads it: 16 bits are depth
        assert image.mode == ("I;16" if dtype == "uint16" else "L")
        assert np.array_equal(np.array(image), drawn[0, ..., 0].numpy())


def test_statistics_are_those_of_all_steps(folder):
    stats = json.loads((folder / "meta/stats.json").read_text())
    actions = torch.cat([random_episode(number, 4 + number).action for number in range(5)]).double().numpy()
    told = stats["action"]
    np.testing.assert_allclose(told["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(told["std"], actions.std(0), atol=1e-6)
    assert told["count"] == [30] and told["min"] == actions.min(0).tolist()
    assert np.shape(stats["observation.images.scene"]["mean"]) == (3, 1, 1)
    assert 0.4 < stats["observation.images.scene"]["mean"][0][0][0] < 0.6  # as shares of 255
    assert stats["observation.images.scene_depth"]["max"][0][0][0] > 60_000  # in millimetres
    assert np.isfinite(stats["observation.state"]["mean"]).all()
    feature = next(one for one in describe(SENSORS, ACTIONS) if one.name == "action")
    halves = [{"action": stats_of_feature(feature, actions[rows])} for rows in (slice(0, 7), slice(7, 30))]
    whole, ours = np.quantile(actions, [0.01, 0.99], axis=0, method="inverted_cdf"), merge_stats(halves)["action"]
    assert (ours["q01"] <= whole[0]).all() and (ours["q99"] >= whole[1]).all()


def test_a_recording_is_gone_on_with(tmp_path):
    recorded(tmp_path / "d", range(3), rgb="png")
    recorded(tmp_path / "d", range(3, 5), rgb="png")
    demos = read(tmp_path / "d")
    for number, episode in enumerate(demos.episodes):
        same(episode, random_episode(number, 4 + number))
    stats = [
        json.loads((one / "meta/stats.json").read_text())
        for one in (tmp_path / "d", recorded(tmp_path / "e", rgb="png"))
    ]
    np.testing.assert_allclose(stats[0]["action"]["mean"], stats[1]["action"]["mean"], rtol=1e-9)
    for options, message in (({"robot": "crane"}, "robot_type"), ({"task": "Push"}, "task"), ({"fps": 30}, "fps")):
        with pytest.raises(ValueError, match=f"{message}.*--out"):
            recorded(tmp_path / "d", [], **{"rgb": "png", **options})


@pytest.mark.parametrize(("file", "rgb"), [("file-001.parquet", "lossless"), ("info.json", "png")])
def test_a_killed_recording_keeps_what_was_written(tmp_path, monkeypatch, file, rgb):
    """Whether it dies at its first file or at its last."""
    options = {"rgb": rgb}
    folder = recorded(tmp_path / "d", range(3), **options)
    written_before_info = ("tasks.parquet", "stats.json", "robofuse.json")

    def contents():
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in written_before_info]
        return {path: path.read_bytes() for path in files}

    before = contents()

    class Killed(BaseException):
        pass

    def die(draft, path):
        if path.name == file:
            raise Killed
        replace_file(draft, path)

    replace_file = os.replace
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        recorder = Recorder(folder, SENSORS, ACTIONS, **OPTIONS, **options, frames=1)
        with pytest.raises(Killed):
            recorder.append(random_episode(3, 7))
    recorder._held.close()  # as the end of the process would
    with Recorder(folder, SENSORS, ACTIONS, **OPTIONS, **options):
        pass  # it sweeps
    assert contents() == before and len(read(folder).episodes) == 3
    recorded(folder, range(3, 5), **options)
    assert [episode.scene for episode in read(folder).episodes] == [0, 3, 6, 9, 12]


def test_a_person_records_step_by_step(tmp_path):
    sensors = [SENSORS[3]]
    reading = np.zeros(5, np.float32)
    with Recorder(tmp_path / "d", sensors, ACTIONS, frames=1) as recorder:
        for episode in range(3):
            for step in range(4):
                reading[:] = 10 * episode + step  # one array, written anew
                last = step == 3
                recorder.add({"proprio": reading}, [0.1 * step] * 5, float(step), last and episode != 1, last)
            if episode == 1:
                assert recorder.discard() == 4
        with pytest.raises(ValueError, match="no 'proprio'"):
            recorder.add({"force": reading}, [0.0] * 5, 0.0, False, False)
        with pytest.raises(ValueError, match="'proprio'.*float64"):
            recorder.add({"proprio": np.zeros(5)}, [0.0] * 5, 0.0, False, False)
        with pytest.raises(ValueError, match="5 finite numbers"):
            recorder.add({"proprio": reading}, [np.nan] * 5, 0.0, False, False)
        with pytest.raises(ValueError, match="recording"):
            Recorder(tmp_path / "d", sensors, ACTIONS)
    demos = read(tmp_path / "d")
    assert [episode.observation["proprio"][:, 0].tolist() for episode in demos.episodes] == [
        [0, 1, 2, 3], [20, 21, 22, 23]
    ]  # fmt: skip
    assert demos.episodes[0].observation["available"].tolist() == [[1]] * 4
    assert demos.episodes[1].success.tolist() == [False, False, False, True]


def test_wrong_episodes_are_refused(tmp_path):
    good = random_episode(0)
    with Recorder(tmp_path / "d", SENSORS, ACTIONS, **OPTIONS) as recorder:
        with pytest.raises(ValueError, match="'action'"):
            recorder.append(replace(good, action=good.action[:, :4]))
        with pytest.raises(ValueError, match="no 'depth'"):
            recorder.append(replace(good, observation={k: x for k, x in good.observation.items() if k != "depth"}))
        with pytest.raises(ValueError, match="executed=True"):
            recorder.append(replace(good, executed=good.action))
    assert not (tmp_path / "d").exists()


def damage(path, change):
    if path.suffix == ".json":
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    else:
        path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("data/chunk-000/file-001.parquet", lambda x: x[: len(x) // 2], "file-001.parquet"),
        ("meta/episodes/chunk-000/file-000.parquet", lambda x: x[:-9], "file-000.parquet"),
        ("videos/observation.images.wrist/chunk-000/file-000.mp4", lambda x: x[: len(x) // 2], "wrist.*mp4"),
        ("meta/info.json", lambda x: {**x, "codebase_version": "v2.1"}, "v2.1.*v3.0"),
        ("meta/info.json", lambda x: {**x, "total_episodes": 9}, "file-002.parquet"),
        ("meta/info.json", lambda x: {**x, "total_frames": 31}, "31.*30"),
        ("meta/info.json", lambda x: {**x, "total_frames": "many"}, "total_frames 'many'"),
        ("meta/info.json", lambda x: {**x, "features": {}}, "observation.images.scene_depth"),
        ("meta/robofuse.json", lambda x: {**x, "format": 2}, "format 2"),
        ("meta/robofuse.json", lambda x: {**x, "sensors": [3]}, "robofuse.json.*sensors"),
    ],
)
def test_broken_folders_are_refused(copy, file, change, message):
    damage(copy / file, change)
    with pytest.raises(ValueError, match=message):
        read(copy)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("meta/info.json", "meta/info.json.*robofuse record"),
        ("meta/robofuse.json", "meta/robofuse.json"),
        ("data/chunk-000/file-000.parquet", "file-000.parquet"),
        ("videos/observation.images.scene/chunk-000/file-001.mp4", "file-001.mp4"),
    ],
)
def test_missing_files_are_named(copy, file, message):
    (copy / file).unlink()
    with pytest.raises(ValueError, match=message):
        read(copy)


def test_a_bit_that_fell_over_is_noticed(copy):
    path = copy / "data/chunk-000/file-000.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="damaged"):
        read(copy)


@pytest.mark.parametrize("kind", ["data", "videos", "meta/episodes"])
def test_every_bit_counts(copy, kind):
    """Films are decoded without a word whatever a flipped bit makes of them: the checksum must tell."""
    generator = np.random.default_rng(0)
    for path in sorted(path for path in (copy / kind).rglob("*.*") if path.is_file()):
        whole = path.read_bytes()
        for position in generator.integers(0, len(whole), 5):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << int(generator.integers(8))
            path.write_bytes(bytes(damaged))
            with pytest.raises(ValueError, match=f"{path.name}.*checksum"):
                read(copy)
        path.write_bytes(whole)
    assert len(read(copy).episodes) == 5


def test_what_is_killed_at_its_first_write_can_be_begun_again(tmp_path, monkeypatch):
    def die(*arguments):
        raise SystemExit  # nothing tidies up after SIGKILL

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *a, **k: None)
        patch.setattr("os.replace", die)
        recorder = Recorder(tmp_path / "d", SENSORS, ACTIONS, **OPTIONS, frames=1)
        with pytest.raises(SystemExit):
            recorder.append(random_episode(0))
        recorder._held.close()
    assert any(".draft" in path.name for path in (tmp_path / "d").rglob("*"))
    recorded(tmp_path / "d")
    assert len(read(tmp_path / "d").episodes) == 5
    assert not [path for path in (tmp_path / "d").rglob("*") if path.name.startswith(".")]


def test_a_full_disk_is_told_in_a_sentence_and_nothing_is_lost(tmp_path, monkeypatch):
    folder = recorded(tmp_path / "d", range(3))
    before = sorted(folder.rglob("*"))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "ParquetWriter", full)
        recorder = Recorder(folder, SENSORS, ACTIONS, **OPTIONS, frames=1)
        with pytest.raises(InputError, match="file-.*parquet: No space left on device"):
            recorder.append(random_episode(3))
    recorder.close()  # there is room again: what waited is written
    assert len(read(folder).episodes) == 4 and len(before) < len(sorted(folder.rglob("*")))
    assert not [path for path in folder.rglob("*") if ".draft" in path.name]


def test_a_file_as_out_is_refused(tmp_path, capsys):
    (tmp_path / "d").write_text("mine")
    arguments = "record --task Reach --robot gripper --sensors proprio --episodes 1 --out".split()
    assert cli.main([*arguments, str(tmp_path / "d")]) == 2
    assert "cannot write" in capsys.readouterr().err and (tmp_path / "d").read_text() == "mine"


def test_other_folders_are_left_alone(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        read(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="--out"):
        recorded(tmp_path)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_without_pyarrow_the_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert cli.main(["record", "--task", "Reach"]) == 2
    assert "pip install 'robofuse[lerobot]'" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="lerobot"):
        read(tmp_path)


def test_pictures():
    generator = np.random.default_rng(0)
    for shape, dtype in (((5, 7, 3), "uint8"), ((5, 7, 1), "uint16"), ((5, 7, 1), "uint8")):
        picture = generator.integers(0, np.iinfo(dtype).max, shape, dtype)
        np.testing.assert_array_equal(from_png(to_png(picture), shape, dtype, "it"), picture)
        with pytest.raises(ValueError, match="picture of it"):
            from_png(to_png(picture), (5, 8, shape[2]), dtype, "it")


def test_episodes_do_not_depend_on_the_number_of_worlds():
    found = []
    for count, first in ((2, 0), (3, 1)):
        world = World("Reach", count, robot="gripper", sensors=BLIND, privileged=True, seed=4, auto_reset=False)
        played = demonstrate(scripted("expert", world), world, noise=0.3, first=first)
        found.append([next(played) for _ in range(4)])
        world.close()
    assert [episode.scene for episode in found[0]] == [0, 1, 2, 3]
    for one, other in zip(found[0][1:], found[1], strict=False):
        same(one, other)
        assert not torch.equal(one.executed, one.action) and one.executed.abs().max() <= 1.0


def test_record_from_the_command_line(tmp_path, capsys):
    arguments = "record --task Reach --robot gripper --sensors proprio force --num-envs 2 --seed 3".split()
    assert cli.main([*arguments, "--episodes", "2", "--out", str(tmp_path / "d")]) == 0
    assert "2 of 2 episodes (0 failed)" in capsys.readouterr().out
    assert cli.main([*arguments, "--episodes", "3", "--out", str(tmp_path / "d")]) == 0
    assert "2 episodes are already in" in capsys.readouterr().out
    assert cli.main([*arguments, "--episodes", "3", "--out", str(tmp_path / "e")]) == 0
    one, other = read(tmp_path / "d"), read(tmp_path / "e")
    assert len(one.episodes) == 3 and all(episode.succeeded for episode in one.episodes)
    for left, right in zip(one.episodes, other.episodes, strict=True):
        same(left, right)
    assert one.about["by"]["name"] == "expert" and one.about["world"]["robot"] == "gripper"
    for wrong, message in (("--seed 1000", "--seed must be"), ("--noise 2", "--noise must lie"), ("--seed 4", "seed")):
        assert cli.main([*arguments, *wrong.split(), "--out", str(tmp_path / "d")]) == 2
        assert message in capsys.readouterr().err


def test_who_only_fails_is_given_up(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "_PATIENCE", 4)
    monkeypatch.setattr(run, "_TRIES", 1)
    monkeypatch.setattr(World, "expert", lambda self: torch.zeros(self.num_envs, 5))
    assert run_record(replace(SMALL, episodes=2, out=tmp_path / "d")) == 1
    assert "gave up: too few episodes succeed" in capsys.readouterr().out
    assert not (tmp_path / "d").exists()


def test_interrupted_it_goes_on_to_the_same_episodes(tmp_path, monkeypatch, capsys):
    class Impatient(run.Interrupt):
        def __init__(self):
            super().__init__()
            self.looks = 0

        @property
        def asked(self):
            self.looks += 1
            return self.looks > 3

        @asked.setter
        def asked(self, value):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(run, "Interrupt", Impatient)
        assert run_record(replace(SMALL, out=tmp_path / "d")) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert len(read(tmp_path / "d").episodes) == 3
    assert run_record(replace(SMALL, out=tmp_path / "d")) == 0
    assert run_record(replace(SMALL, out=tmp_path / "e")) == 0
    for one, other in zip(read(tmp_path / "d").episodes, read(tmp_path / "e").episodes, strict=True):
        same(one, other)
