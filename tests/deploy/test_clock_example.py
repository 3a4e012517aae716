"""`scripts/examples/clock.py`: an exported policy driven by a clock, with late, dropped and overtaken frames."""

import math

import gymnasium as gym
import numpy as np
import pytest
from exporting import SENSORS, make, observe
from helpers import BLIND
from test_foreign_examples import example

from robofuse.deploy import Policy
from robofuse.envs import World
from robofuse.export.make import exported

clock = example("clock")
KEYS = tuple(sensor.key for sensor in SENSORS)
PATIENT = dict.fromkeys(KEYS, 0.125)  # s


@pytest.fixture(scope="module")
def data():
    return exported(make(action=gym.spaces.Box(-1, 1, (5,), np.float32))).data


def live(policy, now):
    return {key for key, state in policy.status(now).items() if state.live}


def test_a_sensor_that_dies_is_hidden_by_itself_and_comes_back(data):
    policy = Policy(data, timeouts=PATIENT)
    robot, seen = clock.Robot(policy, clock.Link(dies={"rgb": 0.5}), 0), observe()
    for step in range(16):
        now = step * clock.PERIOD
        robot.measure(seen, step)
        action = robot.control(now)
        assert live(policy, now) == (set(KEYS) if step <= 12 else set(KEYS) - {"rgb"})  # 0.5 s, and 0.125 s of patience
        flags = {"available": [key in live(policy, now) for key in KEYS]}
        assert np.array_equal(action, policy(seen | flags))
    policy.feed("rgb", seen["rgb"], 0.75)
    assert live(policy, 0.75) == set(KEYS)


def test_without_the_watchdog_the_last_frame_lives_for_ever(data):
    policy = Policy(data, timeouts=dict.fromkeys(KEYS, math.inf))
    robot = clock.Robot(policy, clock.Link(dies=dict.fromkeys(KEYS, 0.1)), 0)
    for step in range(40):
        robot.measure(observe(step), step)
        action = robot.control(step * clock.PERIOD)
    assert live(policy, 2.0) == set(KEYS) and np.array_equal(action, policy(observe(2)))


def test_frames_that_were_overtaken_are_dropped(data):
    policy = Policy(data, timeouts=dict.fromkeys(KEYS, 1.0))
    robot = clock.Robot(policy, clock.Link(delay=0.3), 0)
    newest = dict.fromkeys(KEYS, -math.inf)
    for step in range(40):
        now = step * clock.PERIOD
        robot.measure(observe(), step)
        for arrival, _, key, _, stamp in robot.way:
            if arrival <= now:
                newest[key] = max(newest[key], stamp)
        robot.deliver(now)
        for key, state in policy.status(now).items():
            assert state.age == pytest.approx(now - newest[key])
    assert robot.overtaken > 10


def test_sensors_have_rates_of_their_own_and_lose_what_the_link_says(data):
    slow, lossy = clock.Link(every={"rgb": 4, "depth": 2}), clock.Link(drop=0.3)
    for link, expected in ((slow, {"depth": 50, "force": 100, "proprio": 100, "rgb": 25}), (lossy, None)):
        robot = clock.Robot(Policy(data), link, 3)
        for step in range(100):
            robot.measure(observe(), step)
        sent = {key: sum(frame[2] == key for frame in robot.way) for key in KEYS}
        assert sent == expected if expected else all(50 < count < 90 for count in sent.values())


def test_a_blind_robot_stands_still_and_holds_what_it_holds(data):
    robot = clock.Robot(Policy(data, timeouts=PATIENT), clock.Link(dies=dict.fromkeys(KEYS, 0.0)), 0)
    robot.measure(observe(), 0)
    gripper = robot.control(0.0)[4]
    assert gripper != 0.0 and np.array_equal(robot.control(1.0), np.float32([0, 0, 0, 0, gripper]))


def test_a_run_is_the_same_again():
    """Worlds of the gripper that reads no pictures; half of the frames late or lost, so that the way matters."""
    world = World("Reach", 3, robot="gripper", sensors=BLIND, auto_reset=False, seed=5, num_threads=1)
    data, actions = exported(make(world.sensors, gym.spaces.Box(-1, 1, (5,), np.float32))).data, []
    policies, step = [Policy(data) for _ in range(3)], world.step
    world.step = lambda action: (actions.append(action.copy()), step(action))[1]
    runs = []
    for link in (clock.Link(0.3, 0.2), clock.Link(0.3, 0.2), clock.Link()):
        actions.clear()
        won = clock.play(world, policies, link, 0)
        runs.append((won, np.stack(actions)))
    world.close()
    assert runs[0][0] == runs[1][0] and np.array_equal(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][1][:3], runs[2][1][:3])


@pytest.mark.slow
def test_grasp_works_with_lost_frames_and_a_camera_that_dies(needs_gl):
    needs_gl()
    data = clock.exported("grasp")
    policies = [Policy(data) for _ in range(20)]
    world = World(num_envs=20, seed=1_000_000, auto_reset=False, **policies[0].world)
    won = {name: np.mean(clock.play(world, policies, link, 0)) for name, link in clock.LINKS.items()}
    world.close()
    for name in ("all arrive at once", "30 % never arrive", "rgb dies at 0.5 s"):
        assert won[name] >= 0.8, won
