"""Gradient blending weighs heads by what they learn that holds."""

import pytest
import torch

from robofuse.train.blending import Blending


def test_weights_follow_gain_and_overfitting():
    blending = Blending(3)
    assert torch.equal(blending.weights, torch.ones(3))
    blending.measure(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0]))
    assert torch.equal(blending.weights, torch.ones(3))  # nothing to compare with yet
    # gains 0.4, 0.4, 0.2; gaps 0.1, 0.2, 0.1
    blending.measure(torch.tensor([0.5, 0.4, 0.7]), torch.tensor([0.6, 0.6, 0.8]))
    expected = torch.tensor([0.4 / 0.01, 0.4 / 0.04, 0.2 / 0.01])
    torch.testing.assert_close(blending.weights, expected / expected.mean())
    assert float(blending.weights.mean()) == pytest.approx(1.0)


def test_a_head_that_got_worse_keeps_a_little_and_one_without_a_gap_does_not_take_all():
    blending = Blending(3)
    blending.measure(torch.ones(3), torch.ones(3))
    blending.measure(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.2, 0.5, 0.7]))
    assert bool(blending.weights.isfinite().all()) and float(blending.weights.min()) > 0.0
