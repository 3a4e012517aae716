"""Pretraining: it tells what is hidden better than the mean does, it is repeatable, and a training can take it up."""

import json
import re
import signal
from dataclasses import replace

import pytest
import torch
from helpers import BLIND

from robofuse.cli import main
from robofuse.errors import InputError
from robofuse.files import read_tensors
from robofuse.policies import FusionExtractor, load
from robofuse.policies.u2a.autoencoder import MaskedAutoencoder, Target
from robofuse.policies.u2a.lora import LoRALinear, count_weights
from robofuse.policies.u2a.transformer import Body
from robofuse.policies.u2a.weights import SHIPPED, load_pretrained
from robofuse.sensors import Sensor, observation_space
from robofuse.train import Train, load_options, pretrain, run_train
from robofuse.train.build import make_env, make_model, resolve
from robofuse.train.imitation import BehaviourCloning, polynomial
from robofuse.train.pretrain import CARDS, Pretrain, Rows, run_pretrain

JOINTS = Sensor("proprio", "vector", (8,), "float32", "rad", 1.0, 20.0)
SMALL = Pretrain("Reach", ("gripper",), BLIND, rows=64, held_out=16, steps=3, batch_size=8, num_envs=8, device="cpu")
TRAIN = Train("Reach").replace(
    robot="gripper", sensors=BLIND, num_envs=4, n_steps=10, batch_size=40, epochs=1, hidden=(16,), token_dim=96,
    steps=80, checkpoint_every=40, validate_every=0, threads=1, teacher="none", p=0.4, full=0.2, device="cpu",
    encoders=("vector=transformer", "window=transformer"), adapt="lora", masked_as="estimate", fusion="sum_all",
    regularisers=("alignment=0.2",),
)  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "reach"
    assert run_pretrain(Pretrain(**vars(SMALL) | {"out": folder})) == 0
    return folder


def linked(rows, seed):
    """Eight joints that follow from two numbers."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    return torch.randn(rows, 2, generator=generator) @ mixing


@pytest.mark.slow
def test_it_tells_what_is_hidden_from_what_is_seen():
    """Joints that follow from others can be told, and those that do not cannot."""
    config = Pretrain(steps=100, batch_size=24, lr=6e-3)
    errors = []
    for train, held_out in ((linked(600, 1), linked(200, 2)), (torch.randn(600, 8), torch.randn(200, 8))):
        _, found = pretrain.pretrain([Rows(JOINTS, train, held_out)], config, torch.device("cpu"), lambda: False)
        errors.append(found["error"])
        assert len(found["loss"]) == 50
    assert errors[0] < 0.5 < 0.9 < errors[1]


@pytest.mark.parametrize("sensor", [
    JOINTS,
    Sensor("force", "window", (10, 3), "float32", "N", (1.0, 2.0, 3.0), 20.0),
    Sensor("rgb", "rgb", (32, 40, 3), "uint8", "", 255.0, 20.0),
    Sensor("depth", "depth", (32, 32, 1), "uint16", "mm", 2000.0, 20.0),
])  # fmt: skip
def test_what_is_hidden_is_not_read_and_the_mean_has_an_error_of_one(sensor):
    torch.manual_seed(0)
    model = MaskedAutoencoder(Body(sensor))
    x = torch.rand(300, *sensor.shape) * 250
    pieces = model.body.pieces(x.to(getattr(torch, sensor.dtype)))
    target, noise = Target(model.body, pieces), torch.rand(pieces.shape[:2])
    wrong, trivial = model(pieces, target(pieces), model.body.grid, noise)
    assert trivial.item() == pytest.approx(1.0, abs=0.1) and wrong.isfinite()
    count = pieces.shape[1]
    hidden = noise.argsort(1).argsort(1) >= round((1.0 - model.hidden) * count)
    assert hidden.float().mean() == pytest.approx(model.hidden, abs=0.06)
    spoiled = pieces.masked_fill(hidden[..., None], 1e3)
    again, _ = model(spoiled, target(pieces), model.body.grid, noise)
    assert torch.equal(wrong, again)


def test_files_and_cards(pretrained, capsys):
    cards = json.loads((pretrained / CARDS).read_text())
    assert sorted(cards) == ["force", "proprio"]
    for name, card in cards.items():
        tensors, meta = read_tensors(pretrained / f"{name}.safetensors")
        assert meta["kind"] == "encoder" and meta["card"] == card and meta["sensor"]["key"] == name
        assert {x.dtype for x in tensors.values()} == {torch.float16}
        assert sum(x.numel() for x in tensors.values()) == card["weights"]
        assert card["data"][0]["rows"] == 64 and card["data"][0]["held_out"] == 16 and card["options"]["steps"] == 3
        assert card["error"] > 0 and card["seconds"] >= 0 and card["machine"]


def test_the_same_again_and_going_on(pretrained, tmp_path, capsys):
    """Finished encoders are kept, the rest comes out the same."""
    before = (pretrained / "force.safetensors").stat().st_mtime_ns
    (pretrained / "proprio.safetensors").rename(tmp_path / "proprio.safetensors")
    assert run_pretrain(Pretrain(**vars(SMALL) | {"out": pretrained})) == 0
    assert "force is there already" in capsys.readouterr().out
    assert (pretrained / "force.safetensors").stat().st_mtime_ns == before
    one, other = (read_tensors(folder / "proprio.safetensors")[0] for folder in (pretrained, tmp_path))
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    with pytest.raises(InputError, match=r"other options \(--steps 3\); give another --out"):
        run_pretrain(Pretrain(**vars(SMALL) | {"out": pretrained, "steps": 4}))


def test_interrupted(tmp_path, monkeypatch, capsys):
    whole = pretrain.pretrain

    def then_stop(group, *rest):
        if group[0].sensor.key == "proprio":
            signal.raise_signal(signal.SIGINT)
        return whole(group, *rest)

    monkeypatch.setattr(pretrain, "pretrain", then_stop)
    assert run_pretrain(Pretrain(**vars(SMALL) | {"out": tmp_path})) == 130
    assert [path.name for path in sorted(tmp_path.glob("*.safetensors"))] == ["force.safetensors"]
    assert "the same command goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "--rows must be an integer of at least 1"),
        (["--lr", "nan"], r"--lr must lie in \(0, 1\]"),
        (["Gras"], "Gras"),
        (["--sensors", "smell"], "smell"),
        (["--seed", "1000"], "--seed must be an integer from 0 to 999"),
    ],
)
def test_bad_options(options, message, capsys, tmp_path):
    arguments = ["--sensors", *BLIND, "--rows", "8", "--held-out", "8", "--steps", "1", "--out", str(tmp_path / "new")]
    assert main(["pretrain", *arguments, *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "new").exists()


def test_a_training_with_frozen_encoders(pretrained, tmp_path, capsys):
    """Printed and kept: how much learns. What is frozen is what was pretrained, to the bit."""
    assert run_train(TRAIN.replace(pretrained=str(pretrained), out=tmp_path / "run")) == 0
    policy = load(tmp_path / "run")
    found = count_weights(policy.network)
    assert f"{found}, on cpu" in " ".join(capsys.readouterr().out.split())
    learns = sum(x.numel() for x in policy.network.parameters() if x.requires_grad)
    assert policy.card["weights"] == {"total": found.total, "learnable": learns} and learns < found.total / 2
    tensors, _ = read_tensors(pretrained / "proprio.safetensors")
    body = policy.network.features_extractor.encoders["proprio"].body.state_dict()
    frozen = [name for name in tensors if name != "class_token"]
    assert all(torch.equal(body[name], tensors[name].float()) for name in frozen)
    assert body["layers.0.attention.q.up"].any() and not torch.equal(
        body["class_token"], tensors["class_token"].float()
    )


@pytest.mark.slow
def test_a_run_goes_on_without_the_folder(pretrained, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in pretrained.glob("*.safetensors"):
        (moved / path.name).write_bytes(path.read_bytes())
    config = TRAIN.replace(pretrained=str(moved), out=tmp_path / "run")
    assert run_train(config) == 0
    (tmp_path / "run" / "final.safetensors").unlink()
    for path in sorted((tmp_path / "run").glob("checkpoint-*.safetensors"))[1:]:
        path.unlink()
    for path in moved.iterdir():
        path.unlink()
    assert run_train(load_options(tmp_path / "run")) == 0


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.safetensors")))
def test_an_encoder_that_comes_along(name):
    """It fits its sensor, pictures of any size, and tells held-out readings better than their mean does."""
    _, meta = read_tensors(SHIPPED / f"{name}.safetensors")
    sensor = Sensor(**{**meta["sensor"], "shape": tuple(meta["sensor"]["shape"])})
    if sensor.kind in ("rgb", "depth"):
        sensor = replace(sensor, shape=(40, 64, sensor.shape[2]))
    extractor = FusionExtractor(observation_space([sensor]), [sensor], encoders={sensor.key: "transformer"})
    assert load_pretrained(extractor, "shipped")[sensor.key].stem == name
    assert meta["card"]["error"] < 0.9
    assert json.loads((SHIPPED / CARDS).read_text())[name] == meta["card"]


def test_what_comes_along_is_small():
    assert 0 < sum(path.stat().st_size for path in SHIPPED.iterdir()) < 3e6


def test_adapters_of_random_weights_are_refused():
    with pytest.raises(InputError, match="--adapt lora freezes the transformers; give them weights by --pretrained"):
        TRAIN.check()


def test_the_rate_of_u2a():
    assert [polynomial(x) for x in (0.0, 0.04)] == [0.1, 0.1]
    assert polynomial(0.05) > 0.9 and polynomial(0.5) == pytest.approx(0.5**0.9) and polynomial(1.0) == 0.0


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    from robofuse.demos import Record, run_record

    folder = tmp_path_factory.mktemp("demos") / "d"
    assert run_record(Record(task="Reach", robot="gripper", sensors=BLIND, episodes=8, num_envs=8, out=folder)) == 0
    return folder


@pytest.mark.slow
def test_copying_demonstrations(pretrained, demos):
    """With adapters, whose dropout is on there alone, and U2A's optimizer; what is frozen does not decay."""
    config = TRAIN.replace(
        demos=str(demos), demo_epochs=12, demo_optimizer="adamw", lr=5e-3, pretrained=str(pretrained)
    )
    config, _ = resolve(config)
    env = make_env(config)
    try:
        policy, warm = make_model(config, env).policy, BehaviourCloning(config, env.world)
        before = policy.features_extractor.encoders["force"].body.layers[1].mlp[0].weight.clone()
        shares = []
        policy.features_extractor.fusion.register_forward_hook(
            lambda *_: shares.append({part.share for part in policy.modules() if isinstance(part, LoRALinear)})
        )
        card = warm.run(policy, lambda _: None, lambda: False)
    finally:
        env.close()
    assert card["difference"][1] < 0.6 * card["difference"][0]
    assert torch.equal(before, policy.features_extractor.encoders["force"].body.layers[1].mlp[0].weight)
    assert shares and all(share == {0.1} for share in shares)
    assert all(part.share == 0.0 for part in policy.modules() if isinstance(part, LoRALinear))


@pytest.mark.slow
def test_pictures_of_two_sizes_are_told_better_than_by_their_mean(tmp_path):
    options = {
        "rows": 1500,
        "held_out": 200,
        "steps": 400,
        "batch_size": 64,
        "image_sizes": (48, 32),
        "sensors": ("rgb", "depth"),
    }
    config = Pretrain("Grasp", ("gripper",), renderer="warp", num_envs=32, out=tmp_path, device="cpu", **options)
    assert run_pretrain(config) == 0
    cards = json.loads((tmp_path / CARDS).read_text())
    assert {name: len(card["data"]) for name, card in cards.items()} == {"rgb": 2, "depth": 2}
    assert all(card["error"] < 0.98 for card in cards.values()), {name: card["error"] for name, card in cards.items()}


@pytest.mark.slow
def test_robots_that_differ_get_encoders_of_their_own(tmp_path):
    options = {**vars(SMALL), "robots": ("arm", "gripper"), "out": tmp_path}
    assert run_pretrain(Pretrain(**options)) == 0
    found = sorted(path.stem for path in tmp_path.glob("*.safetensors"))
    assert found == ["force", "proprio", "proprio-gripper"]
