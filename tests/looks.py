"""A task that needs a memory: what must be known is seen once."""

import gymnasium as gym
import numpy as np


class Looks(gym.Env):
    """A picture shows a number at the first step, if it is not hidden; the state says nothing. Guess the number."""

    observation_space = gym.spaces.Dict(
        image=gym.spaces.Box(0, 255, (20, 20, 1), np.uint8), state=gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    )
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    steps = 6

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.t = self.np_random.uniform(-0.8, 0.8), 0
        return self._see(), {}

    def step(self, action):
        self.t += 1
        reward = -float((action[0] - self.number) ** 2)
        return self._see(), reward, False, self.t == self.steps, {}

    def _see(self):
        shown = np.full((20, 20, 1), round(127 + 127 * self.number), np.uint8)
        return {"image": shown, "state": self.np_random.uniform(-1, 1, 2).astype(np.float32)}


class OneLook(gym.ObservationWrapper):
    """After the first look the picture is gone, and `available` says so."""

    def __init__(self, env):
        super().__init__(env)
        spaces = env.observation_space.spaces
        self.observation_space = gym.spaces.Dict({**spaces, "available": gym.spaces.MultiBinary(2)})

    def observation(self, observation):
        seen = self.env.unwrapped.t == 0
        noise = self.env.unwrapped.np_random.integers(0, 255, (20, 20, 1), np.uint8)
        image = observation["image"] if seen else noise
        return {**observation, "image": image, "available": np.array([seen, 1], np.int8)}
