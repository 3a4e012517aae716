import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import same
from test_train_run import SMALL

from robofuse.demos.layout import Episode
from robofuse.dropout import Cosine, Dropout, Empirical, Groups, Independent, Linear, LoseOne, Markov, Rates, Subsets
from robofuse.envs import World
from robofuse.envs.cameras import CAMERAS
from robofuse.play import Trained, load_trained, make_world
from robofuse.policies import save
from robofuse.sensors import MODALITIES
from robofuse.train import Train
from robofuse.train.build import (
    drawn_size,
    make_env,
    make_model,
    ramp,
    resolve,
    spell_out_faults,
    world_options,
)
from robofuse.train.masking import make_dropout


def test_faults_to_train_on_reach_the_observation():
    env = make_env(SMALL.replace(faults=("force:bias",), fault_share=1.0, dropout="none", renderer="warp"))
    healthy = make_env(SMALL.replace(dropout="none", renderer="warp"))
    first, expected = env.reset(), healthy.reset()
    assert not np.isclose(first["force"], expected["force"]).any()
    assert all(np.array_equal(first[key], expected[key]) for key in expected if key != "force")
    env.close()
    healthy.close()


def test_plans_from_files_are_spelled_out(tmp_path):
    (tmp_path / "plan.yaml").write_text("- {sensor: force, fault: bias, severity: 0.5, step: 3}")
    config = SMALL.replace(faults=("standard", str(tmp_path / "plan.yaml")), renderer="warp")
    env = make_env(config)
    assert spell_out_faults(config, env.world.sensors).failures.faults == ("standard", "force:bias(0.5)@3")
    env.close()
    with pytest.raises(ValueError, match=r"cannot read the plan .*gone.yaml"):
        make_env(SMALL.replace(faults=(str(tmp_path / "gone.yaml"),), renderer="warp"))


def test_dropout_from_options():
    def made(**options):
        return make_dropout(Train().replace(**options).masking)

    assert made() == Dropout(Independent(0.3), every="episode", full=0.3)
    assert made(dropout="none") is None
    assert made(dropout="subsets", every="step", full=0.0) == Dropout(Subsets(), every="step")
    shared = made(shared=True, dropout="markov")
    assert shared.shared and shared.every == "step" and shared.full == 0.0
    assert made(shared=True) == Dropout(Independent(0.3), "outage", full=0.3, shared=True)
    assert made(dropout="one", p=0.5).law == LoseOne(0.5)
    told = made(dropout="empirical", rates=("none=90", "depth+rgb=8"))
    assert told == Dropout(Empirical({(): 90.0, ("depth", "rgb"): 8.0}), full=0.0)
    assert made(dropout="markov", rates=("rgb=0.2/4",)).law.fail == pytest.approx({"rgb": 0.0625})
    assert made(dropout="groups", p=0.2, schedule="cosine", warmup=0.1, until=0.5, full=0.0) == Dropout(
        Groups(p=0.2), schedule=Cosine(warmup=0.1, until=0.5)
    )
    assert made(dropout="rates", rates=("rgb=0.1", "force=0.4")).law == Rates({"rgb": 0.1, "force": 0.4})
    markov = made(dropout="markov", p=0.25, outage_steps=10.0, schedule="linear")
    assert isinstance(markov.law, Markov) and markov.every == "step" and isinstance(markov.schedule, Linear)
    assert markov.law.bind(MODALITIES).rates == pytest.approx((0.25,) * 4)
    with pytest.raises(ValueError, match="cannot fill 80% of the time"):
        made(dropout="markov", p=0.8, outage_steps=1.0)


LOG = np.array([[1, 1, 1]] * 6 + [[0, 0, 1]] * 2 + [[1, 1, 0]] + [[1, 1, 1]], np.int8)


@pytest.mark.parametrize(
    ("law", "rates"),
    [
        ("rates", ("depth=0.2", "rgb=0.2", "force=0.1")),
        ("empirical", ("none=7", "depth+rgb=2", "force=1")),
        ("markov", ("depth=0.2222222/2", "rgb=0.2222222/2", "force=0.1111111/1")),
    ],
)
def test_the_log_of_a_robot_becomes_options(law, rates, tmp_path):
    np.savez(tmp_path / "log.npz", available=LOG, keys=["depth", "rgb", "force"])
    lines = ["time,depth,rgb,force", *(f"{t / 20},{a},{b},{c}" for t, (a, b, c) in enumerate(LOG))]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    for name in ("log.npz", "log.csv"):
        config, _ = resolve(
            SMALL.replace(device="cpu", full=None, every=None, dropout=law, rates_from=str(tmp_path / name))
        )
        assert config.masking.rates_from is None  # the folder of the run needs no log
        found, expected = ([text.replace("/", "=").split("=") for text in x] for x in (config.masking.rates, rates))
        assert [x[0] for x in found] == [x[0] for x in expected]
        assert [float(n) for x in found for n in x[1:]] == pytest.approx([float(n) for x in expected for n in x[1:]])
        assert make_dropout(config.masking).full == 0.0


def test_a_folder_of_demonstrations_is_a_log(monkeypatch, tmp_path):
    ones = torch.ones(3, 1)
    episodes = [Episode({"available": torch.tensor(x)}, ones, ones, ones) for x in ([[1, 1]] * 3, [[0, 1]] * 3)]
    demos = SimpleNamespace(episodes=episodes, sensors=[SimpleNamespace(key=key) for key in ("force", "proprio")])
    monkeypatch.setattr("robofuse.train.masking.read_demos", lambda folder: demos)
    masking = SMALL.replace(dropout="empirical", rates_from=str(tmp_path)).masking
    assert make_dropout(masking).law == Empirical({(): 3, ("force",): 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": ("rgb=0.1",)}, "--p"),
        ({"rates_from": "log.csv"}, "--p"),
        ({"dropout": "empirical"}, "needs --rates"),
        ({"dropout": "rates", "rates": ("rgb=0.1",), "rates_from": "log.csv"}, "not both"),
        ({"dropout": "rates", "rates_from": "gone.csv"}, "cannot read the log gone.csv"),
        ({"dropout": "markov", "rates": ("rgb=0.1",)}, "rgb=0.1/35"),
        ({"dropout": "empirical", "rates": ("rgb+depth",)}, "depth.rgb=8"),
    ],
)
def test_rates_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        make_dropout(SMALL.replace(**options).masking)


def test_ramps():
    rate = ramp(1e-3, 1e-4)
    assert (rate(1.0), rate(0.0)) == pytest.approx((1e-3, 1e-4))
    assert ramp(1e-3, 1e-3)(0.3) == 1e-3


def test_auto_without_pictures_needs_no_renderer():
    config, note = resolve(SMALL.replace(device="cpu"))
    assert config.scenes.renderer == "warp" and not note


def test_a_policy_keeps_its_cameras_when_their_names_change_hands(monkeypatch):
    options = world_options(Train("Reach").replace(robot="gripper", sensors=("depth",), image_size=24, renderer="warp"))
    assert json.loads(json.dumps(options)) == options
    fake = SimpleNamespace(check=lambda sensors: None)

    def seen(cameras):
        world = make_world(Trained(fake, {**options, "cameras": cameras, "noise": False}), 1, 1)
        picture = world.reset()["depth"]
        world.close()
        return picture

    by_name = seen(["scene"])
    monkeypatch.setitem(CAMERAS, "scene", replace(CAMERAS["scene"], position=(0.3, 0.3, 0.5)))
    assert torch.equal(seen(options["cameras"]), by_name) and not torch.equal(seen(["scene"]), by_name)


def test_a_policy_file_keeps_both_sizes(tmp_path):
    config = SMALL.replace(sensors=("rgb", "depth"), image_size=20, render_size=40, renderer="warp")
    env = make_env(config)
    assert env.observation_space["rgb"].shape == (20, 20, 3)
    save(make_model(config, env).policy, tmp_path / "p.safetensors", world_options(config))
    trained = load_trained(str(tmp_path / "p.safetensors"))
    assert (trained.options["image_size"], trained.options["render_size"]) == (20, 40)
    again, expected = make_world(trained, 1, 5), World(seed=5, **world_options(config))
    assert same(again.reset(), expected.reset())
    plain = World(seed=5, **world_options(config.replace(render_size=None)))
    assert not torch.equal(plain.reset()["rgb"], expected.reset(seed=5)["rgb"])
    assert world_options(config.replace(render_size=None))["render_size"] == 20
    for world in (again, expected, plain, env):
        world.close()


def test_cameras_draw_the_least_multiple_that_is_large_enough():
    for read, wanted, drawn in ((16, 24, 32), (16, 16, 16), (24, 16, 24), (20, 41, 60)):
        assert drawn_size(SMALL.replace(image_size=read, render_size=wanted)) == drawn
