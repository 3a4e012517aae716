"""What must hold on a GPU: `pytest -m cuda`. The slow tier runs the same on less, with mujoco_warp on a CPU."""

import json
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import same

from robofuse import cli
from robofuse.envs import SB3VecEnv, World
from robofuse.errors import InputError
from robofuse.files import read_tensors
from robofuse.play import load_trained, make_world
from robofuse.policies import FusionPPO
from robofuse.train import Train, load_options, run_train
from robofuse.train.run import _torch_settings

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch can use no GPU here")
ON_GPU = [pytest.mark.cuda, GPU]
SEEN = ("rgb", "depth", "proprio", "force")
POLICY = "grasp-remask"


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=ON_GPU)])
def device(request):
    with _torch_settings(1, deterministic=False, tf32=False):
        yield request.param


def on(device, here, there):
    """A number for a CPU, and one for a GPU."""
    return here if device == "cpu" else there


def make(device, envs=4, physics="warp", **options):
    """PPO with all that an update may have."""
    env = SB3VecEnv("Grasp", envs, robot="gripper", image_size=24, dropout=0.3, privileged=True, seed=3,
                    renderer="warp", physics=physics, device=device)  # fmt: skip
    options = {"n_steps": 4, "batch_size": 4 * envs, "n_epochs": 1} | options
    return FusionPPO(env=env, teacher=lambda _: env.world.expert(), seed=0, device=device, **options)


def test_observations_are_those_of_mujoco_on_a_cpu(device):
    """The same scenes, noise and masks; after ten control steps still, as far as 32 bits tell."""
    options = {"robot": "arm", "image_size": 32, "dropout": 0.3, "seed": 5, "renderer": "warp"}
    here = World("Grasp", 3, **options)
    there = World("Grasp", 3, physics="warp", device=device, **options)
    one, other = here.reset(), there.reset()
    for _ in range(10):
        assert {x.device.type for x in other.values()} == {torch.device(device).type}
        for key, x in one.items():
            a, b = x.double(), other[key].cpu().double()
            if key == "available":
                assert torch.equal(a, b)
            elif key in ("rgb", "depth"):  # an edge may move by a pixel
                assert ((a - b).abs() > 0.02 * a.abs() + 3).float().mean() < 0.01, key
            else:
                assert (a - b).abs().max() < {"force": 0.02, "proprio": 1e-3}[key], key
        action = here.expert()
        one, other = here.step(action).observation, there.step(action.to(device)).observation
    here.close()
    there.close()


def test_an_update_is_that_of_a_cpu(device):
    """From one rollout, one step of plain gradient descent: the weights say what the gradients were."""
    there, here = make(device), make("cpu", physics="mujoco")
    for model in (there, here):
        model.learn(16)
        model._current_progress_remaining = 0.7  # the teacher has weight
        model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=1.0)
    here.policy.load_state_dict(there.policy.state_dict())
    mine, theirs = here.rollout_buffer, there.rollout_buffer
    for name, x in theirs.stored.items():
        mine.stored[name].copy_(x)
    mine.action_store.copy_(theirs.action_store)
    mine.scalars.copy_(theirs.scalars)
    (told, _), (expected, _) = there.update(0.2), here.update(0.2)
    for name, x in expected.tensors().items():
        assert told.tensors()[name].item() == pytest.approx(x.item(), rel=1e-3, abs=1e-5), name
    found = dict(there.policy.named_parameters())
    for name, x in here.policy.named_parameters():
        torch.testing.assert_close(found[name].cpu(), x, rtol=1e-3, atol=1e-5, msg=name)
    there.env.close()
    here.env.close()


def test_the_first_ratio_is_1(device):
    model = make(device, on(device, 4, 256), remask=2, replay_rows=64)
    model.learn(on(device, 16, 1024))
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    model.env.close()


KILLED = """
import os, signal, sys
from robofuse.train import load_options, run, training

log = training.log_update
def then_die(model, state, *rest):
    log(model, state, *rest)
    if state.step >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
training.log_update = then_die
run.run_train(load_options(run.Path(sys.argv[1])).replace(resume=None, out=run.Path(sys.argv[2])))
"""


def test_a_killed_run_goes_on_to_the_bit(device, tmp_path):
    envs = on(device, 4, 64)
    config = Train("Grasp").replace(
        robot="gripper", image_size=24, renderer="warp", physics="warp", device=device, deterministic=True, threads=1,
        num_envs=envs, n_steps=8, batch_size=8 * envs, steps=32 * envs, checkpoint_every=16 * envs, validate_every=0,
    )  # fmt: skip
    assert run_train(config.replace(out=tmp_path / "whole")) == 0
    arguments = [str(tmp_path / "whole"), str(tmp_path / "killed"), str(24 * envs)]
    assert subprocess.run([sys.executable, "-c", KILLED, *arguments]).returncode == -9
    assert run_train(load_options(tmp_path / "killed")) == 0
    one, other = (read_tensors(tmp_path / name / "final.safetensors")[0] for name in ("whole", "killed"))
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    starts = json.loads((tmp_path / "killed" / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 16 * envs]


def test_a_million_steps_without_an_overflow(device):
    """The expert, hindered: contacts of all kinds, and blocks that are thrown."""
    envs = on(device, 8, 4096)
    world = World("Grasp", envs, sensors=("proprio", "force"), physics="warp", device=device, seed=7)
    world.reset()
    generator = torch.Generator(device).manual_seed(0)
    failed = torch.zeros(envs, dtype=torch.int64, device=device)
    ended = torch.zeros_like(failed)
    for _ in range(250):
        noise = torch.rand(envs, 5, generator=generator, device=device)
        step = world.step((world.expert() + 1.5 * (noise - 0.5)).clamp(-1.0, 1.0))
        failed |= step.failure
        ended += step.ended
    causes = {world.backend.cause(int(bits)) for bits in failed.unique() if bits}
    assert not causes and int(ended.sum()) > envs
    world.close()


def memory(device):
    """Bytes in use: of the GPU, by whomever, or the most that this process ever had."""
    if device == "cpu":
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def test_memory_stays_as_it_is(device):
    envs, rollouts = on(device, 4, 64), on(device, 30, 1000)
    model = make(device, envs, remask=1, replay_rows=16 * envs)
    model.learn(20 * 4 * envs)  # all that is kept is there
    before = memory(device)
    model.learn(rollouts * 4 * envs, reset_num_timesteps=False)
    assert memory(device) - before < 16e6
    model.env.close()


@pytest.mark.cuda
@GPU
def test_a_rollout_waits_for_the_gpu_once():
    """CUDA itself says who waits; what is on `meta` elsewhere is real here."""
    model = make("cuda", 64)
    model.learn(3 * 256)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        world, policy = model.env.world, model.policy
        observation = world.reset()
        with torch.no_grad():
            for _ in range(8):
                actions, _, _ = policy.choose(policy.fuse(observation), observation)
                observation = world.step(policy.execute(actions)).observation
        model.update(0.2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        model.env.close()


def test_a_policy_acts_as_on_a_cpu(device):
    """The shipped policy on recorded observations, with every sensor and without the camera's colours."""
    here, there = load_trained(POLICY, device="cpu"), load_trained(POLICY, device=device)
    world = make_world(here, 4, 11)
    observation = world.reset()
    for step in range(5):
        if step > 2:
            observation["available"][:, [sensor.key for sensor in world.sensors].index("rgb")] = 0
        action = here.policy.act(observation)
        given = {key: x.to(device) for key, x in observation.items()}
        torch.testing.assert_close(there.policy.act(given).cpu(), action, rtol=0, atol=1e-3)
        observation = world.step(action).observation
    world.close()


def test_the_commands_take_a_device(device, tmp_path, capsys):
    few = ["--episodes", "2", "--device", device]
    assert cli.main(["evaluate", POLICY, *few, "--out", str(tmp_path / "evaluated")]) == 0
    record = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())
    assert device in json.dumps(record)
    assert cli.main(["replay", POLICY, *few, "--out", str(tmp_path / "film.mp4")]) == 0
    assert (tmp_path / "film.mp4").stat().st_size > 10_000
    assert cli.main(["export", POLICY, "--out", str(tmp_path / "exported.onnx")]) == 0
    capsys.readouterr()
    assert cli.main(["doctor"]) == 0
    assert (torch.cuda.get_device_name() if device == "cuda" else "cuda") in capsys.readouterr().out


@pytest.mark.cuda
@GPU
def test_a_gpu_that_is_not_there():
    with pytest.raises(InputError, match="no device cuda:99; torch sees cuda:0"):
        World("Reach", 1, device="cuda:99")


def test_the_same_seed_gives_the_same_rollout(device):
    """Twice on one device, to the bit, with the switch for it."""
    found = []
    with _torch_settings(1, deterministic=True, tf32=False):
        for _ in range(2):
            world = World("Grasp", on(device, 3, 64), image_size=24, physics="warp", device=device, seed=2)
            world.reset()
            for _ in range(12):
                step = world.step(world.expert())
            found.append(step.observation)
            world.close()
    assert same(*found) and set(SEEN) <= found[0].keys() and np.prod(found[0]["rgb"].shape) > 0
