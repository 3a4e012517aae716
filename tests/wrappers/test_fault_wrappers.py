from dataclasses import replace
from typing import get_args

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from robofuse.dropout import Dropout, Independent
from robofuse.envs import SB3VecEnv, World
from robofuse.envs.cameras import CAMERAS
from robofuse.faults import Fault, Injector, Plan, faults_for, register
from robofuse.sensors import Kind
from robofuse.wrappers import SensorFaults, VecSensorFaults

OPTIONS = {"robot": "gripper", "image_size": 16, "renderer": "warp"}
DROPOUT = Dropout(Independent(0.4), every="step")
PLAN = (
    "rgb:noise(0.5)@2+depth:holes(0.3)@0 for 40+depth:blackout@40+proprio:drift(0.5)@5..20"
    "+force:latency(0.4)+force:bias@9 for 8"
    "+rgb:intermittent(0.6)@30"
)
KEYS = {"depth": "depth", "force": "window", "proprio": "vector", "rgb": "rgb"}
N, STEPS = 3, 130  # an episode of Reach ends within


def actions(step):
    return np.random.default_rng(step).uniform(-1, 1, (N, 5)).astype(np.float32)


def log_world():
    world, log = World("Reach", N, seed=4, faults=PLAN, **OPTIONS), []
    log.append(world.reset())
    for step in range(STEPS):
        result = world.step(actions(step))
        log.append(result.observation)
        log += [result.final_observation] if result.ended.any() else []
    world.close()
    return [{key: x.numpy() for key, x in one.items()} for one in log]


def test_the_world_and_both_wrappers_give_the_same_arrays():
    expected = log_world()
    venv = VecSensorFaults(SB3VecEnv("Reach", N, seed=4, **OPTIONS), PLAN, seed=4)
    log = [venv.reset()]
    for step in range(STEPS):
        observation, _, dones, infos = venv.step(actions(step))
        log.append(observation)
        if dones.any():
            final = [infos[i]["terminal_observation"] for i in np.flatnonzero(dones)]
            log.append({key: np.stack([one[key] for one in final]) for key in final[0]})
    venv.close()
    assert len(log) == len(expected) > STEPS + 1
    for ours, theirs in zip(log, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    broken = np.stack([one["available"] for one in expected[:60]])
    assert set(np.unique(broken[..., 3])) == {0, 1} and broken[41:, :, 0].max() == 0 and broken[:, :, 2].min() == 1


QUICK = ("latency", "noise")
EVERY = sorted({n for kind in get_args(Kind) for n, fault in faults_for(kind).items() if not fault.moves_camera})


@pytest.mark.parametrize("fault", [*QUICK, *(pytest.param(x, marks=pytest.mark.slow) for x in EVERY if x not in QUICK)])
def test_every_fault_through_every_wrapper(fault):
    key = next(key for key, kind in KEYS.items() if fault in faults_for(kind))
    plan, options = f"{key}:{fault}(0.8)@2", {"image_size": 24, "robot": "gripper", "renderer": "warp"}
    world = World("Reach", 2, seed=6, faults=plan, **options)
    venv = VecSensorFaults(SB3VecEnv("Reach", 2, seed=6, **options), plan, seed=6)
    env = SensorFaults(gym.make("robofuse/Reach-v0", **options), plan)
    healthy = World("Reach", 2, seed=6, **options)
    seen = [(world.reset(), venv.reset(), env.reset(seed=6)[0], healthy.reset())]
    for step in range(5):
        action = actions(step)[:2]
        alike = env.step(action[0])[0]
        seen.append((world.step(action).observation, venv.step(action)[0], alike, healthy.step(action).observation))
    changed = False
    for step, (ours, theirs, single, clean) in enumerate(seen):
        for other in ours:
            assert np.array_equal(ours[other].numpy(), theirs[other], equal_nan=ours[other].is_floating_point())
            assert np.array_equal(ours[other][0].numpy(), single[other], equal_nan=ours[other].is_floating_point())
            same = np.array_equal(ours[other].numpy(), clean[other].numpy())
            assert same or (other in (key, "available") and step >= 2)
            changed |= other == key and not same
    assert changed or fault == "intermittent"
    for one in (world, venv, env, healthy):
        one.close()


@pytest.mark.parametrize(
    ("plan", "dropout"),
    [
        pytest.param("depth:holes(0.6)", None, marks=pytest.mark.slow),
        ("depth:noise+proprio:offset", DROPOUT),
    ],
)
def test_terminal_observations_have_the_dropout_and_the_pictures_of_their_episode(plan, dropout):
    options = OPTIONS | {"dropout": dropout}
    world = World("Reach", N, seed=4, faults=plan, **options)
    venv = VecSensorFaults(SB3VecEnv("Reach", N, seed=4, **options), plan, seed=4)
    world.reset(), venv.reset()
    ends = 0
    for step in range(STEPS):
        result, (observation, _, _, infos) = world.step(actions(step)), venv.step(actions(step))
        for index in result.ended.nonzero()[:, 0].tolist():
            ends += 1
            final = infos[index]["terminal_observation"]
            assert all(np.array_equal(x[index].numpy(), final[key]) for key, x in result.final_observation.items())
        assert all(np.array_equal(x.numpy(), observation[key]) for key, x in result.observation.items())
    assert ends >= N
    world.close(), venv.close()


def test_channels_that_were_moved_to_the_front():
    inner = SB3VecEnv("Reach", N, seed=4, **OPTIONS)
    plain = VecSensorFaults(SB3VecEnv("Reach", N, seed=4, **OPTIONS), "rgb:deadlines", seed=4)
    moved = VecSensorFaults(VecTransposeImage(inner, skip=False), "rgb:deadlines", seed=4)
    assert np.array_equal(moved.reset()["rgb"], plain.reset()["rgb"].transpose(0, 3, 1, 2))
    moved.close(), plain.close()


def test_one_environment_too():
    expected = World("Reach", 1, seed=4, faults=PLAN, auto_reset=False, **OPTIONS)
    env = SensorFaults(gym.make("robofuse/Reach-v0", **OPTIONS), PLAN)
    for episode in range(2):
        ours, _ = env.reset(seed=4) if not episode else env.reset()
        theirs = expected.reset()
        for step in range(40):
            assert all(np.array_equal(x, theirs[key][0].numpy()) for key, x in ours.items())
            ours, _, terminated, truncated, _ = env.step(actions(step)[0])
            theirs = expected.step(actions(step)[:1]).observation
            if terminated or truncated:
                break
    env.close()
    expected.close()


def test_faults_leave_scenes_other_sensors_and_noise_alone():
    logs = []
    for faults in (None, "rgb:glare+proprio:blackout@3"):
        world = World("Grasp", N, seed=1, faults=faults, privileged=True, **OPTIONS)
        log = [world.reset()]
        for step in range(6):
            log.append(world.step(actions(step)).observation)
        logs.append(log)
        world.close()
    for step, (healthy, broken) in enumerate(zip(*logs, strict=True)):
        for key in ("depth", "force", "privileged"):
            assert torch.equal(healthy[key], broken[key])
        assert not torch.equal(healthy["rgb"], broken["rgb"])
        assert torch.equal(healthy["proprio"], broken["proprio"]) == (step < 3)
        assert broken["available"][:, 2].tolist() == [int(step < 3)] * N


def test_a_fault_waits_for_a_phase_of_the_task():
    world = World("Grasp", 4, seed=1, faults="force:blackout@contact", auto_reset=False, **OPTIONS)
    world.reset()
    touched, dead = torch.zeros(4, dtype=torch.bool), []
    for _ in range(60):
        observation = world.step(world.expert()).observation
        touched |= world.task.phase() >= 1
        dead.append(observation["available"][:, 1] == 0)
        assert torch.equal(dead[-1], touched)
    assert touched.all() and not dead[0].any()
    world.close()


class Foreign(gym.Env):
    """Not ours: channels first, depth in metres, a number."""

    observation_space = gym.spaces.Dict(
        camera=gym.spaces.Box(0, 255, (3, 20, 24), np.uint8),
        depth=gym.spaces.Box(0, 10, (20, 24, 1), np.float32),
        joints=gym.spaces.Box(-4, 4, (7,), np.float32),
        tick=gym.spaces.Discrete(1000),
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def _observe(self):
        image = np.full((3, 20, 24), 100, np.uint8)
        depth = np.linspace(0.5, 2.0, 480, dtype=np.float32).reshape(20, 24, 1)
        return {"camera": image, "depth": depth, "joints": np.ones(7, np.float32), "tick": np.int64(self.t)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        self.t += 1
        return self._observe(), 0.0, self.t >= 8, False, {}


@register
class Swap(Fault):
    """A fault of one's own: the wires of the first two joints are swapped."""

    name = "swap"
    kinds = ("vector",)

    def apply(self, reading, moment):
        reading[:, :2] = reading[:, :2].flip(1) * 2
        return reading


def test_somebody_elses_environment_and_a_fault_of_ones_own():
    plan = "camera:deadpixels@2+depth:noise(0.5)@0 for 6+joints:swap@3?+depth:blackout@6"
    env = SensorFaults(Foreign(), plan, dt=0.1, seed=0)
    observation, _ = env.reset()
    for step in range(8):
        assert observation["camera"].shape == (3, 20, 24) and observation["camera"].dtype == np.uint8
        changed = (observation["camera"] != 100).any(0).mean()
        assert (0.2 < changed < 0.4) if step >= 2 else changed == 0.0
        assert observation["joints"].tolist() == ([2.0, 2.0] if step >= 3 else [1.0, 1.0]) + [1.0] * 5
        assert observation["available"].tolist() == [1, int(step < 6), 1, 1] and observation["tick"] == step
        assert observation["depth"].any() == (step < 6)
        observation, *_ = env.step(np.zeros(2, np.float32))
    venv = VecSensorFaults(DummyVecEnv([Foreign] * 2), plan, dt=0.1, seed=0)
    venv.reset()
    for _ in range(8):
        observation, _, dones, infos = venv.step(np.zeros((2, 2), np.float32))
    assert dones.all() and observation["available"].all() and (observation["camera"] == 100).all()
    final = infos[0]["terminal_observation"]
    assert final["available"].tolist() == [1, 0, 1, 1] and final["joints"][0] == 2.0 and not final["depth"].any()


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
def test_gymnasiums_checker():
    check_env(SensorFaults(Foreign(), "camera:glare+joints:stuck", seed=0), skip_render_check=True)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("tock:noise", "unknown sensor 'tock'; sensors: camera, depth, joints"),
        ("tick:noise", "'tick', Discrete.*: camera, depth, joints"),
        ("camera:blackout@contact", "unknown phase 'contact'"),
        ("joints:glare", "unknown fault 'glare' for a sensor of kind vector"),
    ],
)
def test_plans_that_do_not_fit(plan, message):
    with pytest.raises(ValueError, match=message):
        SensorFaults(Foreign(), plan)


def test_nothing_planned_is_nothing_done():
    env = SensorFaults(Foreign(), Plan())
    assert env.reset()[0]["available"].all() and (env.reset()[0]["camera"] == 100).all()


def picture(world, faults, steps=3):
    """What a world of one sees after some steps, without noise."""
    world.reset()
    observation = world.restart([0], [0], [Plan.parse(faults, world.sensors)])
    for step in range(steps):
        observation = world.step(actions(step)[:1]).observation
    return observation


def test_a_knock_moves_the_camera_itself():
    options = {"image_size": 32, "robot": "gripper", "renderer": "warp", "noise": False, "auto_reset": False}
    world = World("Reach", 1, seed=6, **options)
    healthy, knocked = picture(world, ""), picture(world, "rgb:knocked(degrees=0)")
    injector = Injector(Plan.parse("rgb:knocked(degrees=0)", world.sensors), world.sensors, 1, 6, 0.05, (), True)
    injector.start(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    ((key, rows, shift, turn),) = injector.camera_offsets()
    assert (key, rows.tolist(), turn.abs().max()) == ("rgb", [0], 0.0) and shift.norm() == pytest.approx(0.05)
    camera = CAMERAS["scene"]
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, camera.quaternion())
    moved = axes.reshape(3, 3) @ shift[0].double().numpy()
    place = {what: tuple(float(x) for x in np.add(getattr(camera, what), moved)) for what in ("position", "target")}
    elsewhere = World("Reach", 1, seed=6, cameras=(replace(camera, **place),), **options)
    there = picture(elsewhere, "")
    for key in ("rgb", "depth"):  # a camera that was there from the start sees the same
        assert not torch.equal(knocked[key], healthy[key])
        apart = (knocked[key].int() - there[key].int()).abs()
        assert apart.float().quantile(0.99) <= 1.0
    assert all(torch.equal(knocked[key], healthy[key]) for key in ("proprio", "force", "available"))
    turned = picture(world, "depth:knocked(0.5, metres=0)@2")
    assert all(torch.equal(picture(world, "depth:knocked@3", 2)[key], picture(world, "", 2)[key]) for key in healthy)
    assert not torch.equal(turned["rgb"], healthy["rgb"])
    again = picture(world, "")
    assert all(torch.equal(again[key], healthy[key]) for key in healthy)  # the next episode's camera is in its place
    world.close(), elsewhere.close()


def test_a_knock_needs_a_world():
    env = gym.make("robofuse/Reach-v0", image_size=24, robot="gripper", renderer="warp")
    with pytest.raises(ValueError, match="rgb:knocked .*only a World"):
        SensorFaults(env, "rgb:knocked")
    env.close()


@pytest.mark.parametrize("key", ["achieved_goal", "desired_goal"])
def test_goals_are_no_sensors(key):
    class Goals(gym.Env):
        observation_space = gym.spaces.Dict(
            {name: gym.spaces.Box(-1, 1, (3,)) for name in ("observation", "achieved_goal", "desired_goal")}
        )
        action_space = gym.spaces.Box(-1, 1, (2,))

    SensorFaults(Goals(), "observation:blackout!")
    for wrap in (SensorFaults, lambda env, plan: VecSensorFaults(DummyVecEnv([lambda: env]), plan)):
        with pytest.raises(ValueError, match=f"'{key}' is a goal.*: observation"):
            wrap(Goals(), f"{key}:blackout!")
