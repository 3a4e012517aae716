"""When masks are drawn, and what they depend on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import EVERY, KEYS, PLANS, SHARED, law_and_pace, masks_of

from robofuse.dropout import Dropout, Independent, Linear, Markov, Masker, Subsets, mask_sensors


@pytest.mark.parametrize("plan", PLANS, ids=law_and_pace)
def test_something_is_always_left_and_something_is_hidden(plan):
    masks = masks_of(plan, range(200), 20)
    assert masks.any(dim=2).all() and not masks.all() and masks.dtype == torch.int8


@settings(max_examples=40, deadline=None)
@given(
    plan=st.sampled_from(PLANS),
    seed=st.integers(0, 2**63 - 1),
    episode=st.integers(0, 2**40),
    before=st.integers(0, 70),
    num=st.integers(1, 5),
    data=st.data(),
)
def test_masks_depend_on_seed_episode_and_step_alone(plan, seed, episode, before, num, data):
    """Whoever else there is, and whatever was played before in the same place."""
    expected = masks_of(plan, [episode], 40, seed)[:, 0]
    row = data.draw(st.integers(0, num - 1))
    masker = Masker(plan, KEYS, num, seed)
    masker.start(torch.arange(num), torch.arange(num) + 7)
    for _ in range(before):
        masker.step()
    masker.start(torch.tensor([row]), torch.tensor([episode]))
    for mask in expected:
        assert torch.equal(masker.available[row], mask)
        masker.step()
        if num > 1 and data.draw(st.booleans()):
            masker.start(torch.tensor([(row + 1) % num]), torch.tensor([3]))


def test_seeds_and_episodes_differ():
    for plan in (Dropout(), Dropout(Markov(0.2, 0.2))):
        a, b, c = masks_of(plan, range(50), 5), masks_of(plan, range(50), 5, seed=1), masks_of(plan, range(50, 100), 5)
        assert not torch.equal(a, b) and not torch.equal(a, c)


def test_granularity():
    keys = tuple(f"s{k:02}" for k in range(12))
    moves = {}
    for every in EVERY:
        masks = masks_of(Dropout(Subsets(), every, outage_steps=5), range(150), 100, keys=keys)
        moves[every] = float((masks[1:] != masks[:-1]).any(dim=2).double().mean())
    assert moves["episode"] == 0 and moves["step"] > 0.99
    assert abs(moves["outage"] - 1 / 5) < 0.015
    assert torch.equal(
        masks_of(Dropout(Subsets(), "outage", outage_steps=1), range(9), 9),
        masks_of(Dropout(Subsets(), "step"), range(9), 9),
    )


@pytest.mark.parametrize("law", [Independent(0.5), Markov(0.5, 0.5)])
def test_full_episodes(law):
    for every in EVERY if isinstance(law, Independent) else ("step",):
        masks = masks_of(Dropout(law, every, full=0.4, outage_steps=2), range(800), 12)
        full = masks.all(dim=2).all(dim=0).double().mean()
        alone = masks_of(Dropout(law, every, outage_steps=2), range(800), 12).all(dim=2).all(dim=0).double().mean()
        assert abs(full - (0.4 + 0.6 * alone)) < 0.06
    assert masks_of(Dropout(law, full=1.0), range(100), 5).all()


def test_progress_takes_effect_at_the_next_draw():
    for every, steps in (("episode", None), ("step", 1)):
        masker = Masker(Dropout(Independent(0.9), every, Linear()), KEYS, 50)
        masker.start(torch.arange(50), torch.arange(50))
        masker.progress = 1.0
        assert masker.available.all()
        masker.step()
        assert bool(masker.available.all()) == (steps is None)
        masker.start(torch.arange(50), torch.arange(50) + 50)
        assert not masker.available.all()
    for wrong in (-0.1, 1.1, float("nan"), "half", None):
        with pytest.raises(ValueError, match="progress"):
            masker.progress = wrong
    with pytest.raises(ValueError, match="ramp"):
        Linear(warmup=0.5, until=0.5)


def test_a_schedule_that_nobody_tells_complains_once():
    masker = Masker(Dropout(schedule=Linear()), KEYS, 600)
    rows = torch.arange(600)
    masker.start(rows, rows)
    with pytest.warns(UserWarning, match="DropoutProgress"):
        masker.start(rows, rows)
    masker.start(rows, rows)


@settings(max_examples=30, deadline=None)
@given(
    plan=st.sampled_from(SHARED),
    seed=st.integers(0, 2**63 - 1),
    num=st.integers(2, 6),
    first=st.integers(0, 2**40),
    alone=st.lists(st.integers(0, 30), max_size=4),
)
def test_shared_masks_are_those_of_one_environment_whatever_starts_alone(plan, seed, num, first, alone):
    expected = masks_of(plan, [first], 30, seed)
    masker, everyone = Masker(plan, KEYS, num, seed), torch.arange(num)
    masker.start(everyone, everyone)
    masker.step()
    masker.start(everyone.flip(0), first + everyone)
    for step, mask in enumerate(expected):
        assert torch.equal(masker.available, mask.expand(num, -1)) and mask.any()
        if step in alone:
            masker.start(everyone[: num - 1], everyone[: num - 1])
            assert torch.equal(masker.available, mask.expand(num, -1))
        masker.step()


def test_shared_masks_come_in_pieces_of_which_some_are_full():
    plan = Dropout(Independent(0.5), shared=True, outage_steps=4, full=0.25)
    masks = masks_of(plan, [0, 1], 20_000)
    assert torch.equal(masks[:, 0], masks[:, 1])
    changes = (masks[1:, 0] != masks[:-1, 0]).any(dim=1).double().mean()
    assert 0.15 < float(changes) < 0.25  # a quarter of the steps begins a piece, some of them with the same set
    full = masks[:, 0].all(dim=1).double().mean()
    assert abs(float(full) - (0.25 + 0.75 * 0.5**4)) < 0.05


def test_shared_masks_have_no_episodes():
    with pytest.raises(ValueError, match="end at different times"):
        Dropout(Subsets(), "episode", shared=True)
    with pytest.raises(ValueError, match="no pieces"):
        Dropout(Markov(), full=0.1, shared=True)


@pytest.mark.parametrize("plan", PLANS + SHARED, ids=law_and_pace)
def test_masks_are_the_same_where_nobody_looks(plan, monkeypatch):
    """On a device every mask is drawn for all; and on `meta`, where looking at a number raises, it runs."""
    expected = masks_of(plan, range(30), 20)
    monkeypatch.setattr("robofuse.dropout.masker.on_cpu", lambda _: False)
    assert torch.equal(masks_of(plan, range(30), 20), expected)
    masker, here = Masker(plan, KEYS, 5, device="meta"), torch.arange(5, device="meta")
    masker.start(here, here)
    for _ in range(20):
        masker.step()
    masker.start(here[2:], here[2:])
    assert masker.available.is_meta and masker.available.shape == (5, len(KEYS))
    observation = {key: torch.zeros(5, 3, dtype=torch.uint16, device="meta") for key in KEYS}
    assert all(x.is_meta for x in mask_sensors(observation, masker.available, KEYS).values())
