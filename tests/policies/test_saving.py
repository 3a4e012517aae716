from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from robofuse.files import read_tensors as read
from robofuse.files import write_tensors as write
from robofuse.policies import FusionActorCriticPolicy, Policy, load
from robofuse.policies.saving import pack, save, zoo
from robofuse.sensors import Sensor, observation_space

RGB = Sensor("rgb", "rgb", (24, 24, 3), "uint8", "sRGB", 255.0, 20.0)


DEPTH = Sensor("depth", "depth", (24, 24, 1), "uint16", "mm", 1000.0, 20.0)


PROPRIO = Sensor("proprio", "vector", (7,), "float32", "rad", (0.1, 2.0, 3.0, 1.0, 1.0, 1.0, 0.7), 20.0)


SENSORS = (DEPTH, PROPRIO, RGB)


WORLD = {"task": "Reach", "renderer": "gl", "image_size": 24}


def make(sensors=SENSORS, privileged=4, **options):
    extractor = {"sensors": sensors, "token_dim": 8, "fusion": "gated"} | options.pop("extractor", {})
    return FusionActorCriticPolicy(
        observation_space(sensors, privileged),
        gym.spaces.Box(np.float32([-1, -0.5]), np.float32([1, 2])),
        lambda _: 1e-3,
        net_arch=[16],
        features_extractor_kwargs=extractor,
        visible=[0, 2] if privileged else None,
        **options,
    )


def observe(n=5, seed=0, arrays=False):
    g = np.random.default_rng(seed)
    observation = {
        "rgb": g.integers(0, 256, (n, 24, 24, 3), np.uint8),
        "depth": g.integers(0, 65536, (n, 24, 24, 1), np.uint16),
        "proprio": g.normal(size=(n, 7)).astype(np.float32),
        "available": g.integers(0, 2, (n, 3)).astype(np.int8),
    }
    return observation if arrays else {key: torch.from_numpy(value) for key, value in observation.items()}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    network = make()
    with torch.no_grad():  # as if trained
        network.action_net.weight.normal_()
        network.log_std.normal_()
    network.update_norms(torch.randn(50), torch.randn(50, 4))
    network.set_training_mode(False)
    return network


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    return save(network, tmp_path_factory.mktemp("files") / "one.safetensors", WORLD, {"steps": 7})


@pytest.mark.slow
def test_compiled_encoders_are_the_same_policy(network, path):
    loaded = load(path)
    before = loaded.act(observe())
    for encoder in loaded.network.features_extractor.encoders.values():
        encoder.compile(backend="eager")  # torch's own compiler needs a minute and g++
    torch.testing.assert_close(loaded.act(observe()), before)
    assert set(loaded.network.state_dict()) == set(network.state_dict())


def test_the_mean_is_what_sb3_would_predict_and_nan_shows_in_the_action(network):
    observation = observe()
    with torch.no_grad():
        predicted = network.execute(network._predict(observation, deterministic=True))
    assert torch.equal(network.act(observation), predicted)
    observation["available"][:] = 1
    observation["proprio"][2] = torch.nan
    assert network.act(observation).isfinite().all(1).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("strip_critic", [False, True])
def test_acts_the_same_to_the_bit(network, tmp_path, strip_critic):
    file = save(network, tmp_path / "a.safetensors", WORLD, {"steps": 7}, strip_critic=strip_critic)
    policy = load(file, device="cpu")
    observation = observe()
    expected = network.act(observation)
    assert torch.equal(policy.act(observation), expected)
    assert torch.equal(policy.act({**observation, "privileged": torch.full((5, 4), torch.nan)}), expected)
    assert torch.equal(policy.act(observe(arrays=True)), expected)
    assert (policy.name, policy.world, policy.card) == ("a", WORLD, {"steps": 7})
    assert policy.sensors == SENSORS and policy.keys == ("depth", "proprio", "rgb")
    assert not policy.network.training
    if not strip_critic:
        truth = {**observation, "privileged": torch.randn(5, 4)}
        assert torch.equal(policy.network.predict_values(truth), network.predict_values(truth))
        again = pack(policy.network)
        assert again[1] == pack(network)[1] and all(torch.equal(x, pack(network)[0][k]) for k, x in again[0].items())


def test_stripped_is_smaller(network, path, tmp_path):
    stripped = save(network, tmp_path / "b.safetensors", strip_critic=True)
    assert stripped.stat().st_size < path.stat().st_size
    assert not any("critic" in name or "truth" in name for name in read(stripped)[0])


def test_random_numbers_are_left_alone(path):
    before = torch.get_rng_state()
    policy = load(path)
    policy.act(observe())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    sampled = policy.act(observe(), deterministic=False)
    assert not torch.equal(sampled, policy.act(observe()))


def test_actions_keep_within_bounds(path):
    policy = load(path)
    with torch.no_grad():
        policy.network.action_net.bias.fill_(50.0)
    assert torch.equal(policy.act(observe()), torch.tensor([1.0, 2.0]).expand(5, 2))


def test_hidden_sensors_may_be_missing(path):
    policy, observation = load(path), observe()
    observation["available"][:, 0] = 0
    expected = policy.act(observation)
    del observation["depth"]
    assert torch.equal(policy.act(observation), expected)
    observation["available"][2, 0] = 1
    with pytest.raises(ValueError, match="'depth'.* rgb, proprio"):
        policy.act(observation)


def test_wrong_shapes_are_named(path):
    with pytest.raises(ValueError, match=r"'rgb'.*\(N, 24, 24, 3\).*\(5, 32, 32, 3\)"):
        load(path).act({**observe(), "rgb": torch.zeros(5, 32, 32, 3, dtype=torch.uint8)})


@pytest.mark.parametrize(
    ("sensors", "renderer", "message"),
    [
        (SENSORS[1:], "gl", "trained with the sensors depth, proprio, rgb; this world has proprio, rgb"),
        ((*SENSORS, replace(RGB, key="rgb_wrist")), "gl", "this world has depth, proprio, rgb, rgb_wrist"),
        ((DEPTH, PROPRIO, replace(RGB, shape=(32, 32, 3))), "gl", r"'rgb' of shape \(24, 24, 3\).*\(32, 32, 3\)"),
        ((replace(DEPTH, scale=500.0), PROPRIO, RGB), "gl", "'depth' of scale 1000.0.* 500.0"),
        (SENSORS, "warp", "trained with renderer gl, this world has warp; pass allow_mismatch"),
    ],
)
def test_another_world_is_refused(path, sensors, renderer, message):
    with pytest.raises(ValueError, match=message):
        load(path).check(sensors, renderer)


def test_the_same_world_is_fine(path):
    load(path).check(SENSORS[::-1], "gl")
    load(path).check(SENSORS, "warp", allow_mismatch=True)
    load(path).check(SENSORS)


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.999])
def test_cut_off_files_are_refused(path, tmp_path, keep):
    whole = path.read_bytes()
    file = tmp_path / "cut.safetensors"
    file.write_bytes(whole[: keep if keep == 0 or keep > 1 else int(keep * len(whole))])
    with pytest.raises(ValueError, match="cut.safetensors (is no policy file|is cut off)"):
        load(file)


def test_one_flipped_bit_is_noticed(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 4
    (tmp_path / "flipped.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="does not match|do not match its checksum"):
        load(tmp_path / "flipped.safetensors")


def test_foreign_and_newer_files_are_refused(network, path, tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="robofuse did not write it"):
        load(tmp_path / "foreign.safetensors")
    tensors, meta = pack(network)
    write(tmp_path / "newer.safetensors", tensors, {**meta, "format": 99})
    with pytest.raises(ValueError, match="format 99.*update robofuse"):
        load(tmp_path / "newer.safetensors")
    write(tmp_path / "odd.safetensors", tensors, {**meta, "extractor": {"token_dim": 8, "fusion": "os.system"}})
    with pytest.raises(ValueError, match="unknown fusion 'os.system'"):
        load(tmp_path / "odd.safetensors")
    write(tmp_path / "less.safetensors", {k: tensors[k] for k in list(tensors)[1:]}, meta)
    with pytest.raises(ValueError, match="missing or too many"):
        load(tmp_path / "less.safetensors")
    write(tmp_path / "other.safetensors", tensors, {"kind": "map"})
    with pytest.raises(ValueError, match="not a policy but 'map'"):
        load(tmp_path / "other.safetensors")


def test_unknown_names_list_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="'graps'; policies"):
        load("graps")
    with pytest.raises(ValueError, match="neither best.safetensors nor latest"):
        load(tmp_path)


def test_policies_of_the_package_have_names(network, tmp_path, monkeypatch):
    monkeypatch.setattr("robofuse.policies.saving.ZOO", tmp_path)
    save(network, tmp_path / "mine.safetensors")
    assert zoo() == ["mine"] and load("mine").name == "mine"
    with pytest.raises(ValueError, match="come with robofuse: mine"):
        load("yours")


def test_a_folder_stands_for_its_best_policy(network, tmp_path):
    save(network, tmp_path / "latest.safetensors", card={"which": "latest"})
    assert load(tmp_path).card["which"] == "latest"
    save(network, tmp_path / "best.safetensors", card={"which": "best"})
    assert load(str(tmp_path)).card["which"] == "best"


def test_what_is_not_finite_is_not_written(tmp_path):
    broken = make()
    with torch.no_grad():
        broken.actor[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="'actor.0.weight' hold NaN or Inf"):
        save(broken, tmp_path / "nan.safetensors")
    assert not list(tmp_path.iterdir())


def test_code_of_ones_own_cannot_be_described(tmp_path):
    from robofuse.policies.encoders import VectorEncoder

    own = make((PROPRIO,), 0, extractor={"encoders": {"vector": lambda *a: VectorEncoder(*a)}, "fusion": "concat"})
    with pytest.raises(ValueError, match="holds no code"):
        save(own, tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"extractor": {"token_dim": 10**9, "fusion": "concat"}},
        {"net_arch": [10**6, 10**6]},
        {"privileged": 10**9},
        {"sensors": [{**vars(PROPRIO), "shape": [10**10], "scale": 1.0}]},
    ],
)
def test_a_small_file_cannot_ask_for_much_memory(path, tmp_path, change):
    tensors, meta = read(path)
    big = write(tmp_path / "big.safetensors", tensors, meta | change)
    with pytest.raises(ValueError, match="a network larger than its [0-9,]+ weights"):
        load(big)


@pytest.mark.parametrize("change", [{"world": "x"}, {"card": [1]}])
def test_world_and_card_are_dictionaries(path, tmp_path, change):
    tensors, meta = read(path)
    with pytest.raises(ValueError, match="does not describe a policy: its (world|card) is"):
        load(write(tmp_path / "odd.safetensors", tensors, meta | change))


def test_nested_too_deeply(path, tmp_path):
    tensors, meta = read(path)
    text = "[" * 100_000 + "]" * 100_000
    save_file({name: x.contiguous() for name, x in tensors.items()}, tmp_path / "deep.safetensors", {"robofuse": text})
    with pytest.raises(ValueError, match="robofuse did not write it"):
        load(tmp_path / "deep.safetensors")


def test_another_camera_is_refused(network):
    from robofuse.envs import Camera
    from robofuse.policies import Policy

    told = {"name": "scene", "position": [0.5, 0.0, 0.4], "target": [0.0, 0.0, 0.1], "fovy": 40.0, "size": [24, 24]}
    policy = Policy(network, "one", {**WORLD, "cameras": [{**told, "mount": "world"}]})
    same = Camera("scene", (0.5, 0.0, 0.4), (0.0, 0.0, 0.1), size=(24, 24))
    policy.check(SENSORS, cameras=[same])
    with pytest.raises(ValueError, match="camera .*'fovy': 40.0.*'fovy': 41.0"):
        policy.check(SENSORS, cameras=[replace(same, fovy=41.0)])


def spoilt_weights(name, x):
    """Weights that `save` would not write."""
    if name == "nan":
        return x * torch.nan
    return {"inf": x / 0, "int": x.long(), "complex": x.to(torch.complex64), "double": x.double()}[name]


@pytest.mark.parametrize("how", ["nan", "inf", "int", "complex", "double"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_weights_that_are_not_written_are_not_read(path, tmp_path, how, checkpoint):
    """They gave actions of NaN, and the blame fell on hidden sensors."""
    tensors, meta = read(path)
    if checkpoint:
        tensors, meta = {f"policy/{name}": x for name, x in tensors.items()}, {**meta, "kind": "checkpoint"}
    name = next(name for name in tensors if name.endswith("actor.0.weight"))
    odd = write(tmp_path / "odd.safetensors", {**tensors, name: spoilt_weights(how, tensors[name])}, meta)
    with pytest.raises(ValueError, match="odd.safetensors.*'actor.0.weight'"):
        load(odd)


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, torch.nan])
def test_available_is_0_or_1(network, path, value):
    observation = observe()
    told = observation["available"].float()
    told[2, 1] = value
    policy = load(path)
    for act in (policy.act, policy.stateful(5).act, lambda x: network.predict({k: v.numpy() for k, v in x.items()})):
        act(observation)
        with pytest.raises(ValueError, match="`available` must hold 0 and 1"):
            act({**observation, "available": told})


def test_networks_of_others_are_refused_in_words(tmp_path):
    space = observation_space((PROPRIO,))
    theirs = MultiInputActorCriticPolicy(space, gym.spaces.Box(-1, 1, (2,)), lambda _: 1e-3)
    for take in (lambda: Policy(theirs, "theirs"), lambda: save(theirs, tmp_path / "theirs.safetensors")):
        with pytest.raises(ValueError, match="got a MultiInputActorCriticPolicy.*FusionPPO"):
            take()
