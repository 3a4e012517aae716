"""The trials that come along: networks over sequences, aggressive dropout, and one small job of each kind."""

import json

import pytest
import torch

from robofuse.errors import InputError
from robofuse.study import STUDIES
from robofuse.study.registry import TRIALS, find_trial
from robofuse.study.trials import cloning, sequences
from robofuse.study.trials.networks import NETWORKS
from robofuse.train.config import preset

SIZES = {"force": 3, "rgb": 5}


def readings(rows=6, steps=4, seed=0):
    torch.manual_seed(seed)
    return {key: torch.randn(rows, steps, size) for key, size in SIZES.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_dropped_sensor_is_unreadable_and_the_others_are_read(name):
    torch.manual_seed(0)
    network, x = NETWORKS[name](SIZES, 2), readings()
    kept = torch.tensor([[True, False]] * 3 + [[True, True]] * 3)
    spoiled = {"force": x["force"], "rgb": x["rgb"].clone()}
    spoiled["rgb"][:3] = torch.nan
    before, after = network(x, kept), network(spoiled, kept)
    assert before.shape == (6, 2) and torch.equal(before, after)
    grown = network({"force": x["force"] + 1.0, "rgb": x["rgb"]}, kept)
    assert bool((grown != before).all())
    other = network({"force": x["force"], "rgb": x["rgb"] + 1.0}, kept)
    assert torch.equal(other[:3], before[:3]) and bool((other[3:] != before[3:]).all())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_counts(name):
    torch.manual_seed(0)
    network, kept = NETWORKS[name](SIZES, 2), torch.ones(6, 2, dtype=torch.bool)
    for step in range(4):
        x = readings()
        before = network(x, kept)
        x["force"][:, step] += 1.0
        assert bool((network(x, kept) != before).any(1).all()), step


def test_aggressive_dropout_never_masks_its_target():
    told = cloning._aggressive("rgb", 0.8, False)
    assert told["rates"] == ("depth=0.8", "proprio=0.8", "force=0.8") and told["full"] == 0.0
    assert cloning._aggressive("rgb", 0.0, False)["dropout"] == "none"
    assert cloning._aggressive("rgb", 0.0, True)["sensors"] == ("rgb",)
    assert cloning._aggressive("", 0.5, False) == {}
    with pytest.raises(InputError, match="unknown target 'smell'"):
        cloning._aggressive("smell", 0.5, False)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_studies_that_come_along_ask_for_what_their_trial_knows(study, tmp_path):
    """Options are looked at before hours of work begin, and the score is a metric of the trial."""
    for job in study.jobs()[: len(study.jobs()) // len(study.seeds)]:
        if study.trial == "clone":
            cloning._config(job.options, job.seed, tmp_path)
        elif study.trial == "sequence":
            assert {*job.options} <= {*sequences.DEFAULTS, *cloning.DATA, "robot"}
            assert job.options["network"] in NETWORKS
        elif study.trial == "train":
            preset("quick").replace(**cloning.from_json(job.options)).check()
    assert study.trial in TRIALS and len(study.seeds) >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trial", "options", "score"),
    [
        ("clone", {"regularisers": ["contrastive=0.1"], "blending": 1}, "success/worst"),
        ("clone", {"target": "rgb", "specialist": True}, "success/target"),
        ("clone", {"paint_depth": True, "augment": ["shift=1", "mixup=0.4"]}, "painted"),
        ("clone", {"copies": 5}, "success/worst"),
        ("sequence", {"network": "mask-tokens", "supporting": 0.5, "passes": 1}, "explained/target"),
        ("train", {"steps": 400, "num_envs": 8, "batch_size": 200, "checkpoint_every": 400}, "success/worst"),
    ],
)
def test_a_small_job_gives_the_same_numbers_twice(trial, options, score, tmp_path):
    small = {"task": "Reach", "robot": "gripper", "image_size": 16}
    small |= {} if trial == "train" else {"episodes": 10, "held_out": 2}
    small |= {} if trial == "sequence" else {"demo_epochs": 1, "validation_episodes": 2}
    kind, found = find_trial(trial), []
    if kind.prepare is not None:
        kind.prepare(small, tmp_path)
        options = options | {"prepared": str(tmp_path)}
    for name in "ab":
        (tmp_path / name).mkdir()
        shares = []
        metrics = kind.run(small | options, 3, tmp_path / name, shares.append)
        assert shares == sorted(shares) and 0.0 < shares[-1] <= 1.0
        found.append({key: value for key, value in metrics.items() if key not in ("seconds", "milliseconds")})
    assert found[0] == found[1] and score in found[0]
    json.dumps(found[0], allow_nan=False)
