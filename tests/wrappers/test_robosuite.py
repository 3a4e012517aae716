"""The adapter for robosuite, with a stand-in of the few parts of it that the adapter touches.

`tests/test_beside.py` (tier long) tries robosuite itself.
"""

import warnings
from types import SimpleNamespace as Part

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robofuse.errors import InputError
from robofuse.wrappers import Robosuite

NEAR, FAR = 0.01, 10.0


class Suite:
    """Lift, as robosuite 1.5 shows it."""

    control_freq, action_spec = 20, (-np.ones(7), np.ones(7))

    def __init__(self, cameras=("agentview",), use_camera_obs=True, robots=1):
        self.camera_names, self.use_camera_obs = cameras, use_camera_obs
        robot = Part(ee_force={"right": np.array([1.0, 2.0, 3.0])}, ee_torque={"right": np.array([4.0, 5.0, 6.0])})
        self.robots, self.placement_initializer = [robot] * robots, Part(rng=None, samplers={"cube": Part(rng=None)})
        visual = Part(map=Part(znear=NEAR / 2, zfar=FAR / 2))
        self.sim = Part(model=Part(stat=Part(extent=2.0), vis=visual),
                        render=lambda width, height, camera_name: np.zeros((height, width, 3), np.uint8))  # fmt: skip
        self.rng, self.closed = np.random.default_rng(), False

    def reset(self):
        self.cube, self.left = self.placement_initializer.samplers["cube"].rng or self.rng, 3
        self.cube = self.cube.uniform(size=3)
        return self.look()

    def step(self, action):
        self.left, self.cube = self.left - 1, self.cube + action[2]
        return self.look(), 0.5, self.left == 0, {"extra": 1}

    def look(self):
        found = {f"robot0_{n}": np.full(k, 0.1) for n, k in
                 {"joint_pos_cos": 7, "joint_pos_sin": 7, "joint_vel": 7, "eef_pos": 3, "eef_quat": 4,
                  "gripper_qpos": 2}.items()}  # fmt: skip
        found["cube_pos"] = self.cube
        for camera in self.camera_names if self.use_camera_obs else ():
            picture = np.zeros((6, 8, 3), np.uint8)
            picture[-1] = 255  # OpenGL's first row is the lowest
            metres = np.full((6, 8, 1), 0.7)
            metres[-1], metres[0] = 2.5, FAR
            found[f"{camera}_image"] = picture
            found[f"{camera}_depth"] = ((1.0 - NEAR / metres) / (1.0 - NEAR / FAR)).astype(np.float64)
        return found

    def _check_success(self):
        return bool(self.cube[2] > 2.0)

    def close(self):
        self.closed = True


def test_every_sensor_is_a_key_in_plain_units():
    env = Robosuite(Suite())
    observation, _ = env.reset(seed=0)
    assert list(observation) == ["depth", "force", "proprio", "rgb"] and observation in env.observation_space
    assert observation["rgb"].shape == (6, 8, 3) and observation["rgb"][0].all() and not observation["rgb"][1:].any()
    assert observation["depth"].dtype == np.uint16 and observation["depth"].shape == (6, 8, 1)
    assert (observation["depth"][0] == 2500).all() and (observation["depth"][1:-1] == 700).all()
    assert (observation["depth"][-1] == 0).all()  # nothing there
    assert observation["force"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] and observation["proprio"].shape == (30,)
    assert env.metadata["render_fps"] == 20 and env.render().shape == (480, 640, 3)
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (7,))


def test_it_is_a_gymnasium_environment_whose_scene_follows_from_the_seed():
    env = Robosuite(Suite())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Box observation space (min|max)imum value is.*")  # forces have no bound
        check_env(env, skip_render_check=True)
    places = [env.reset(seed=seed) and env.truth["cube_pos"].copy() for seed in (3, 3, 4)]
    assert np.array_equal(*places[:2]) and not np.array_equal(*places[1:])


def test_success_ends_an_episode_and_time_cuts_it_off():
    env = Robosuite(Suite())
    env.reset(seed=0)
    *_, terminated, truncated, info = env.step(np.full(7, 1.0))
    assert (terminated, truncated, info) == (False, False, {"extra": 1, "is_success": False})
    *_, terminated, truncated, info = env.step(np.full(7, 1.0))
    assert (terminated, truncated, info["is_success"]) == (True, False, True)
    env.reset(seed=0)
    ends = [env.step(np.zeros(7))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    env.close()
    assert env.inner.closed


def test_several_cameras_and_none():
    observation, _ = Robosuite(Suite(("agentview", "robot0_eye_in_hand"))).reset(seed=0)
    assert {"rgb_agentview", "depth_agentview", "rgb_robot0_eye_in_hand", "depth_robot0_eye_in_hand"} < {*observation}
    assert list(Robosuite(Suite(use_camera_obs=False)).reset(seed=0)[0]) == ["force", "proprio"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="2 robots"):
        Robosuite(Suite(robots=2))
    with pytest.raises(InputError, match="there is no robot0_temper; there are robot0_joint_pos_cos, "):
        Robosuite(Suite(), proprio=("temper",))
