"""Environments for tests of agents of others, as a user's file would make them."""

import gymnasium as gym
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
