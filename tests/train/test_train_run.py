import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers import BLIND

from robofuse import cli
from robofuse.envs.cameras import CAMERAS
from robofuse.files import lock
from robofuse.files import read_tensors as read
from robofuse.play import load_trained, make_world
from robofuse.policies import FusionPPO, load
from robofuse.policies.saving import save
from robofuse.sensors import MODALITIES
from robofuse.train import Train, load_options, run_train, training
from robofuse.train.build import (
    VALIDATION_SEED,
    world_options,
)
from robofuse.train.checkpoint import keep_previous_best, leftover, recover_best
from robofuse.train.display import SPENT, Display, read_rows
from robofuse.train.training import Training

SMALL = Train("Reach").replace(
    robot="gripper", sensors=BLIND, num_envs=8, n_steps=20, batch_size=80, epochs=2, hidden=(16,), token_dim=16,
    steps=1600, checkpoint_every=480, validate_every=800, validation_episodes=1, threads=1, seed=5, full=0.2,
    every="outage", schedule="linear", teacher="none", lr=4e-4, aux_coef=0.5,
)  # fmt: skip
KILLED = """
import os, signal, sys
from robofuse.train import load_options, run, training

log = training.log_update
def then_die(model, state, *rest):
    log(model, state, *rest)
    if state.step >= 1120:
        os.kill(os.getpid(), signal.SIGKILL)
training.log_update = then_die
run.run_train(load_options(run.Path(sys.argv[1])).replace(resume=None, out=run.Path(sys.argv[2])))
"""


def without_times(folder, table="progress.csv"):
    rows = read_rows(folder / table)
    return [{k: v for k, v in row.items() if not k.startswith("time/") and k not in SPENT} for row in rows]


def weights(folder, name="final.safetensors"):
    return read(folder / name)[0]


def same_run(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(x, b[name]) for name, x in a.items())
    assert without_times(one) == without_times(other)
    assert without_times(one, "validation.csv") == without_times(other, "validation.csv")
    assert all(
        torch.equal(x, weights(other, "best.safetensors")[n]) for n, x in weights(one, "best.safetensors").items()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nobody interrupted; beside it, what lay on the disk after step 1120."""
    folder = tmp_path_factory.mktemp("train") / "whole"
    log = training.log_update

    def then_copy(model, state, *rest):
        log(model, state, *rest)
        if state.step == 1120:
            shutil.copytree(folder, folder.parent / "killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "log_update", then_copy)
        assert run_train(SMALL.replace(out=folder)) == 0
    return folder


@pytest.fixture(scope="module")
def killed(whole):
    """What SIGKILL would leave of it one update after its second checkpoint; a slow test kills one."""
    folder = whole.parent / "killed"
    assert int(read_rows(folder / "progress.csv")[-1]["step"]) == 1120
    return folder


def test_a_run_leaves_everything(whole):
    names = {path.name.split(".")[0] if "events" in path.name else path.name for path in whole.iterdir()}
    checkpoints = {"checkpoint-0000001440.safetensors", "checkpoint-0000001600.safetensors"}
    tables = {"progress.csv", "validation.csv", "config.json", "run.json", "curve.png", "events"}
    assert names == {"best.safetensors", "latest.safetensors", "final.safetensors"} | checkpoints | tables
    rows = read_rows(whole / "progress.csv")
    assert [int(row["step"]) for row in rows] == list(range(160, 1601, 160))
    assert all(float(row["train/first_ratio_error"]) < 1e-5 for row in rows)
    rates = [float(row["train/learning_rate"]) for row in rows]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0.05 * 4e-4)
    validated = read_rows(whole / "validation.csv")
    assert [row["step"] for row in validated] == ["800", "1600"]
    for row in validated:  # what was spent until then
        update = next(one for one in rows if one["step"] == row["step"])
        assert float(row["seconds"]) == float(update["time/seconds"])
        assert float(row["validation_seconds"]) > float(update["time/validation_seconds"])
    run = json.loads((whole / "run.json").read_text())
    assert [start["finished"] for start in run["starts"]] == [True]


def test_the_policy_knows_its_world(whole):
    policy = load(whole)
    assert policy.world == world_options(SMALL.replace(renderer="warp"))
    assert policy.card["validation"].keys() == {"all", "no-force", "no-proprio"}
    assert policy.card["options"]["masking"]["every"] == "outage" and policy.card["versions"]["torch"]
    assert policy.card["seen_faults"] == []
    world = make_world(load_trained(str(whole)), 3, VALIDATION_SEED)
    policy.check(world.sensors, "warp")
    assert policy.act(world.reset()).shape == (3, 5)
    world.close()
    checkpoint = load(whole / "checkpoint-0000001600.safetensors")
    assert torch.equal(
        checkpoint.network.action_net.weight, load(whole / "final.safetensors").network.action_net.weight
    )


def test_a_killed_run_goes_on_to_the_bit(whole, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "resumed")
    assert run_train(load_options(folder)) == 0
    same_run(whole, folder)
    assert [start["step"] for start in json.loads((folder / "run.json").read_text())["starts"]] == [0, 960]


def test_a_cut_off_checkpoint_is_passed_over(whole, killed, tmp_path, capsys):
    folder = shutil.copytree(killed, tmp_path / "cut")
    newest = folder / "checkpoint-0000000960.safetensors"
    newest.write_bytes(newest.read_bytes()[:5000])
    with (folder / "progress.csv").open("a") as file:
        file.write("1280,0.1,0.")  # killed while it wrote
    assert run_train(load_options(folder)) == 0
    assert (folder / f"{newest.name}.broken").stat().st_size == 5000
    assert "is cut off or damaged" in (shown := capsys.readouterr().out) and "an older checkpoint serves" in shown
    same_run(whole, folder)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_again(whole, killed, tmp_path, capsys):
    folder = shutil.copytree(killed, tmp_path / "early")
    for path in folder.glob("checkpoint*"):
        path.unlink()
    assert run_train(load_options(folder)) == 0
    same_run(whole, folder)


def test_nothing_readable_is_said(killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "broken")
    for path in folder.glob("checkpoint*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no checkpoint in .*broken can be read"):
        run_train(load_options(folder))


def test_a_newer_checkpoint_is_not_stepped_back_from(killed, tmp_path, monkeypatch):
    folder = shutil.copytree(killed, tmp_path / "newer")
    (folder / ".lock").unlink(missing_ok=True)  # of the one that was killed
    names = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr("robofuse.files.FORMAT", 0)
    with pytest.raises(ValueError, match="0000960.safetensors has format 1.* 0"):
        run_train(load_options(folder))
    monkeypatch.undo()

    def fail(path, framework):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("robofuse.files.safe_open", fail)
    with pytest.raises(ValueError, match="0000960.safetensors .*Permission denied"):
        run_train(load_options(folder))
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_checkpoint_of_other_options_is_refused(killed, tmp_path, monkeypatch):
    folder = shutil.copytree(killed, tmp_path / "other")
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | {"seed": 6}))
    with pytest.raises(ValueError, match="--seed was 5, now 6"):
        run_train(load_options(folder))
    (folder / "config.json").write_text(json.dumps(plain))
    moved = replace(CAMERAS["scene"], fovy=32.0)
    monkeypatch.setitem(CAMERAS, "scene", moved)
    with pytest.raises(ValueError, match="camera .*31.0.*32.0"):
        run_train(load_options(folder))


def test_files_of_a_training_without_its_options_are_left_alone(killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "lost")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="lost has checkpoint-.* no config.json.*--out"):
        run_train(SMALL.replace(out=folder))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").touch()
    assert not leftover(tmp_path / "new") and not leftover(tmp_path / "not there")


@pytest.mark.slow
def test_validation_changes_nothing_that_is_learned(whole, tmp_path):
    assert run_train(SMALL.replace(out=tmp_path / "blind", validate_every=0)) == 0
    a, b = weights(whole), weights(tmp_path / "blind")
    assert all(torch.equal(x, b[name]) for name, x in a.items())
    assert not (tmp_path / "blind" / "best.safetensors").exists()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_asked_to_stop_it_leaves_a_checkpoint(tmp_path, monkeypatch, capsys, number, status):
    folder, show, handler = tmp_path / "run", Display.show, signal.getsignal(number)

    def then_stop(display, news):
        show(display, news)
        if news.step == 640:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "show", then_stop)
        assert run_train(SMALL.replace(out=folder)) == status
    shown = capsys.readouterr().out
    assert "stopped after 640 of 1,600 steps" in shown and f"robofuse train --resume {folder}" in shown
    assert (folder / "checkpoint-0000000640.safetensors").exists() and signal.getsignal(number) == handler
    if number == signal.SIGINT:
        return
    assert cli.main(["train", "--resume", str(folder), "--lr", "2e-4"]) == 0
    assert "--lr changed from 0.0004 to 0.0002" in capsys.readouterr().out
    assert [int(row["step"]) for row in read_rows(folder / "progress.csv")] == list(range(160, 1601, 160))


@pytest.mark.slow
def test_stopped_in_the_last_validation_it_is_made_up_for(whole, tmp_path, monkeypatch):
    folder, show = tmp_path / "run", Display.show

    def then_stop(display, news):
        show(display, news)
        if news.step == 1600:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "show", then_stop)
        assert run_train(SMALL.replace(out=folder)) == 143
    assert not (folder / "final.safetensors").exists()
    assert run_train(load_options(folder)) == 0
    same_run(whole, folder)


def test_nan_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    learn = FusionPPO.train

    def fail(model):
        if model.num_timesteps > 600:
            raise RuntimeError("value_loss became NaN or Inf; the weights are as before this minibatch")
        learn(model)

    monkeypatch.setattr(FusionPPO, "train", fail)
    with pytest.raises(RuntimeError) as told:
        run_train(SMALL.replace(out=tmp_path / "nan"))
    text = str(told.value)
    assert "after step 480: value_loss became NaN" in text and "The last checkpoint is of step 480" in text
    assert f"robofuse train --resume {tmp_path / 'nan'} --lr 0.0002" in text
    assert not (tmp_path / "nan" / "latest.safetensors").read_bytes() == b""


def test_torch_is_left_as_it_was(tmp_path, monkeypatch):
    def exactness():
        gpu = torch.backends
        return gpu.cuda.matmul.allow_tf32, gpu.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()

    def ended(*_):
        seen.append(exactness())
        return log(*_)

    log, seen, before = training.log_update, [], exactness()
    monkeypatch.setattr(training, "log_update", ended)
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    few = SMALL.replace(steps=160, validate_every=0)
    run_train(few.replace(out=tmp_path / "x"))
    run_train(few.replace(out=tmp_path / "y", deterministic=True, tf32=True))
    assert seen == [(False, False, False), (True, True, True)] and exactness() == before
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_resuming_refuses_what_would_not_fit(whole, capsys):
    assert cli.main(["train", "--resume", str(whole), "--steps", "3200"]) == 2
    assert "--steps may not change" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(whole), "--num-envs", "4", "--fusion=sum"]) == 2
    assert "--num-envs was 8, now 4; --fusion was concat, now sum" in capsys.readouterr().err
    assert cli.main(["train", "--resume", str(whole)]) == 0
    assert "is finished: all 1,600 steps are done" in capsys.readouterr().out
    assert cli.main(["train", "--resume", str(whole.parent)]) == 2
    assert "is not the folder of a training" in capsys.readouterr().err
    assert cli.main(["train", "--out", str(whole)]) == 2
    assert "already holds a training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1000}, "--seed must be an integer from 0 to 999"),
        ({"preset": "x"}, "unknown preset 'x'; presets: default, "),
        ({"num_envs": 0}, "--num-envs must be"),
        ({"lr": -1.0}, r"--lr must lie in \[0, 1\]"),
        ({"aux_coef": float("nan")}, "--aux-coef must lie in .* got nan"),
        ({"render_size": -4}, "--render-size must be .*-4"),
        ({"ent_coef": -0.1}, "--ent-coef must lie in"),
        ({"teacher_until": 0.0}, r"--teacher-until must lie in \(0, 1\], got 0.0"),
        ({"p": 1.5, "dropout": "none"}, r"--p must lie in \[0, 1\]"),
        ({"target_kl": float("inf")}, "--target-kl must lie in"),
        ({"num_envs": 1, "n_steps": 1}, "--num-envs times --n-steps must be"),
        ({"fusion": "x"}, "unknown fusion 'x'; fusions: "),
        ({"device": "tpu"}, "unknown device 'tpu'; devices: auto, cpu, cuda"),
        ({"sensors": ("proprio",)}, "nothing of proprio could ever be masked"),
        ({"rates": ("rgb=1",)}, "--rates and --rates-from are for --dropout rates, empirical, markov"),
        ({"dropout": "rates", "rates": ("rgb",)}, "entries such as rgb=0.1, got 'rgb'"),
        ({"faults": ("force:wobble",)}, "unknown fault 'wobble'.*at character 7"),
        ({"fault_share": 1.5}, r"--fault-share must lie in \[0, 1\]"),
    ],
)
def test_mistakes_leave_no_folder(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run_train(SMALL.replace(out=tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_broken_start_closes_the_worlds(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr("robofuse.envs.sb3.SB3VecEnv.close", lambda self: closed.append(True))
    with pytest.raises(ValueError, match="unknown fusion"):
        Training(SMALL.replace(fusion="x", device="cpu", renderer="warp"), tmp_path / "run", {})
    assert closed


@pytest.mark.slow
@pytest.mark.parametrize("physics", ["mujoco", "warp"])
def test_pixels_resume_to_the_bit_too(physics, tmp_path):
    config = SMALL.replace(
        sensors=MODALITIES, image_size=24, renderer="warp", physics=physics, threads=2, steps=1120,
        validate_every=0, p=0.5, dropout="markov", every=None, fusion="attention", checkpoint_every=400,
    )  # fmt: skip
    assert run_train(config.replace(out=tmp_path / "whole")) == 0
    code = KILLED.replace("1120", "960")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "whole"), str(tmp_path / "killed")])
    assert done.returncode == -signal.SIGKILL
    assert run_train(load_options(tmp_path / "killed")) == 0
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(x, b[name]) for name, x in a.items())
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "killed")


def test_two_trainings_do_not_share_a_folder(tmp_path):
    folder = tmp_path / "run"
    with lock(folder, "training"):
        (folder / ".best.123.draft.safetensors").touch()
        (folder / "kept").touch()
        with pytest.raises(ValueError, match="another training .*run;"), lock(folder, "training"):
            pass
    with lock(folder, "training"):
        assert [path.name for path in folder.iterdir() if path.name != ".lock"] == [
            "kept"
        ]  # what a killed one was writing is swept away
    with lock(tmp_path / "nothing", "training"):
        pass
    assert not (tmp_path / "nothing").exists()


def test_the_best_policy_is_never_ahead_of_its_run(whole, tmp_path):
    policy = load(whole / "final.safetensors").network

    def put(name, steps):
        save(policy, tmp_path / name, {}, {"steps": steps})

    put("best.safetensors", 800)
    assert recover_best(tmp_path, 960) == 800
    keep_previous_best(tmp_path)
    put("best.safetensors", 1600)
    assert recover_best(tmp_path, 960) == 800 and load(tmp_path).card["steps"] == 800
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]
    put("best.safetensors", 1600)
    assert recover_best(tmp_path, 960) is None and not list(tmp_path.iterdir())
    (tmp_path / "best.safetensors").write_bytes(b"x")
    assert recover_best(tmp_path, 960) is None
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors.broken"]
