"""Depth painted from colour: what is painted where, and that colour teaches it."""

import numpy as np
import pytest
import torch

from robofuse.policies.generate import Completed, Completion, DepthFromColour, learn_depth
from robofuse.sensors import AVAILABLE, Sensor

RGB = Sensor("rgb", "rgb", (16, 20, 3), "uint8", "", 255.0, 20.0)
DEPTH = Sensor("depth", "depth", (16, 20, 1), "uint16", "mm", 1000.0, 20.0)
KEYS = ["depth", "force", "rgb"]


def pictures(count, seed=0):
    """A bright block on a dark table 900 mm away; its top is 100 mm nearer, and some pixels have no return."""
    rng = np.random.default_rng(seed)
    rgb, depth = np.full((count, 16, 20, 3), 40, np.uint8), np.full((count, 16, 20, 1), 900, np.uint16)
    for i, (y, x) in enumerate(zip(rng.integers(0, 12, count), rng.integers(0, 16, count), strict=True)):
        rgb[i, y : y + 4, x : x + 4], depth[i, y : y + 4, x : x + 4] = 220, 800
    depth[:, 0, 0] = 0
    return torch.from_numpy(rgb), torch.from_numpy(depth)


def painter(seed=0):
    torch.manual_seed(seed)
    return DepthFromColour(RGB, DEPTH, width=8)


@pytest.mark.slow
def test_depth_is_learned_from_colour():
    rgb, depth = pictures(3000)
    shares = []
    network = learn_depth(rgb, depth, painter(), passes=4, report=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and not network.training
    fresh, wanted = pictures(50, seed=1)
    error = (network.paint(fresh).int() - wanted.int()).abs()[wanted.int() > 0].float().mean()
    assert error < 3.0  # mm; the best constant is off by 5
    assert network.paint(fresh).dtype == torch.uint16 and network.paint(fresh).shape == wanted.shape


def test_pixels_without_a_return_teach_nothing():
    network, (rgb, depth) = painter(), pictures(4)
    with torch.no_grad():
        whole = network.loss(rgb, depth)
        wanted = network(rgb)[:, 1:] - depth.float()[:, 1:] / 1000.0
        depth[:, 1:] = 0
        rest = network.loss(rgb, depth)
    assert wanted.abs().mean() > 0 and not torch.equal(whole, rest)
    seen = (network(rgb)[:, 0, 1:] - depth.float()[:, 0, 1:] / 1000.0).abs().mean()
    assert rest.item() == pytest.approx(seen.item(), rel=1e-5)
    depth[:] = 0
    assert network.loss(rgb, depth).item() == 0.0


def test_only_missing_depth_is_painted_and_only_from_live_colour():
    network, (rgb, depth) = painter(), pictures(4)
    available = torch.tensor([[0, 1, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=torch.int8)
    given = {"rgb": rgb, "depth": depth, "force": torch.ones(4, 2, 3), AVAILABLE: available}
    before = {key: x.clone() for key, x in given.items()}
    found = Completion(network, KEYS)(given)
    assert all(torch.equal(x.int(), before[key].int()) for key, x in given.items())  # they are fresh
    assert found[AVAILABLE].tolist() == [[1, 1, 1], [0, 1, 0], [1, 1, 1], [1, 0, 1]]
    assert torch.equal(found["depth"][[0, 3]], network.paint(rgb[[0, 3]]))
    assert torch.equal(found["depth"].int()[[1, 2]], depth.int()[[1, 2]])


def test_what_masked_colour_shows_is_unreadable():
    network, (rgb, depth) = painter(), pictures(3)
    available = torch.tensor([[0, 1, 0]] * 3, dtype=torch.int8)
    one, other = (Completion(network, KEYS)({"rgb": x, "depth": depth, AVAILABLE: available}) for x in (rgb, 255 - rgb))
    assert torch.equal(one["depth"].int(), other["depth"].int()) and torch.equal(one[AVAILABLE], other[AVAILABLE])


def test_the_policy_is_given_the_completed_observation():
    class Sees:
        def act(self, observation):
            return observation[AVAILABLE].float()

    rgb, depth = pictures(2)
    actor = Completed(Sees(), Completion(painter(), KEYS))
    seen = actor.act({"rgb": rgb, "depth": depth, AVAILABLE: torch.tensor([[0, 1, 1]] * 2, dtype=torch.int8)})
    assert seen.tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize(
    ("rgb", "depth", "message"),
    [
        ((16, 20, 6), (16, 20, 1), r"got 'rgb' \(16, 20, 6\)"),
        ((16, 20, 3), (20, 16, 1), r"'depth' \(20, 16, 1\)"),
        ((18, 20, 3), (18, 20, 1), "multiples of 4 pixels, got 18×20"),
    ],
)
def test_other_pictures_are_refused(rgb, depth, message):
    with pytest.raises(ValueError, match=message):
        DepthFromColour(
            Sensor("rgb", "rgb", rgb, "uint8", "", 255.0, 20.0),
            Sensor("depth", "depth", depth, "uint16", "mm", 1.0, 20.0),
        )
