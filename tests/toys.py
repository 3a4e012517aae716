"""Tiny tasks with a known optimum: what a policy is worth with sensors missing can be told in seconds."""

import gymnasium as gym
import numpy as np

STEPS, STRIDE = 8, 0.25


class Line(gym.Env):
    """Come to 0 from somewhere in [−1, 1] in steps of up to 0.25; the reward is minus the distance.

    `near` and `far` say where one is, each in its own way; `noise` says nothing.
    """

    def __init__(self, discrete=False):
        box = gym.spaces.Box
        self.observation_space = gym.spaces.Dict(
            {"far": box(-1, 1, (2,)), "near": box(-2, 2, (1,)), "noise": box(-1, 1, (3,))}
        )
        self.action_space = gym.spaces.Discrete(3) if discrete else box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.left = self.np_random.uniform(-1, 1, 1), STEPS
        return self.look(), {}

    def step(self, action):
        self.place = move(self.place, np.reshape(action, 1), isinstance(self.action_space, gym.spaces.Discrete))
        self.left -= 1
        return self.look(), -float(abs(self.place[0])), False, self.left == 0, {}

    def look(self):
        return {key: x[0] for key, x in view(self.place, self.np_random).items()}


class GoalLine(gym.Env):
    """Come within 0.15 of the goal; −1 for every step elsewhere. `observation` says what `achieved_goal` says."""

    def __init__(self, discrete=False):
        box = gym.spaces.Box
        self.observation_space = gym.spaces.Dict(
            {
                "achieved_goal": box(-2, 2, (1,)),
                "desired_goal": box(-2, 2, (1,)),
                "noise": box(-1, 1, (3,)),
                "observation": box(-2, 2, (1,)),
            }
        )
        self.action_space = gym.spaces.Discrete(3) if discrete else box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 1))
        self.left = STEPS
        return self.look(), {}

    def step(self, action):
        self.place = move(self.place, np.reshape(action, 1), isinstance(self.action_space, gym.spaces.Discrete))
        self.left -= 1
        return self.look(), float(self.compute_reward(self.place, self.goal, {})), False, self.left == 0, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.abs(achieved_goal - desired_goal)[..., 0] > 0.15).astype(np.float32)

    def look(self):
        return {key: x[0] for key, x in goal_view(self.place, self.goal, self.np_random).items()}


def move(place, action, discrete):
    """Places (n,) after actions (n,)."""
    return place + STRIDE * (np.asarray(action) - 1.0 if discrete else np.clip(action, -1.0, 1.0))


def view(place, rng):
    """What is observed at places (n,)."""
    far = np.stack([np.sin(1.5 * place), np.cos(1.5 * place)], axis=1)
    noise = rng.uniform(-1, 1, (len(place), 3))
    return {key: x.astype(np.float32) for key, x in {"far": far, "near": place[:, None], "noise": noise}.items()}


def goal_view(place, goal, rng):
    """What is observed at places (n,) with goals (n,)."""
    noise = rng.uniform(-1, 1, (len(place), 3))
    rows = {"achieved_goal": place[:, None], "desired_goal": goal[:, None], "noise": noise}
    return {key: x.astype(np.float32) for key, x in {**rows, "observation": place[:, None]}.items()}


def worth(model, hidden=(), goals=False, discrete=False, rows=400):
    """What a model earns with these sensors dead, between 0, a random policy, and 1, the optimum."""
    returns = []
    for policy in (_random, _best, _policy(model, hidden)):
        rng, total = np.random.default_rng(0), 0.0
        place, goal = rng.uniform(-1, 1, (2, rows))
        goal = goal if goals else np.zeros(rows)
        for step in range(STEPS):
            seen = goal_view(place, goal, rng) if goals else view(place, rng)
            place = move(place, policy(seen, place - goal, step, discrete, rng), discrete)
            gap = abs(place - goal)
            total = total - (gap > 0.15 if goals else gap)
        returns.append(np.mean(total))
    random, best, ours = returns
    return (ours - random) / (best - random)


def _random(seen, gap, step, discrete, rng):
    return rng.integers(0, 3, len(gap)) if discrete else rng.uniform(-1, 1, len(gap))


def _best(seen, gap, step, discrete, rng):
    wanted = np.clip(-gap / STRIDE, -1, 1)
    return 1 + np.rint(wanted) if discrete else wanted


def _policy(model, hidden):
    state = None

    def act(seen, gap, step, discrete, rng):
        nonlocal state
        keys = sorted(seen)
        unreadable = {key: np.full_like(x, np.nan) if key in hidden else x for key, x in seen.items()}
        unreadable["available"] = np.tile(np.int8([key not in hidden for key in keys]), (len(gap), 1))
        action, state = model.predict(unreadable, state, np.full(len(gap), step == 0), deterministic=True)
        return np.reshape(action, len(gap))

    return act
