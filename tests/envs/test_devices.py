"""Devices that are not there, models that mujoco_warp cannot take, and a World in two threads: a sentence each."""

import threading

import mujoco
import mujoco_warp
import pytest
import torch
import warp
from helpers import BLIND, rest

from robofuse.envs import World
from robofuse.envs.physics.backend import CpuBackend
from robofuse.envs.physics.staged import StagedBackend
from robofuse.envs.physics.warp import check_device
from robofuse.envs.physics.warp_backend import WarpBackend
from robofuse.envs.tasks.reach import Reach
from robofuse.errors import InputError, StateError
from robofuse.tensors import find_device


class Gauss(Reach):
    """Solved by what mujoco_warp does not have."""

    name = "Gauss"

    def add_objects(self, spec, workspace, tips):
        super().add_objects(spec, workspace, tips)
        spec.option.solver = mujoco.mjtSolver.mjSOL_PGS


@pytest.mark.parametrize("device", ["abacus", "mps", "meta", "cuda:x", ""])
def test_unknown_devices(device):
    with pytest.raises(InputError, match="unknown device.*devices: auto, cpu, cuda"):
        World("Reach", 1, sensors=BLIND, device=device)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA enabled"),
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update your GPU"),
            r"The NVIDIA driver on your system is too old \(found version 11040\)",
        ),
        (None, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_cuda_that_is_not_there_is_told_with_torchs_reason(says, reason, monkeypatch):
    def init():
        if says:
            raise says

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    assert find_device("auto").type == "cpu"
    for device in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match=rf"no CUDA device here \({reason}.*use device cpu or auto.*doctor"):
            World("Reach", 1, sensors=BLIND, device=device)


def test_a_gpu_that_is_not_there_is_told_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [str(find_device(name)) for name in ("auto", "cuda", "cuda:0")] == ["cuda:1", "cuda:1", "cuda:0"]
    with pytest.raises(InputError, match="no device cuda:2; torch sees cuda:0 to cuda:1"):
        find_device("cuda:2")


def test_a_driver_that_is_too_old_for_warp(monkeypatch):
    monkeypatch.setattr(warp, "get_cuda_driver_version", lambda: (12, 2))
    monkeypatch.setattr(warp, "get_cuda_toolkit_version", lambda: (13, 4))
    check_device(torch.device("cpu"))
    with pytest.raises(StateError, match="no cuda:7.*built for CUDA 13.4, the driver runs CUDA up to 12.2"):
        check_device(torch.device("cuda:7"))


def test_what_mujoco_warp_cannot_simulate_is_named():
    with pytest.raises(InputError, match="mujoco_warp cannot simulate.*mjSOL_PGS"):
        World(Gauss, 1, robot="gripper", sensors=BLIND, physics="warp")
    bodies = "<body><freejoint/><geom size='1'/></body>" * 11
    xml = f"<mujoco><option jacobian='dense'/><worldbody>{bodies}</worldbody></mujoco>"
    with pytest.raises(InputError, match="mujoco_warp cannot simulate.*Dense.*66"):
        WarpBackend(mujoco.MjModel.from_xml_string(xml), 1, 1)


def test_what_it_cannot_simulate_it_can_draw():
    world = World(Gauss, 1, robot="gripper", sensors=("depth",), image_size=8)
    assert world.reset()["depth"].any() and world.backend.model.opt.solver == mujoco.mjtSolver.mjSOL_PGS
    world.close()


def test_what_it_cannot_draw_is_named(monkeypatch):
    def refuse(*_):
        raise NotImplementedError("Body plugins not supported.")

    monkeypatch.setattr(mujoco_warp, "put_model", refuse)
    for kind in (CpuBackend, lambda model, count, substeps, *_: StagedBackend(model, count, substeps, "cpu")):
        monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, place, *args, kind=kind: kind(*args))
        with pytest.raises(InputError, match="mujoco_warp cannot draw.*Body plugins.*renderer=.gl"):
            World("Reach", 1, robot="gripper", sensors=("depth",), image_size=8)


def test_a_world_in_two_threads_at_once():
    """The second one is refused, the first is not disturbed, and afterwards either may go on."""
    world, alone = (World("Reach", 2, robot="gripper", sensors=BLIND, num_threads=1) for _ in range(2))
    world.reset()
    alone.reset()
    within, go_on, update, found = threading.Event(), threading.Event(), world.task.update, []

    def slow():
        within.set()
        assert go_on.wait(20.0)
        update()

    world.task.update = slow
    first = threading.Thread(target=lambda: found.append(world.step(rest(world))))
    first.start()
    assert within.wait(20.0)
    calls = (lambda: world.step(rest(world)), world.reset, world.expert, lambda: world.restart([0], [5]))
    for call in calls:
        with pytest.raises(StateError, match="at work in another thread"):
            call()
    go_on.set()
    first.join()
    expected = alone.step(rest(alone)).observation
    assert all(torch.equal(x, expected[key]) for key, x in found[0].observation.items())
    world.step(rest(world))
    world.close()
    alone.close()
