"""A robot driven by a clock: its sensors have rates of their own, frames come late, out of order, or never.

    python scripts/examples/clock.py --episodes 20

A simulated World stands for the robot, and a simulated clock for time.monotonic(), so that every run is the same. The
policy is exported (`pip install 'robofuse[export]'`) and knows only what arrives. Compared on the same scenes, with the
same frames lost: its watchdog, and no watchdog, which uses the last frame of every sensor for ever.
"""

import argparse
import heapq
import math
import tempfile
from dataclasses import dataclass, field

import numpy as np

from robofuse.deploy import Blind, OutOfOrder, Policy
from robofuse.envs import World
from robofuse.export import export
from robofuse.stats import wilson

PERIOD = 0.05  # s, of the control loop


@dataclass(frozen=True)
class Link:
    """What is between sensors and policy; times in seconds."""

    drop: float = 0.0  # share of the frames that never arrive
    delay: float = 0.0  # a frame takes between nothing and this long, so that some overtake others
    every: dict[str, int] = field(default_factory=dict)  # sensor → it measures in every n-th period; by default in each
    dies: dict[str, float] = field(default_factory=dict)  # sensor → when its last frame is sent


LINKS = {
    "all arrive at once": Link(),
    "each camera at 10 Hz, in turns": Link(every={"rgb": 2, "depth": 2}),
    "30 % never arrive": Link(drop=0.3),
    "up to 0.1 s late": Link(delay=0.1),
    "rgb dies at 0.5 s": Link(dies={"rgb": 0.5}),
    "proprio dies at 0.5 s": Link(dies={"proprio": 0.5}),
}


class Robot:
    """What a robot has beside the policy: sensors, whose frames are on their way."""

    def __init__(self, policy: Policy, link: Link, seed: int) -> None:
        """With the same seed, the same frames are lost and late."""
        self.policy, self.link, self.random = policy, link, np.random.default_rng(seed)
        self.way: list[tuple[float, int, str, np.ndarray, float]] = []  # arrival, number, key, reading, stamp; a heap
        self.action, self.overtaken = np.zeros(5, np.float32), 0
        policy.reset()  # the clock starts anew

    def measure(self, readings: dict[str, np.ndarray], step: int) -> None:
        """Every sensor whose turn it is sends a frame."""
        now, link = step * PERIOD, self.link
        for turn, key in enumerate(self.policy.keys):
            lost, late = self.random.random() < link.drop, self.random.uniform(0.0, link.delay)
            if not lost and (step - turn) % link.every.get(key, 1) == 0 and now <= link.dies.get(key, math.inf):
                heapq.heappush(self.way, (now + late, step * len(readings) + turn, key, readings[key], now))

    def deliver(self, now: float) -> None:
        """What a driver does with every frame that has arrived."""
        while self.way and self.way[0][0] <= now:
            *_, key, reading, stamp = heapq.heappop(self.way)
            try:
                self.policy.feed(key, reading, stamp)
            except OutOfOrder:  # a newer one is there; any other error is a mistake, and ends the program
                self.overtaken += 1

    def control(self, now: float) -> np.ndarray:
        """What the control loop does in every period."""
        self.deliver(now)
        try:
            self.action = self.policy.act(now)
        except Blind:
            self.action[:4] = 0.0  # stand still, and hold what the gripper holds
        return self.action


def play(world: World, policies: list[Policy], link: Link, first: int) -> list[bool]:
    """Episodes `first`, `first` + 1, … of as many robots; which succeed."""
    observation = world.reset(episode=first)
    robots = [Robot(policy, link, first + n) for n, policy in enumerate(policies)]
    running, won = set(range(len(robots))), [False] * len(robots)
    for step in range(world.max_steps):
        for n in running:
            robots[n].measure({key: x[n].numpy() for key, x in observation.items()}, step)
            robots[n].control(step * PERIOD)
        done = world.step(np.stack([robot.action for robot in robots]))
        observation = done.observation
        for n in running & set(done.ended.nonzero()[:, 0].tolist()):
            running.remove(n)
            won[n] = bool(done.success[n])
    return won


def exported(name: str) -> bytes:
    """What a file of `robofuse export` holds."""
    with tempfile.TemporaryDirectory() as folder:
        return export(name, f"{folder}/policy.onnx").read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="grasp")
    parser.add_argument("--episodes", type=int, default=20, help="a multiple of 10")
    options = parser.parse_args()
    data = exported(options.policy)
    with_watchdog = [Policy(data) for _ in range(10)]
    without = [Policy(data, timeouts=dict.fromkeys(with_watchdog[0].keys, math.inf)) for _ in range(10)]
    world = World(num_envs=10, seed=1_000_000, auto_reset=False, **with_watchdog[0].world)
    for what, link in LINKS.items():
        for whose, policies in (("with the watchdog", with_watchdog), ("without", without)):
            won = [one for first in range(0, options.episodes, 10) for one in play(world, policies, link, first)]
            low, high = wilson(sum(won), len(won))
            print(f"{what}, {whose}: {np.mean(won):.0%} ({low:.0%} to {high:.0%} of {len(won)})", flush=True)
    world.close()
