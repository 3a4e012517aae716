"""What a replay shows of an episode."""

import numpy as np
import pytest
import torch
from replaying import Witness, small_world

from robofuse.faults import Plan, blackout
from robofuse.play import NOT_FINITE
from robofuse.replay.frames import frames


@pytest.fixture(scope="module")
def world():
    world = small_world()
    yield world
    world.close()


def reached(world, plan):
    witness = Witness(world)
    shown = list(frames(witness, world, [(3, plan)]))
    return witness.seen, shown


def test_disabling_reaches_the_policy_from_exactly_that_step(world):
    whole, _ = reached(world, Plan())
    seen, shown = reached(world, Plan((blackout("proprio"), blackout("depth", 3))))
    assert len(shown) == len(seen) + 1 == len(whole) + 1 > 4
    for step, (given_, full) in enumerate(zip(seen, whole, strict=True)):
        assert given_["available"].tolist() == [[int(step < 3), 1, 0, 1]]  # depth, force, proprio, rgb
        assert not given_["proprio"].any()
        assert torch.equal(given_["depth"], full["depth"]) if step < 3 else not given_["depth"].any()
        assert torch.equal(given_["rgb"], full["rgb"]) and torch.equal(given_["force"], full["force"])


def test_frames_tell_what_the_policy_was_given_and_what_came_of_it(world):
    seen, shown = reached(world, Plan((blackout("depth", 2),)))
    assert [frame.step for frame in shown] == list(range(len(shown)))
    assert [frame.outcome for frame in shown] == [""] * (len(shown) - 1) + ["success"]
    for frame, observation in zip(shown, seen, strict=False):
        assert all(np.array_equal(frame.observation[key], observation[key][0]) for key in observation)
        assert frame.on["depth"] == (frame.step < 2) and frame.on["rgb"]
        assert frame.off_since == ({} if frame.step < 2 else {"depth": 2})
    total = sum(sum(frame.terms.values()) for frame in shown)
    assert shown[-1].total == pytest.approx(total, abs=1e-5)
    assert shown[-1].time == pytest.approx(0.05 * len(seen))


def test_the_scene_is_the_one_of_the_frame(world):
    _, shown = reached(world, Plan())
    world.reset()
    world.restart([0], [3])
    for frame in shown:
        assert np.array_equal(frame.scene, world.picture())
        world.step(world.expert())


def test_every_episode_starts_anew(world):
    shown = list(frames(Witness(world), world, [(3, Plan()), (4, Plan((blackout("rgb"),)))]))
    first, second = ([frame for frame in shown if frame.episode == episode] for episode in (3, 4))
    assert [frame.step for frame in second] == list(range(len(second)))
    assert second[0].total == 0.0 and not any(second[0].terms.values()) and first[-1].total > 0.0
    assert all(frame.off_since == {"rgb": 0} for frame in second) and not first[-1].off_since


class Broken(Witness):
    def act(self, observation):
        action = super().act(observation)
        return action if len(self.seen) < 3 else torch.full_like(action, torch.nan)


def test_an_action_that_is_not_finite_ends_the_episode_where_it_is(world):
    *_, before, last = frames(Broken(world), world, [(0, Plan())])
    assert last.outcome == NOT_FINITE and not last.success and not before.outcome
    assert last.step == before.step == 2 and last.total == before.total
    assert np.array_equal(last.scene, before.scene)


class Doubtful:
    """A monitor that does not trust rgb from the second step on."""

    card = {}

    def stateful(self, num_envs):
        self.calls = 0
        return self

    def start(self, rows):
        pass

    def step(self, observation, rows):
        self.calls += 1
        trusted = observation["available"].clone()
        trusted[:, 3] &= int(self.calls < 2)
        return trusted


def test_what_the_monitor_does_not_trust_is_off(world):
    witness = Witness(world)
    shown = list(frames(witness, world, [(3, Plan())], Doubtful()))
    assert [frame.on["rgb"] for frame in shown] == [frame.step < 1 for frame in shown]
    assert shown[-1].off_since == {"rgb": 1} and not shown[-1].observation["rgb"].any()
    assert [bool(seen["rgb"].any()) for seen in witness.seen] == [step < 1 for step in range(len(witness.seen))]
