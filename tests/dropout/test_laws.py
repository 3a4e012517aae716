"""Which sensors are masked together, how often, and how strongly."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from masks import EVERY, KEYS, hidden_share, masks_of

from robofuse.dropout import (
    Bound,
    Constant,
    Cosine,
    Dropout,
    Empirical,
    Groups,
    Independent,
    Law,
    Linear,
    LoseOne,
    Markov,
    Masker,
    Rates,
    Subsets,
    as_dropout,
    singles,
)


def test_independent_hides_each_sensor_at_its_rate():
    # all four at once, p⁴ of the time, is one fewer
    assert torch.allclose(hidden_share(0.4), torch.tensor(0.4 - 0.4**4 / 4).double(), atol=0.015)
    share = hidden_share(Independent({"rgb": 0.5, "force": 0.1}))
    assert torch.allclose(share, torch.tensor([0.0, 0.1, 0.0, 0.5]).double(), atol=0.015)
    both = masks_of(Dropout(Independent(0.4)), range(20_000), 0)[0]
    assert abs(float(((both[:, 0] == 0) & (both[:, 3] == 0)).double().mean()) - 0.16) < 0.015


def test_a_sensor_that_is_always_hidden_is_never_the_one_that_is_kept():
    masks = masks_of(Independent({"rgb": 1.0, "depth": 1.0, "proprio": 0.9, "force": 0.9}), range(5000), 0)[0]
    assert not masks[:, [0, 3]].any() and masks[:, [1, 2]].any(dim=1).all()
    assert torch.allclose(masks[:, [1, 2]].double().mean(dim=0), torch.tensor(0.1 + 0.81 / 2).double(), atol=0.03)


def test_subsets_are_equally_likely():
    masks = masks_of(Subsets(), range(30_000), 0)[0].long()
    counts = torch.bincount((masks * torch.tensor([1, 2, 4, 8])).sum(dim=1), minlength=16)
    assert counts[0] == 0 and torch.allclose(counts[1:] / 30_000, torch.tensor(1 / 15), atol=0.008)


def test_groups_fail_together_and_other_sensors_for_themselves():
    masks = masks_of(Groups(p=0.5), range(10_000), 0)[0]
    assert torch.equal(masks[:, 0], masks[:, 3])
    assert 0.2 < (masks[:, 1] == masks[:, 0]).double().mean() < 0.8
    keys = ("depth", "depth_wrist", "force", "rgb", "rgb_side", "rgb_wrist")
    masks = masks_of(Groups(p=0.5), range(1000), 0, keys=keys)[0]
    assert torch.equal(masks[:, 0], masks[:, 3]) and torch.equal(masks[:, 1], masks[:, 5])
    assert not torch.equal(masks[:, 0], masks[:, 1]) and not torch.equal(masks[:, 4], masks[:, 3])
    law = Groups((["rgb", "force"],), {"force": 0.7, "depth": 0.2})
    assert torch.allclose(hidden_share(law), torch.tensor([0.2, 0.7, 0.0, 0.7]).double(), atol=0.015)


def test_rates_are_met_at_every_granularity():
    for every in EVERY:
        share = hidden_share(Dropout(Rates({"rgb": 0.1, "force": 0.02}), every, outage_steps=4), 2000, 30)
        assert torch.allclose(share, torch.tensor([0.0, 0.02, 0.0, 0.1]).double(), atol=0.02), every


def test_markov_rates_and_lengths():
    plan = Dropout(Markov({"rgb": 0.05, "force": 0.02}, {"rgb": 0.2, "force": 0.1}))
    masks = masks_of(plan, range(1000), 200)
    expected = torch.tensor([0.0, 0.02 / 0.12, 0.0, 0.05 / 0.25]).double()
    for part in (masks[0], masks[-1], masks):  # at home in the long run from the first step on
        share = 1.0 - part.double().flatten(0, -2).mean(dim=0)
        assert torch.allclose(share, expected, atol=0.04 if part.dim() == 2 else 0.015)
    dark = masks[:, :, 3] == 0
    assert abs(float(dark.sum() / (dark[1:] & ~dark[:-1]).sum()) / 1.04 - 1 / 0.2) < 0.4  # 4 % begin in the dark
    pairs = masks_of(Markov(0.1, 0.1, (("rgb", "depth"),)), range(50), 50)
    assert torch.equal(pairs[..., 0], pairs[..., 3]) and not torch.equal(pairs[..., 0], pairs[..., 1])


def test_a_markov_outage_of_everything_keeps_one_sensor_until_it_is_over():
    masks = masks_of(Markov(0.9, 0.02), range(100), 100)
    assert masks.any(dim=2).all()
    moves = (masks[1:] != masks[:-1]).any(dim=2).double().mean()
    assert moves < 0.15  # a new choice at every step would move three in four times


def test_one_of_all_is_lost_and_never_two():
    masks = masks_of(LoseOne(), range(4000), 0)[0]
    assert (masks.sum(dim=1) == 3).all()
    assert torch.allclose(1.0 - masks.double().mean(dim=0), torch.tensor(0.25).double(), atol=0.025)
    everything = masks_of(LoseOne(0.3), range(4000), 0)[0].all(dim=1).double().mean()
    assert abs(float(everything) - 0.7) < 0.025
    pairs = masks_of(LoseOne(groups=(("depth", "rgb"),)), range(4000), 0)[0]
    assert torch.equal(pairs[:, 0], pairs[:, 3]) and (pairs[:, :3].sum(dim=1) == 2).all()
    assert torch.allclose(1.0 - pairs.double().mean(dim=0), torch.tensor(1 / 3).double(), atol=0.025)


@dataclass(frozen=True)
class KeepOne(Law):
    """The example of the module's documentation."""

    def bind(self, keys):
        def draw(numbers, strength):
            left = (numbers[:, :1] * len(keys)).long() == torch.arange(len(keys))
            return ~left & (numbers[:, -1:] < strength)

        return Bound(singles(keys), (1 - 1 / len(keys),) * len(keys), draw)


def test_a_law_of_ones_own():
    assert (masks_of(KeepOne(), range(500), 0)[0].sum(dim=1) == 1).all()
    assert torch.allclose(
        hidden_share(Dropout(KeepOne(), schedule=Constant(0.4))), torch.tensor(0.3).double(), atol=0.01
    )


@pytest.mark.parametrize("ramp", [Linear, Cosine])
def test_ramps(ramp):
    schedule = ramp(0.2, 0.8, warmup=0.25, until=0.75)
    values = [schedule.strength(k / 100) for k in range(101)]
    assert values[0] == values[25] == 0.2 and values[75] == values[100] == 0.8
    assert abs(values[50] - 0.5) < 1e-12 and values == sorted(values)
    assert ramp(1.0, 0.5).strength(0.0) == 1.0 and ramp(1.0, 0.5).strength(1.0) == 0.5
    assert (values[30] < 0.25) == (ramp is Cosine)


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (Independent(0.4), 0.4 / 2),
        (Subsets(), (7 / 15) / 2),
        (LoseOne(0.8), 0.2 / 2),
        (Empirical({(): 3, ("rgb", "force"): 1}), torch.tensor([0, 0.125, 0, 0.125])),
        (Groups(p=0.4), 0.4 / 2),
        (Rates({"rgb": 0.4}), torch.tensor([0, 0, 0, 0.2])),
        (Markov(0.1, 0.3), 0.05 / 0.35),
    ],
)
def test_strength(law, expected):
    share = hidden_share(Dropout(law, schedule=Constant(0.5)), 3000, 10 if law.stepwise else 0)
    assert torch.allclose(share, torch.as_tensor(expected).double(), atol=0.03)
    assert masks_of(Dropout(law, schedule=Constant(0.0)), range(100), 10).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Independent(1.0), "every sensor"),
        (lambda: Groups(p=1), "every sensor"),
        (lambda: Independent(1.5), r"\[0, 1\]"),
        (lambda: Independent({"rgb": -0.1}), r"p\['rgb'\]"),
        (lambda: Independent(float("nan")), r"\[0, 1\]"),
        (lambda: Independent(True), r"\[0, 1\]"),
        (lambda: Rates(0.1), "mapping"),
        (lambda: LoseOne(1.2), "LoseOne.p"),
        (lambda: Empirical({"rgb": 0.1}), "sets of sensors"),
        (lambda: Empirical({("rgb",): -1}), "at least 0"),
        (lambda: Empirical({(): 0.0}), "above 0"),
        (lambda: Masker(Empirical({(): 1, ("lidar",): 1}), KEYS, 1), "'lidar' in Empirical.missing; sensors: depth"),
        (lambda: Masker(Empirical({KEYS: 1}), KEYS, 1), "below 1"),
        (lambda: Masker(LoseOne(0.5, (KEYS,)), KEYS, 1), "masked together"),
        (lambda: Masker(LoseOne(0.5), ("rgb",), 1), "only sensor"),
        (lambda: Markov(0.1, 2), "Markov.recover"),
        (lambda: Groups(((),)), "empty"),
        (lambda: Groups(("rgb", "depth")), "groups of sensors"),
        (lambda: Groups((("rgb", "rgb"),)), "more than once"),
        (lambda: Dropout(Markov(), "episode"), "process in time"),
        (lambda: Dropout(Markov(), "outage"), "process in time"),
        (lambda: Dropout(every="week"), "episode, outage, step"),
        (lambda: Dropout(0.3), "Independent"),
        (lambda: Dropout(schedule=0.5), "schedule"),
        (lambda: Dropout(full=2), "full"),
        (lambda: Dropout(outage_steps=0), "outage_steps"),
        (lambda: Constant(3), "Constant.value"),
        (lambda: as_dropout("0.3"), "probability"),
        (lambda: as_dropout(True), "probability"),
        (lambda: as_dropout(1.0), "every sensor"),
        (lambda: Masker(Independent({"rbg": 0.1}), KEYS, 1), "'rbg' in Independent.p; sensors: depth, force, proprio"),
        (lambda: Masker(Rates({"lidar": 0.1}), KEYS, 1), "'lidar'"),
        (lambda: Masker(Groups((("rgb", "tactile"),)), KEYS, 1), "'tactile'"),
        (lambda: Masker(Markov(0.1, groups=(("x",),)), KEYS, 1), "'x'"),
        (lambda: Masker(Groups((("rgb", "depth"),), {"rgb": 0.1, "depth": 0.2}), KEYS, 1), "together"),
        (lambda: Masker(Independent(dict.fromkeys(KEYS, 1.0)), KEYS, 1), "below 1"),
        (lambda: Masker(Groups((KEYS,)), KEYS, 1), "masked together"),
        (lambda: Masker(0.1, ("rgb",), 1), "only sensor"),
        (lambda: Masker(Markov({"rgb": 0.1}, {"force": 0.1}), KEYS, 1), "rgb can fail but never recover"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_laws_do_not_bring_stable_baselines3():
    code = "import sys; from robofuse.dropout import Masker, Markov; print('stable_baselines3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
