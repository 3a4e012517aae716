import pytest

from robofuse.evaluate.conditions import singles
from robofuse.sensors import MODALITIES
from robofuse.train import Train
from robofuse.train.validate import conditions_of, score, score_error


def test_score_weighs_losses_as_much_as_health():
    conditions = singles(MODALITIES)
    success = dict.fromkeys((c.name for c in conditions), 0.0) | {"all": 1.0, "no-rgb": 0.8, "no-force": 0.4}
    assert score(conditions, success) == pytest.approx(0.5 * (1.0 + 1.2 / 4))
    assert score(singles(["rgb"]), {"all": 0.7}) == 0.7
    assert score_error(singles(["rgb"]), {"all": 0.7}, 98) == pytest.approx((0.696 * 0.304 / 98) ** 0.5, abs=1e-12)
    smooth = {"all": 31 / 32, "no-rgb": 25 / 32, "no-force": 13 / 32, "no-depth": 1 / 32, "no-proprio": 1 / 32}
    spread = sum((0.5 if name == "all" else 0.125) ** 2 * p * (1 - p) for name, p in smooth.items())
    assert score_error(conditions, success, 30) == pytest.approx((spread / 30) ** 0.5)


def test_sensors_alone_may_be_left_out_which_does_not_change_the_score():
    every, fewer = (conditions_of(Train("Grasp").replace(validate_alone=given), MODALITIES) for given in (True, False))
    left_out = {one.name for one in every} - {one.name for one in fewer}
    assert left_out == {"only-depth", "only-force", "only-proprio", "only-rgb"}
    success = {one.name: 0.1 * place for place, one in enumerate(every)}
    assert score(fewer, success) == score(every, success)
    two = conditions_of(Train("Grasp").replace(validate_alone=False), ["rgb", "force"])
    assert len(two) == 3  # one alone is the other one removed
