import os
import shutil
import signal

import pytest
import torch
from helpers import BLIND
from test_train_run import weights

from robofuse.envs import SB3VecEnv, Task, register_task
from robofuse.envs.tasks import Reach
from robofuse.policies import FusionPPO, load
from robofuse.policies.teacher import load_teacher
from robofuse.train import Train, load_options, run_train
from robofuse.train.build import TEACHER, find_teacher, resolve, teacher_config
from robofuse.train.checkpoint import FINAL
from robofuse.train.display import Display, read_rows

STUDENT = Train("Reach").replace(
    robot="gripper", sensors=BLIND, num_envs=8, n_steps=20, batch_size=80, epochs=2, hidden=(16,), token_dim=16,
    steps=960, checkpoint_every=480, validate_every=0, threads=1, seed=5,
    teacher="learned", replay_rows=0, teacher_until=0.6, teacher_final=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A short training with a teacher of its own, shortened too."""
    folder = tmp_path_factory.mktemp("runs") / "taught"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robofuse.train.run.teacher_config", short_teacher)
        assert run_train(STUDENT.replace(out=folder)) == 0
    return folder


def short_teacher(config, folder):
    small = {"steps": 480, "checkpoint_every": 160, "validate_every": 0, "n_steps": 20, "batch_size": 80, "epochs": 1}
    return teacher_config(config, folder).replace(**small)


@pytest.mark.slow
def test_a_run_trains_its_own_teacher_first(taught, capsys):
    teacher = load(taught / TEACHER)
    assert teacher.keys == ("truth",) and teacher.card["steps"] == 480
    assert load(taught).keys == ("force", "proprio")
    cost = load(taught / TEACHER / FINAL).card
    told = {name: cost[name] for name in ("steps", "seconds", "validation_seconds")}
    assert load(taught).card["teacher"] == told and told["steps"] == 480
    advised = [line.split(",") for line in (taught / "progress.csv").read_text().splitlines()]
    column = advised[0].index("train/teacher")
    assert float(advised[1][column]) > 0.0 and advised[-1][column] in (
        "",
        "0.0",
    )  # after 0.6 of the training it is silent


@pytest.mark.slow
def test_a_run_stopped_while_its_teacher_learns_goes_on(taught, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("robofuse.train.run.teacher_config", short_teacher)
    folder, show = tmp_path / "cut", Display.show

    def then_stop(display, news):
        show(display, news)
        if news.step == 320:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Display, "show", then_stop)
        assert run_train(STUDENT.replace(out=folder)) == 143
    assert f"robofuse train --resume {folder}\n" in capsys.readouterr().out
    assert not (folder / TEACHER / FINAL).exists()
    assert run_train(load_options(folder)) == 0
    for run in (folder / TEACHER, taught / TEACHER), (folder, taught):
        one, other = (weights(part) for part in run)
        assert all(torch.equal(x, other[name]) for name, x in one.items())


@pytest.mark.slow
def test_asked_to_stop_when_the_teacher_is_done_the_student_does_not_begin(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("robofuse.train.run.teacher_config", short_teacher)
    monkeypatch.setattr("robofuse.train.training.draw_curve", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert run_train(STUDENT.replace(out=tmp_path / "run")) == 143
    assert f"robofuse train --resume {tmp_path / 'run'}" in capsys.readouterr().out
    assert (tmp_path / "run" / TEACHER / FINAL).exists() and not (tmp_path / "run" / "progress.csv").exists()


@pytest.mark.parametrize("world", [{"task": "Grasp", "robot": "gripper"}, {"task": "Reach", "robot": "arm"}])
def test_a_teacher_of_another_task_or_robot_is_refused(taught, world):
    size = load(taught / TEACHER).sensors[0].shape[0]
    with pytest.raises(ValueError, match="learned with the (task Reach|robot gripper); this one is"):
        load_teacher(str(taught / TEACHER), size, "cpu", **world)
    load_teacher(str(taught / TEACHER), size, "cpu", task="Reach", robot="gripper")


def test_the_students_mistakes_are_told_before_the_teacher_learns(tmp_path, monkeypatch):
    monkeypatch.setattr("robofuse.train.run.teacher_config", lambda *_: pytest.fail("it trains the teacher"))
    with pytest.raises(ValueError, match="image_size must be"):  # of the worlds
        run_train(STUDENT.replace(out=tmp_path / "run", image_size=7))

    def make_model(config, env):
        raise ValueError("of the learner")

    monkeypatch.setattr("robofuse.train.training.make_model", make_model)
    with pytest.raises(ValueError, match="of the learner"):
        run_train(STUDENT.replace(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"teacher_coef": 0.0}, {"teacher": "none"}])
def test_without_a_weight_there_is_no_teacher(tmp_path, options):
    config = STUDENT.replace(out=tmp_path / "run", steps=160, **options)
    assert run_train(config) == 0 and not (tmp_path / "run" / TEACHER).exists()
    assert find_teacher(config, tmp_path / "run", 24) is None


@pytest.mark.slow
def test_advice_is_followed_and_fades(taught):
    env = SB3VecEnv("Reach", 8, robot="gripper", sensors=BLIND, privileged=True, seed=1)
    teacher = load_teacher(str(taught / TEACHER), len(env.world.privileged_names), "cpu")
    for parameter in teacher.parameters():
        assert not parameter.requires_grad
    with torch.no_grad():  # so that there is something to follow
        teacher.network.action_net.bias.copy_(torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0]))
    model = FusionPPO(
        env=env, n_steps=20, batch_size=80, n_epochs=4, seed=0, device="cpu", learning_rate=3e-3, teacher=teacher,
        teacher_coef=3.0, teacher_until=0.5,
    )  # fmt: skip
    assert model.teacher_weight() == 3.0
    model._current_progress_remaining = 0.75
    assert model.teacher_weight() == 1.5
    model._current_progress_remaining = 0.4
    assert model.teacher_weight() == 0.0
    env.reset()
    observation = {key: torch.as_tensor(x) for key, x in env.world.reset(seed=9).items()}
    before = (model.policy.act(observation) - teacher(observation)).abs().mean()
    model.teacher_until = 10.0  # stays all the way
    model.learn(4000)
    observation = {key: torch.as_tensor(x) for key, x in env.world.reset(seed=9).items()}
    after = (model.policy.act(observation) - teacher(observation)).abs().mean()
    assert after < 0.6 * before
    env.close()


def test_only_a_policy_over_truth_can_teach(taught):
    with pytest.raises(ValueError, match="'truth' alone.* force, proprio"):
        load_teacher(str(taught), 24, "cpu")
    with pytest.raises(ValueError, match="same task with the same robot"):
        load_teacher(str(taught / TEACHER), 99, "cpu")


def test_copying_on_past_rows_goes_on_to_the_bit(tmp_path):
    """Past rows are not in a checkpoint; they are forgotten at each, so a resumed training has the same ones."""
    options = {"teacher": "expert", "replay_rows": 250, "replay_passes": 2.0, "teacher_final": 0.5, "remask": 2}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_train(STUDENT.replace(**options, out=whole)) == 0
    shutil.copytree(whole, cut)
    (cut / FINAL).unlink()
    last = max(cut.glob("checkpoint-*.safetensors"))
    assert len(list(cut.glob("checkpoint-*.safetensors"))) == 2
    last.unlink()  # as if it had been killed after the first one
    assert run_train(load_options(cut)) == 0
    assert all(torch.equal(x, weights(cut)[name]) for name, x in weights(whole).items())
    kept = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_rows(whole / "progress.csv")]
    again = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in read_rows(cut / "progress.csv")]
    assert kept == again and float(kept[-1]["train/teacher"]) > 0.0 and float(kept[-1]["train/remask/teacher"]) > 0.0


def test_auto_is_the_expert_where_there_is_one(nothing_stays, tmp_path):
    assert resolve(Train("Grasp"))[0].learning.teacher == "expert"

    @register_task
    class Plain(Reach):
        """Reach without an expert."""

        name = "PlainReach"
        expert = Task.expert

    assert resolve(Train("PlainReach"))[0].learning.teacher == "learned"
    with pytest.raises(ValueError, match="no scripted expert.*--teacher learned"):
        run_train(STUDENT.replace(task="PlainReach", teacher="expert", out=tmp_path / "run"))
    assert not any((tmp_path / "run").glob("*.json"))


def test_a_teacher_that_does_not_exist_leaves_no_run_behind(tmp_path):
    with pytest.raises(ValueError, match="auto, expert, learned, none or a policy.*exprt"):
        run_train(STUDENT.replace(teacher="exprt", out=tmp_path / "run"))
    assert run_train(STUDENT.replace(teacher="expert", steps=160, out=tmp_path / "run")) == 0


@pytest.mark.parametrize(
    ("option", "value", "seen"), [("memory", "recurrent", "replay_rows"), ("masked_as", "zeros", "remask")]
)
def test_what_cannot_be_combined_is_left_out(option, value, seen):
    learning = resolve(Train().replace(**{option: value}))[0].learning
    assert getattr(learning, seen) == 0 < getattr(Train().learning, seen)
