"""Environments for tests of agents of others, as a user's file would make them."""

import gymnasium as gym
import numpy as np
from toys import Line


class Told(gym.Wrapper):
    """Says at the end whether one came home."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, info | {"is_success": abs(self.env.place[0]) < 0.1}


def line():
    return Told(Line())


def silent():
    return Line()


def forgetful():
    """The seed is not listened to."""

    class Forgetful(gym.Wrapper):
        def reset(self, *, seed=None, options=None):
            return self.env.reset(seed=None, options=options)

    return Forgetful(line())


def box():
    return gym.make("CartPole-v1")


def endless():
    class Endless(gym.Wrapper):
        def step(self, action):
            observation, reward, _, _, info = self.env.step(action)
            return observation, reward, False, False, info

    return Endless(line())


class Room(gym.Env):
    """A dot in a picture that is to go right; channels first, depth in metres, eight steps of 0.1 s."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Dict(
        eye=gym.spaces.Box(0, 255, (3, 16, 20), np.uint8),
        depth=gym.spaces.Box(0.0, 5.0, (1, 16, 20), np.float32),
        place=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    )

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = int(self.np_random.integers(4)), 0
        return self._observe(), {}

    def step(self, action):
        self.x, self.steps = min(15, self.x + int(action[0] > 0)), self.steps + 1
        return self._observe(), 0.1, False, self.steps == 8, {"is_success": self.x > 8}

    def render(self):
        return np.full((200, 300, 3), 40 + self.steps, np.uint8) if self.render_mode else None

    def _observe(self):
        eye = np.zeros((3, 16, 20), np.uint8)
        eye[0, 5, self.x] = 255
        depth = np.linspace(0.5, 2.0, 320, dtype=np.float32).reshape(1, 16, 20)
        return {"eye": eye, "depth": depth, "place": np.array([self.x, self.steps], np.float32)}


def room(render_mode=None):
    return gym.wrappers.TimeLimit(Room(render_mode), 8)


def undrawn():
    return room()


class Dock(gym.Env):
    """Stay near 0 in the wind; three noisy sensors see where one is: grey bytes, a vector, and millimetres."""

    metadata = {"render_modes": ["rgb_array"]}
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Dict(
        eye=gym.spaces.Box(0, 255, (12, 16, 1), np.uint8),
        place=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        wheel=gym.spaces.Box(-np.inf, np.inf, (1,), np.float64),
    )

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1)
        return self._observe(), {}

    def step(self, action):
        self.x = np.clip(self.x + 0.2 * float(action[0]) + self.np_random.normal(0, 0.1), -1, 1)
        return self._observe(), -abs(self.x), False, False, {"is_success": abs(self.x) < 0.5}

    def render(self):
        return np.zeros((60, 80, 3), np.uint8) if self.render_mode else None

    def _observe(self):
        across, noise = np.linspace(-1, 1, 16), self.np_random.normal
        eye = 60 + 150 * np.exp(-20 * (across - self.x) ** 2)[None, :, None] + noise(0, 4, (12, 16, 1))
        place = np.array([self.x, np.cos(self.x)]) + noise(0, 0.01, 2)
        wheel = np.array([5000 + 400 * self.x]) + noise(0, 2, 1)
        return {"eye": eye.clip(0, 255).astype(np.uint8), "place": place.astype(np.float32), "wheel": wheel}


def dock(steps=25, render_mode=None):
    return gym.wrappers.TimeLimit(Dock(render_mode), steps)


def blink():
    """Episodes of one step."""
    return dock(1)


class Odd(gym.ObservationWrapper):
    """Some healthy reading is odd, from the fifth step on."""

    def __init__(self, **odd):
        super().__init__(dock())
        self.odd, self.count = odd, 0
        if "available" in odd:
            parts = self.observation_space.spaces | {"available": gym.spaces.MultiBinary(3)}
            self.observation_space = gym.spaces.Dict(parts)

    def observation(self, observation):
        self.count += 1
        whole = {"available": np.ones(3, np.int8)} if "available" in self.odd else {}
        return observation | whole | (self.odd if self.count > 5 else {})


def no_return():
    return Odd(wheel=np.full(1, np.inf))


def silent_eye():
    return Odd(available=np.array([0, 1, 1], np.int8))


class Many(gym.Env):
    """More sensors than a monitor watches."""

    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Dict({f"s{i}": gym.spaces.Box(-1.0, 1.0, (1,), np.float32) for i in range(7)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}


def many():
    return Many()
