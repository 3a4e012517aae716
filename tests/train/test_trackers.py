"""Trackers get what TensorBoard gets, and never end a training."""

import csv
import sys
import types

import pytest

from robofuse.train import Train, run_train

TINY = Train("Reach").replace(
    robot="gripper", sensors=("proprio", "force"), steps=240, num_envs=4, n_steps=20, batch_size=80, teacher="none",
    validate_every=160, validation_episodes=2, tracker="trackio", project="mine", threads=1,
)  # fmt: skip


class Fake(types.ModuleType):
    """As trackio: `init` gives a run with `log` and `finish`; it fails from row `until` on."""

    def __init__(self, until=1000):
        super().__init__("trackio")
        self.started, self.rows, self.ended, self.until = None, [], 0, until

    def init(self, **told):
        if self.until < 0:
            raise OSError("no network")
        self.started = told
        return self

    def log(self, numbers):
        if len(self.rows) >= self.until:
            raise ConnectionError("gone")
        self.rows.append(numbers)

    def finish(self):
        self.ended += 1


def test_a_tracker_gets_every_row(tmp_path, monkeypatch):
    fake = Fake()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    assert run_train(TINY.replace(out=tmp_path / "run")) == 0
    assert fake.started["project"] == "mine" and fake.started["name"] == "run"
    assert fake.started["config"]["steps"] == 240 and fake.ended == 1
    rows = list(csv.DictReader((tmp_path / "run/progress.csv").read_text().splitlines()))
    logged = [row for row in fake.rows if "rollout/available" in row]
    assert [row["step"] for row in logged] == [int(row["step"]) for row in rows] and len(rows) == 3
    assert logged[0]["rollout/available"] == pytest.approx(float(rows[0]["rollout/available"]))
    assert any("validation/all" in row for row in fake.rows)


@pytest.mark.parametrize("until", [-1, 1])
def test_a_tracker_that_fails_ends_no_training(until, tmp_path, monkeypatch):
    fake = Fake(until)
    monkeypatch.setitem(sys.modules, "trackio", fake)
    with pytest.warns(UserWarning, match="trackio has failed, and gets no more of this training") as told:
        assert run_train(TINY.replace(out=tmp_path / "run")) == 0
    assert len(told) == 1 and len(fake.rows) == max(until, 0)
    assert (tmp_path / "run/best.safetensors").is_file()


def test_a_tracker_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(RuntimeError, match=r"robofuse\[trackio\]"):
        run_train(TINY.replace(out=tmp_path / "run"))


@pytest.mark.slow
def test_wandb_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert run_train(TINY.replace(out=tmp_path / "run", tracker="wandb")) == 0
    (recorded,) = tmp_path.glob("run/wandb/offline-run-*/run-*.wandb")
    assert recorded.stat().st_size > 1000
