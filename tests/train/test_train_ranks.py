"""Several processes that train one policy, started by torchrun, on a CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robofuse.errors import StateError
from robofuse.train import Train, run_train
from robofuse.train.checkpoint import FINAL

SCRIPT = Path(__file__).with_name("ranked.py")
OPTIONS = ["Reach", "--preset", "alone", "--robot", "gripper", "--sensors", "proprio", "force", "--num-envs", "8"]
OPTIONS += ["--steps", "800", "--n-steps", "10", "--batch-size", "40", "--validation-episodes", "2", "--device", "cpu"]


def train(out, mode, *options, ranks=2):
    """What each rank ended with, by rank."""
    out.mkdir(exist_ok=True)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*launcher, str(SCRIPT), str(out), mode, *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert not done.returncode, done.stdout + done.stderr
    return [load_file(out / f"{rank}-of-{ranks}.safetensors") for rank in range(ranks)], done.stdout


def weights(found):
    return {name: x for name, x in found.items() if name.startswith("policy/")}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in weights(a))


@pytest.mark.slow
def test_ranks_learn_one_policy_from_scenes_of_their_own(tmp_path):
    run = tmp_path / "run"
    (first, second), said = train(tmp_path, "own", *OPTIONS, "--validate-every", "400", "--out", str(run))
    assert same(first, second)
    assert (first["episode"] < 1 << 40).all() and (second["episode"] >= 1 << 40).all()
    assert "800 steps in 8 worlds in each of 2 processes" in said and said.count("validation at") == 2
    assert (run / FINAL).exists() and len(list(run.glob("events.*"))) == 1
    assert torch.equal(load_file(run / FINAL)["log_std"], first["policy/log_std"])


@pytest.mark.slow
def test_ranks_with_the_same_scenes_are_one_process(tmp_path):
    options = [*OPTIONS, "--validate-every", "0"]
    (both, other), _ = train(tmp_path, "same", *options, "--out", str(tmp_path / "two"))
    half = [str(int(x) // 2) if option == "--steps" else x for option, x in zip(["", *options], options, strict=False)]
    (alone,), _ = train(tmp_path, "same", *half, "--out", str(tmp_path / "one"), ranks=1)
    assert same(both, other)
    for name, x in weights(alone).items():
        if not name.endswith("count"):  # of rows that norms have seen
            assert torch.allclose(both[name], x, atol=1e-5), name


@pytest.mark.slow
def test_ranks_go_on_to_the_same_weights(tmp_path):
    run = tmp_path / "run"
    options = [*OPTIONS, "--validate-every", "0", "--checkpoint-every", "400", "--out", str(run)]
    (whole, _), _ = train(tmp_path, "own", *options)
    for late in (run / FINAL, run / "latest.safetensors", run / "checkpoint-0000000800.safetensors"):
        late.unlink()  # as if all had been killed before the end
    (again, other), _ = train(tmp_path, "own", "--resume", str(run))
    assert same(again, other) and same(whole, again)


@pytest.mark.slow
def test_when_one_process_stops_the_others_say_so_in_a_line(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")  # the first process finds it taken
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(SCRIPT), str(tmp_path), "own", *OPTIONS, "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode and f"error: {run} already holds a training" in done.stderr
    assert "[rank1]" not in done.stderr


def test_several_processes_without_their_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(StateError, match="torchrun --standalone --nproc-per-node 2"):
        run_train(Train("Reach").replace(out=tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ctrl_c_lets_all_ranks_write_a_checkpoint(tmp_path):
    run = tmp_path / "run"
    options = [*OPTIONS, "--validate-every", "0", "--steps", "100000000", "--out", str(run)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(SCRIPT), str(tmp_path), "own", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 60.0
    while not (run / "progress.csv").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.1)
    time.sleep(2.0)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: launcher and ranks
    said, _ = process.communicate(timeout=60.0)
    assert "a checkpoint is written; to go on" in said
    assert len(list(run.glob("checkpoint-*.safetensors"))) == 1
