"""The folder of a run: one training at a time, nothing written by a refused one, and trouble with files in one line."""

import json
import subprocess
import sys

import pytest
import torch
from helpers import BLIND

from robofuse import cli
from robofuse.errors import InputError
from robofuse.files import lock
from robofuse.train import Train, load_options, run_train
from robofuse.train.checkpoint import _like

TINY = Train("Reach").replace(
    robot="gripper", sensors=BLIND, num_envs=4, n_steps=10, batch_size=20, epochs=1, hidden=(8,), token_dim=8, steps=80,
    checkpoint_every=40, validate_every=80, validation_episodes=1, threads=1, teacher_steps=80,
)  # fmt: skip
ALONE = TINY.replace(teacher="none")


FULL = """
import contextlib, io, json, resource, sys
from pathlib import Path
from robofuse import cli
from robofuse.train import Train, run_train

config, found = Train.from_dict(json.loads(sys.argv[1])), {}
for limit in map(int, sys.argv[2:]):
    out = Path(f"run-{limit}")
    cli.COMMANDS["list"] = cli.Command("Train.", lambda *_: run_train(config.replace(out=out)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    with contextlib.redirect_stderr(io.StringIO()) as told:
        status = cli.main(["list"])
    found[limit] = status, told.getvalue()
print(json.dumps(found))
"""


@pytest.mark.parametrize("config", [TINY, ALONE], ids=["with a teacher", "alone"])
def test_a_refused_training_writes_nothing(tmp_path, config):
    folder = tmp_path / "run"
    with lock(folder, "training"):  # another one, which has just begun
        before = sorted(path.name for path in folder.rglob("*"))
        with pytest.raises(InputError, match="another training is at work"):
            run_train(config.replace(out=folder, seed=7))
        assert sorted(path.name for path in folder.rglob("*")) == before


def test_options_of_a_refused_resumption_are_not_kept(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY.to_dict()))  # its teacher is being trained
    text = (folder / "config.json").read_text()
    with lock(folder, "training"), pytest.raises(InputError, match="another training is at work"):
        run_train(load_options(folder).replace(lr=0.5))
    assert (folder / "config.json").read_text() == text
    (folder / "checkpoint-0000000040.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        run_train(load_options(folder).replace(lr=0.5))
    assert (folder / "config.json").read_text() == text


def test_a_folder_that_cannot_be_one_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert cli.main(["train", "Reach", "--teacher", "none", "--out", str(out)]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: cannot write to ") and told.count("\n") == 1 and "give another --out" in told
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_a_full_disk_is_one_line(tmp_path):
    """Trainings in a process that may not write files of more than so many bytes."""
    command = [sys.executable, "-c", FULL, json.dumps(ALONE.to_dict()), "0", "2000", "20000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == ["0", "2000", "20000"]
    for status, told in found.values():
        lines = [line for line in told.splitlines() if line.startswith("error: ")]  # TensorBoard's thread may print
        assert status == 2 and len(lines) == 1 and lines[0].startswith("error: cannot write"), told


def test_square_brackets_in_a_folders_name_are_letters(tmp_path, capsys):
    folder = tmp_path / "a[/b]" / "[red]c"
    assert run_train(ALONE.replace(out=folder, validate_every=0)) == 0
    assert f"into {folder}" in capsys.readouterr().out
    assert run_train(load_options(folder)) == 0
    assert f"{folder} is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "5", "[" * 10_000, '{"steps": null}', '{"learning": {"lr": "fast"}}', '{"network": {"hidden": 5}}'),
        *('{"scenes": {"sensors": [1]}}', '{"scenes": {"renderer": "x"}}'),
    ],
)
def test_options_that_make_no_sense_are_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError):
        run_train(load_options(tmp_path))


def test_a_fused_optimizer_counts_its_steps_where_the_weights_are():
    there = torch.nn.Parameter(torch.empty(3, 2, device="meta"))
    assert _like(torch.tensor(5.0), there, fused=True).is_meta
    assert not _like(torch.tensor(5.0), there, fused=False).is_meta
