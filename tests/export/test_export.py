"""An exported policy is the policy: same actions under every mask, and nothing read of what is hidden."""

import json
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exporting import CAMERA, DEPTH, MASKS, PROPRIO, RGB, SENSORS, by_torch, make, observe, spoilt

from robofuse.cli import main
from robofuse.export import export, graph
from robofuse.export.compare import TOLERANCE, masks, random_observation, worst_difference
from robofuse.export.make import exported
from robofuse.policies import FUSIONS, load
from robofuse.policies.saving import save


@pytest.fixture(scope="module")
def policy():
    return make()


@pytest.fixture(scope="module")
def made(policy):
    return exported(policy)


def session_of(made):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(made.data, options, providers=["CPUExecutionProvider"])


def run(session, observation, mask):
    """What any user of onnxruntime would do with the file."""
    batch = {key: x[None] for key, x in observation.items()} | {"available": mask[None]}
    return session.run(["action"], batch)[0][0]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_onnx_and_torch_agree_under_all_masks(fusion):
    policy, seen = make(fusion=fusion), set()
    deployed = exported(policy).deployed
    for number, mask in enumerate(MASKS):
        observation = observe(number)
        action = deployed(observation | {"available": mask})
        assert action.dtype == np.float32 and action.shape == (2,)
        np.testing.assert_allclose(action, by_torch(policy, observation, mask), atol=1e-4, rtol=0)
        seen.add(action.tobytes())
    assert len(seen) == len(MASKS)  # such actions could tell masks apart


def test_what_is_hidden_is_not_read(made):
    session = session_of(made)
    for mask in MASKS:
        clean, dirty = observe(1), spoilt(observe(1), mask)
        a, b = run(session, clean, mask), run(session, dirty, mask)
        assert a.tobytes() == b.tobytes() and np.isfinite(a).all()
        assert made.deployed(dirty | {"available": mask}).tobytes() == a.tobytes()
    assert np.isnan(run(session, spoilt(observe(1), MASKS[-1]), MASKS[0])).all()  # it shows where it is read


def test_encoders_are_inside_branches_so_that_hidden_sensors_cost_nothing(made):
    def kinds(graph):
        return [node.op_type for node in graph.node]

    graph = onnx.load_from_string(made.data).graph
    assert kinds(graph).count("If") == len(SENSORS) and "Conv" not in kinds(graph)
    for node in graph.node:
        if node.op_type == "If":
            branches = {part.name: kinds(part.g) for part in node.attribute}
            assert branches["else_branch"] == ["Identity"] and "LayerNormalization" in branches["then_branch"]


def test_the_policy_that_comes_along_agrees():
    policy = load("grasp", device="cpu")
    made = exported(policy)
    assert len(list(masks(made.deployed, np.random.default_rng(0)))) == 16
    assert made.difference < TOLERANCE
    assert worst_difference(policy, made.deployed, rounds=2, seed=1) < TOLERANCE


def test_stacked_frames_agree():
    pictures = (replace(DEPTH, shape=(20, 24, 2)), replace(RGB, shape=(20, 24, 6)))
    policy = make(pictures)
    deployed = exported(policy).deployed
    g = np.random.default_rng(0)
    observation = {s.key: g.integers(0, 250, s.shape).astype(s.dtype) for s in pictures}
    for mask in (np.array(m, np.int8) for m in ((1, 1), (0, 1), (1, 0))):
        difference = deployed({**observation, "available": mask}) - by_torch(policy, observation, mask)
        assert np.abs(difference).max() <= 1e-4


@pytest.mark.parametrize("masked_as", ["zeros", "flag"])
def test_zeros_for_hidden_sensors_are_exported_as_what_they_are_to_the_network(masked_as):
    policy = make(masked_as=masked_as)
    deployed = exported(policy).deployed
    assert worst_difference(policy, deployed) < TOLERANCE
    assert not np.allclose(deployed(observe()), deployed(observe() | {"available": MASKS[5]}))


def test_discrete_actions_and_images_with_channels_first():
    sensors = [SENSORS[0], SENSORS[2], replace(SENSORS[3], shape=(3, 20, 24))]
    policy = make(sensors, gym.spaces.Discrete(5))
    deployed, chosen = exported(policy).deployed, set()
    for seed in range(20):
        observation = random_observation(sensors, np.random.default_rng(seed))
        action = deployed(observation)
        assert action.dtype == np.int64 and action == by_torch(policy, observation)
        chosen.add(int(action))
    assert len(chosen) > 1 and deployed.action == {"n": 5}


def test_actions_stay_within_their_bounds_to_the_bit():
    policy = make()
    with torch.no_grad():
        policy.network.action_net.weight.mul_(1e4)
    deployed = exported(policy).deployed
    actions = np.stack([deployed(observe(seed)) for seed in range(20)])
    low, high = np.float32([-1, -0.5]), np.float32([1, 2])
    assert (actions >= low).all() and (actions <= high).all() and (actions == low).any() and (actions == high).any()


def test_sensors_that_may_not_be_hidden_are_read_whatever_available_says():
    policy = make(maskable=["rgb", "depth"])
    made = exported(policy)
    assert made.deployed.required == ("force", "proprio")
    session = session_of(made)
    told = [run(session, observe(), np.array(mask, np.int8)) for mask in ([0, 0, 0, 1], [0, 1, 1, 1])]
    assert told[0].tobytes() == told[1].tobytes()
    np.testing.assert_allclose(told[0], by_torch(policy, observe(), np.array([0, 1])), atol=1e-4)
    assert exported(make(available=False)).deployed.required == tuple(policy.keys)  # it has no mask tokens to speak of


def test_sensors_may_have_any_name_but_that_of_the_output():
    names = ("live", "camera/rgb", "token/0", "read", "available/x")
    sensors = [replace(PROPRIO, key=name) for name in names]
    assert exported(make(sensors)).deployed.keys == tuple(sorted(names))
    with pytest.raises(ValueError, match="'action'"):
        exported(make([replace(PROPRIO, key="action")]))


def test_the_file_says_all_about_itself(made):
    model = onnx.load_from_string(made.data)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert list(found)[-1] == "robofuse.sha256"
    sensors = {one["key"]: one for one in json.loads(found["robofuse.sensors"])}
    assert sensors["depth"]["unit"] == "mm" and sensors["depth"]["shape"] == [20, 24, 1]
    assert sensors["proprio"]["scale"][1] == 2.0 and sensors["force"]["rate"] == 100.0
    assert json.loads(found["robofuse.world"])["cameras"] == [CAMERA]
    assert json.loads(found["robofuse.card"]) == {"steps": 7}
    inputs = {one.name: one for one in model.graph.input}
    assert list(inputs) == ["depth", "force", "proprio", "rgb", "available"]
    assert inputs["depth"].type.tensor_type.elem_type == onnx.TensorProto.UINT16
    assert inputs["rgb"].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert made.deployed.sensors == SENSORS and made.deployed.world == {"task": "Reach", "cameras": [CAMERA]}


def test_what_does_not_agree_is_not_written(policy, made, tmp_path, monkeypatch):
    path = tmp_path / "one.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr(graph, "SLOPE", 20.0)
    with pytest.raises(RuntimeError, match="0.0001"):
        export(policy, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with torch.no_grad():
        other = make()
        other.network.features_extractor.mask_tokens[1].add_(0.1)
    assert worst_difference(other, made.deployed) > TOLERANCE  # and masks are part of it


def test_nan_is_no_agreement(policy, made):
    keys, sensors = made.deployed.keys, made.deployed.sensors
    broken = type("Broken", (), {"keys": keys, "sensors": sensors, "required": ()})()
    type(broken).reset = lambda self: None
    type(broken).__call__ = lambda self, observation: np.float32([np.nan, 0.0])
    assert np.isnan(worst_difference(policy, broken))


def test_mixed_precision_is_exported_in_full_precision():
    policy = make(mixed_precision=True)
    assert exported(policy).difference < 1e-5 and policy.network.features_extractor.mixed_precision


def test_exporting_changes_nothing_else(policy, made, tmp_path):
    before = {name: x.clone() for name, x in policy.network.state_dict().items()}
    state = torch.get_rng_state(), torch.get_num_threads(), torch.backends.mha.get_fastpath_enabled()
    assert export(policy, tmp_path / "folder" / "one.onnx").read_bytes() == made.data
    assert torch.equal(state[0], torch.get_rng_state()) and not policy.network.training
    assert state[1:] == (torch.get_num_threads(), torch.backends.mha.get_fastpath_enabled())
    assert all(torch.equal(x, before[name]) for name, x in policy.network.state_dict().items())


def test_command(policy, tmp_path, capsys, monkeypatch):
    source = save(policy.network, tmp_path / "mine.safetensors", policy.world, strip_critic=True)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(source)]) == 0
    out = capsys.readouterr().out
    assert "mine.onnx" in out and "uint16   (1, 20, 24, 1)  mm" in out and (tmp_path / "mine.onnx").is_file()
    before = source.read_bytes()
    assert main(["export", str(source), "--out", str(source)]) == 2
    assert "goes into a file .onnx, not into" in capsys.readouterr().err and source.read_bytes() == before
    assert main(["export", "grusp"]) == 2
    assert "policies that come with robofuse: grasp" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "robofuse.export.graph")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(source)]) == 2
    assert "pip install 'robofuse[export]'" in capsys.readouterr().err


def test_what_is_no_policy_is_refused_in_words(policy):
    """An agent of SB3's ended in AttributeError: 'frames'."""
    for what in (policy.network, object(), None):
        with pytest.raises(ValueError, match="robofuse.policies.Policy"):
            export(what)


def test_a_file_says_what_its_numbers_are():
    """Of robofuse's own robots; units and names as the world's, and how often it acts."""
    deployed = exported(load("grasp", device="cpu")).deployed
    assert deployed.rate == 20.0 and set(deployed.entries) == {"proprio", "force", "action"}
    assert [len(deployed.entries[key]) for key in ("proprio", "force", "action")] == [26, 8, 5]
    named = {entry.name: entry for entry in deployed.entries["proprio"]}
    assert named["joint3"].unit == "rad" and named["joint3_velocity"].unit == "rad/s"
    assert named["hand/left_finger"].unit == "m" and named["cos_yaw"].unit == ""
    x, *_, gripper = deployed.entries["action"]
    assert (x.name, x.unit, x.size) == ("x", "m", 0.02) and "base" in x.about
    assert (gripper.name, gripper.unit, gripper.size) == ("gripper", "m", pytest.approx(0.04))
    assert exported(make()).deployed.entries == {}  # of a robot that nobody knows


@pytest.mark.parametrize("robot", ["arm", "gripper"])
def test_an_action_of_1_is_the_step_that_the_file_says(robot):
    from robofuse.envs import World
    from robofuse.envs.robot import ROBOTS

    entries = ROBOTS[robot].entries()
    world = World("Reach", 2, robot=robot, sensors=("proprio",), seed=0)
    names = [entry.name for entry in entries["proprio"]]
    assert len(names) == world.sensors[0].shape[0] and tuple(names) == world.privileged_names[-len(names) :]
    hand = [names.index(f"hand_{axis}") for axis in "xyz"]
    before = world.reset()["proprio"]
    action = torch.zeros(2, 5)
    action[0, 2] = 1.0
    for _ in range(5):
        after = world.step(action).observation["proprio"]
    moved, up = (after - before)[:, hand], entries["action"][2]
    world.close()
    assert 0.5 * 5 * up.size < moved[0, 2] < 1.05 * 5 * up.size  # the servos lag a little
    assert moved[0, :2].abs().max() < 0.01 and moved[1].abs().max() < 0.01
