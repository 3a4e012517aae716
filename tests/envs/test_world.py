"""The step loop: determinism, paired scenes, resets, bad input, diverged simulations."""

import subprocess
import sys

import mujoco
import numpy as np
import pytest
import torch
from helpers import BLIND, rest, same

from robofuse.envs import Camera, Noise, Timing, World
from robofuse.envs.tasks import Grasp
from robofuse.tensors import numbers_of


def _actions(steps, episodes):
    """Actions that depend on the episode alone, so that worlds of different batches can be compared."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(steps, 64, 5, generator=generator) * 2 - 1
    return [row[episodes] for row in table]


def _play(num_envs, first, steps=6, **options):
    world = World("Grasp", num_envs, seed=11, **options)
    observations = [world.reset(episode=first)]
    for action in _actions(steps, torch.arange(first, first + num_envs)):
        observations.append(world.step(action).observation)
    world.close()
    return observations


@pytest.mark.parametrize("renderer", ["warp", "gl"])
def test_a_world_does_not_depend_on_how_many_there_are_or_on_threads(renderer, needs_gl):
    if renderer == "gl":
        needs_gl()
    options = {"renderer": renderer, "image_size": 32, "privileged": True}
    whole = _play(6, 0, num_threads=2, **options)
    again = _play(6, 0, num_threads=1, **options)
    parts = [_play(2, first, num_threads=1, **options) for first in (0, 2, 4)]
    for step, observation in enumerate(whole):
        assert same(observation, again[step])
        joined = {key: torch.cat([part[step][key] for part in parts]) for key in observation}
        assert same(observation, joined)


SCRIPT = """
import hashlib, torch
from robofuse.envs import World
world = World("Grasp", 3, seed=5, image_size=32)
digest = hashlib.sha256()
observation = world.reset()
for k in range(5):
    for key in sorted(observation):
        digest.update(observation[key].numpy().tobytes())
    observation = world.step(torch.full((3, 5), 0.1 * k)).observation
world.close()
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_two_processes_agree_to_the_bit():
    digests = {
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1 and len(digests.pop().strip()) == 64


def _episodes(num_envs, first, **options):
    """Expert episodes first … first + num_envs − 1 and the ones after them, every field of every step."""
    world = World("Grasp", num_envs, seed=11, **options)
    world.reset(episode=first)
    trace = {}
    for _ in range(70):
        step = world.step(world.expert())
        fields = {"reward": step.reward, "terminated": step.terminated, "truncated": step.truncated, **step.terms}
        fields |= {f"observation {key}": value for key, value in step.observation.items()}
        for row in range(num_envs):
            own = {name: value[row].tolist() for name, value in fields.items()}
            own["final"] = {key: value[row].tolist() for key, value in step.final_observation.items()}
            trace.setdefault(int(step.episode[row]), []).append(own)
    return trace


def test_whole_episodes_do_not_depend_on_how_many_there_are():
    """Grasps, ends and the episodes after them: what belongs to one episode is the same for N = 3 and N = 1."""
    timing = {"force": Timing(2, 1)}
    options = {"sensors": BLIND, "privileged": True, "force_window": 25, "timing": timing}
    three = _episodes(3, 0, **options)
    assert len(three) > 3 and any(step["terminated"] for steps in three.values() for step in steps)
    for episode in range(4):  # episode 3 follows episode 0 in its world
        alone, together = _episodes(1, episode, **options)[episode], three[episode]
        shared = min(len(alone), len(together))
        assert shared > 10
        # the observation after the end belongs to the next episode, and which one that is depends on N
        for last in (alone[shared - 1], together[shared - 1]):
            for key in [key for key in last if key.startswith("observation")]:
                del last[key]
        assert alone[:shared] == together[:shared]


def _scene(world):
    state, parameter = world.backend.field("qpos").clone(), world.backend.parameter
    return [state, *(parameter(name).clone() for name in ("geom_size", "geom_rgba", "geom_friction", "body_mass"))]


def _scenes_of(first, **options):
    world = World("Grasp", 4, sensors=BLIND, **options)
    world.reset(episode=first)
    return _scene(world)


def test_the_scene_depends_on_seed_and_episode_alone():
    reference = _scenes_of(8, seed=7)
    for options in ({"noise": False}, {"robot": "arm", "force_window": 3}, {"timing": {"proprio": Timing(2, 3)}}):
        for a, b in zip(reference, _scenes_of(8, seed=7, **options), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(reference[0], _scenes_of(8, seed=8)[0])
    assert not torch.equal(reference[0], _scenes_of(9, seed=7)[0])
    for a, b in zip(reference, _scenes_of(9, seed=7), strict=True):
        assert torch.equal(a[1:], b[:-1])


def test_a_worlds_next_scene_does_not_depend_on_the_policy():
    """World i of N plays episodes i, i + N, i + 2N, …, whenever they end."""
    world = World("Reach", 4, sensors=BLIND, seed=2)
    world.reset()
    target = world.backend.field("mocap_pos")
    goals = {int(world.episode[i]): target[i].clone() for i in range(4)}
    for k in range(100):
        expert = world.expert()
        expert[k % 3 :] = 0.0  # some succeed early, some run out of time
        step = world.step(expert)
        for i in numbers_of(step.ended).tolist():
            goals[int(world.episode[i])] = target[i].clone()
            assert int(world.episode[i]) % 4 == i
    assert len(goals) > 8
    for number, goal in goals.items():
        fresh = World("Reach", 1, sensors=BLIND, seed=2)
        fresh.reset(episode=number)
        assert torch.equal(fresh.backend.field("mocap_pos")[0], goal)


def test_reset_goes_on_or_starts_again():
    world = World("Reach", 2, sensors=BLIND, seed=4)
    first = world.reset()
    assert world.episode.tolist() == [0, 1]
    world.reset()
    assert world.episode.tolist() == [2, 3]
    assert same(world.reset(seed=4), first)
    world.reset(episode=10)
    assert world.episode.tolist() == [10, 11]


def test_only_ended_worlds_reset_and_the_last_observation_is_kept():
    options = {"sensors": ("proprio", "force", "rgb"), "image_size": 16, "seed": 3}
    resetting, staying = World("Reach", 6, **options), World("Reach", 6, auto_reset=False, **options)
    resetting.reset(), staying.reset()
    for _ in range(resetting.max_steps):
        action = staying.expert()
        action[3:] = 0.0
        a, b = resetting.step(action), staying.step(action)
        if a.ended.any():
            break
        assert same(a.observation, b.observation)
    assert 0 < a.ended.sum() < 6 and torch.equal(a.ended, b.ended)
    assert same(a.final_observation, b.observation)
    for key in a.observation:
        assert torch.equal(a.observation[key][~a.ended], b.observation[key][~a.ended])
    assert torch.equal(resetting.elapsed == 0, a.ended)
    # the new episode begins with what a world that starts there sees
    for i in numbers_of(a.ended).tolist():
        fresh = World("Reach", 1, **options)
        start = fresh.reset(episode=int(resetting.episode[i]))
        assert same(start, {key: value[[i]] for key, value in a.observation.items()})
        fresh.close()
    resetting.close(), staying.close()


def test_running_out_of_time_truncates():
    world = World("Reach", 2, sensors=BLIND)
    world.reset()
    for k in range(1, world.max_steps + 1):
        step = world.step(rest(world))
        assert step.truncated.all() == (k == world.max_steps)
    assert not step.terminated.any() and not step.success.any()


def test_observations_stay_what_they_were():
    """Rollout buffers keep references: a later step must not write into an earlier observation."""
    world = World("Grasp", 2, image_size=16, timing={"rgb": Timing(2, 1), "depth": Timing(1, 2)})
    kept = [world.reset()]
    copies = [{key: value.clone() for key, value in kept[0].items()}]
    for _ in range(8):
        kept.append(world.step(torch.rand(2, 5) * 2 - 1).observation)
        copies.append({key: value.clone() for key, value in kept[-1].items()})
    assert all(same(a, b) for a, b in zip(kept, copies, strict=True))
    world.close()


def test_observations_are_in_their_space():
    world = World("Grasp", 3, cameras=("scene", "wrist"), image_size=(24, 32), privileged=True)
    observation = world.reset()
    keys = ["available", "depth", "depth_wrist", "force", "privileged", "proprio", "rgb", "rgb_wrist"]
    assert sorted(observation) == keys == list(world.observation_space.spaces)
    assert [sensor.key for sensor in world.sensors] == [k for k in keys if k not in ("available", "privileged")]
    for index in range(3):
        row = {key: value[index].numpy() for key, value in observation.items()}
        assert world.observation_space.contains(row)
    assert observation["rgb_wrist"].shape == (3, 24, 32, 3) and observation["rgb"].dtype == torch.uint8
    assert observation["depth"].shape == (3, 24, 32, 1) and observation["depth"].dtype == torch.uint16
    assert observation["available"].tolist() == [[1] * 6] * 3
    world.close()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_action_that_is_no_number_is_refused_and_nothing_moves(bad):
    world = World("Reach", 3, sensors=BLIND)
    world.reset()
    before = world.backend.field("qpos").clone()
    action = rest(world)
    action[1, 2] = bad
    with pytest.raises(ValueError, match=rf"world 1.* {bad} .*index 2"):
        world.step(action)
    assert torch.equal(world.backend.field("qpos"), before) and world.elapsed.eq(0).all()


@pytest.mark.parametrize("action", [None, "up", [["a"] * 5], {"x": 1}])
def test_an_action_that_is_not_numbers_is_refused(action):
    world = World("Reach", 1, sensors=BLIND)
    world.reset()
    with pytest.raises(ValueError, match=r"numbers of shape \(1, 5\)"):
        world.step(action)


def test_actions_beyond_the_bounds_are_clipped():
    a, b = (World("Reach", 1, sensors=BLIND, seed=0) for _ in range(2))
    a.reset(), b.reset()
    for _ in range(5):
        first, second = a.step(np.array([[9.0, -3.0, 0.2, 1.0, 7.0]])), b.step(np.array([[1.0, -1.0, 0.2, 1.0, 1.0]]))
    assert same(first.observation, second.observation)
    assert torch.equal(first.reward, second.reward)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (5,), (3, 5, 1)])
def test_actions_of_the_wrong_shape_are_refused(shape):
    world = World("Reach", 3, sensors=BLIND)
    world.reset()
    with pytest.raises(ValueError, match=r"actions must have shape \(3, 5\)"):
        world.step(np.zeros(shape))


def test_a_diverged_world_ends_alone():
    options = {"sensors": ("proprio", "force", "depth"), "image_size": 16, "seed": 1}
    sick, well = World("Grasp", 4, **options), World("Grasp", 4, **options)
    sick.reset(), well.reset()
    for _ in range(3):
        before = sick.step(rest(sick)).observation
        well.step(rest(well))
    block = sick.task._dof
    sick.backend.field("qvel")[2, block] = float("nan")
    sick.backend.field("qvel")[3, block : block + 3] = 1e12
    a, b = sick.step(rest(sick)), well.step(rest(well))
    assert a.peak_force[2:].eq(0.0).all() and a.peak_force[:2].gt(0.0).all()
    assert numbers_of(a.failure > 0).tolist() == [2, 3] and "BADQVEL" in sick.cause(int(a.failure[2]))
    assert a.truncated.tolist() == [False, False, True, True] and not a.terminated.any()
    assert a.reward[2:].eq(0).all() and all(term[2:].eq(0).all() for term in a.terms.values())
    for key in a.observation:
        assert torch.equal(a.final_observation[key][2:], before[key][2:])
        assert torch.equal(a.final_observation[key][:2], a.observation[key][:2])
        assert torch.equal(a.observation[key][:2], b.observation[key][:2])
        assert a.observation[key].float().isfinite().all()
    assert sick.episode.tolist() == [0, 1, 6, 7]
    for _ in range(5):  # and goes on, with no word about the past
        a, b = sick.step(rest(sick)), well.step(rest(well))
        assert not a.failure.any()
        assert torch.equal(a.observation["proprio"][:2], b.observation["proprio"][:2])
    sick.close(), well.close()


class _Broken(Grasp):
    """One scene has a block that is nowhere."""

    def place(self, ids, u):
        super().place(ids, u)
        self.backend.field("qpos")[ids[ids == 2], self._qpos] = float("nan")


def test_a_scene_that_cannot_be_set_up_is_told():
    world = World(_Broken(), 3, sensors=("proprio",))
    assert world.reset()["proprio"].isfinite().all()
    step = world.step(rest(world))
    assert numbers_of(step.failure > 0).tolist() == [2] and step.truncated.tolist() == [False, False, True]
    assert step.final_observation["proprio"].isfinite().all() and step.observation["proprio"].isfinite().all()


class _Cramped(Grasp):
    """MuJoCo has no room for its contacts, and raises."""

    def add_objects(self, spec, workspace, tips):
        super().add_objects(spec, workspace, tips)
        spec.memory = 8_000


def test_an_error_that_mujoco_raises_ends_the_episode_and_nothing_else():
    world = World(_Cramped(), 3, sensors=("proprio",))
    world.reset()
    for _ in range(3):
        step = world.step(rest(world))
        failed = step.failure > 0
        assert failed.any() and all(world.cause(failure) for failure in step.failure[failed].tolist())
        assert step.truncated[failed].all() and step.observation["proprio"].isfinite().all()


def test_a_world_does_not_survive_a_fork():
    world = World("Reach", 1, sensors=BLIND)
    world.reset()
    world._process = -1  # as a forked child would find it
    with pytest.raises(RuntimeError, match="made in another process"):
        world.step(rest(world))


@pytest.mark.parametrize("forward", [(1, 0, 0), (0, 0, 1), (0, 0, -1), (0, 1, 0), (0.3, 0.2, 0.1)])
@pytest.mark.parametrize("mount", ["world", "hand"])
def test_a_camera_may_look_anywhere(forward, mount):
    quaternion = Camera("c", (0.1, 0.2, 0.3), tuple(np.add((0.1, 0.2, 0.3), forward)), mount=mount).quaternion()
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)
    axes = np.zeros(9)
    mujoco.mju_quat2Mat(axes, quaternion)
    np.testing.assert_allclose(-axes.reshape(3, 3)[:, 2], np.array(forward) / np.linalg.norm(forward), atol=1e-9)


def test_closed_is_closed():
    world = World("Reach", 1, image_size=16)
    world.reset()
    world.close()
    world.close()
    for call in (world.reset, lambda: world.step(rest(world)), world.expert, world.picture):
        with pytest.raises(RuntimeError, match="this World is closed"):
            call()


def test_step_before_reset():
    with pytest.raises(RuntimeError, match="call reset"):
        World("Reach", 1, sensors=BLIND).step(np.zeros((1, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "Juggle"}, "unknown task 'Juggle'; tasks: Reach, Grasp, Feel, PegInsert, Sort, Stack"),
        ({"robot": "octopus"}, "unknown robot 'octopus'; robots: arm, gripper"),
        ({"cameras": ("scene", "moon")}, "unknown camera 'moon'; cameras: scene, front, side, top, wrist"),
        ({"cameras": ("scene", "scene")}, "every camera needs a name of its own"),
        ({"cameras": ()}, "rgb and depth need a camera"),
        ({"cameras": (3,)}, "a camera is a name or a robofuse.envs.Camera, got 3"),
        ({"cameras": (Camera("overview", (0, 0, 1)),)}, "the camera name 'overview' is taken"),
        ({"robot": ["arm"]}, "unknown robot .*robots: arm, gripper"),
        ({"noise": None}, "noise must be True, False or a robofuse.envs.Noise, got None"),
        ({"timing": {"force": 2}}, "timing.'force'. must be a robofuse.envs.Timing, got 2"),
        ({"num_threads": 0}, "num_threads must be an integer of at least 1, got 0"),
        ({"image_size": 64.0}, "image_size must be one integer"),
        ({"renderer": "crayon", "sensors": BLIND}, "unknown renderer 'crayon'; renderers: warp, gl"),
        ({"cameras": (Camera("c", (0, 0, 1), (0, 0, 1)),)}, "position .* and target .* must differ"),
        ({"cameras": (Camera("c", (0, 0, 1), mount="foot"),)}, "unknown mount 'foot'; mounts: world, hand"),
        ({"sensors": ("rgb", "smell")}, "sensors must be different names out of rgb, depth, proprio, force"),
        ({"sensors": ()}, "sensors must be"),
        ({"renderer": "crayon"}, "unknown renderer 'crayon'.*gl"),
        ({"image_size": 0}, "image_size must be one integer or .height, width., each from 8 to 2048"),
        ({"image_size": (64, 64, 3)}, "image_size must be"),
        ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
        ({"force_window": 0}, "force_window must be an integer from 1 to 1000, got 0"),
        ({"seed": -1}, "seed must lie in"),
        ({"timing": {"rgb_side": Timing(2)}}, "timing for unknown sensor 'rgb_side'; sensors: depth, force"),
    ],
)
def test_what_does_not_exist_is_said_with_what_does(options, message):
    with pytest.raises(ValueError, match=message):
        World(**options)


def test_noise_of_ones_own():
    world = World("Grasp", 2, image_size=16, noise=Noise(rgb=0.0, depth=0.0))
    exact = World("Grasp", 2, image_size=16, noise=False)
    a, b = world.reset(), exact.reset()
    assert torch.equal(a["rgb"], b["rgb"]) and torch.equal(a["depth"], b["depth"])
    assert not torch.equal(a["proprio"], b["proprio"]) and not torch.equal(a["force"], b["force"])
    world.close(), exact.close()


def test_a_seed_of_the_wrong_type_is_refused():
    world = World("Reach", 1, sensors=BLIND)
    with pytest.raises(ValueError, match="seed .*'one'.* str"):
        world.reset(seed="one")


@pytest.mark.slow
def test_nothing_is_printed_when_nobody_closes():
    script = SCRIPT.replace("world.close()\n", "")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    # Warp says so where there is no GPU, and has no switch for it
    said = [line for line in done.stderr.splitlines() if "Could not find or load the NVIDIA CUDA driver" not in line]
    assert done.returncode == 0 and said == []
