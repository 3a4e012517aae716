"""Policies that remember: a recurrent unit or stacks, in training, at work, in files, in the simulator, on robots."""

import importlib.util
import shutil
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import onnx
import pytest
import torch
from helpers import BLIND
from looks import Looks, OneLook
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse import cli
from robofuse.deploy import Blind
from robofuse.deploy import Policy as Deployed
from robofuse.deploy.model import seal
from robofuse.envs import World
from robofuse.evaluate.conditions import singles
from robofuse.evaluate.rollout import rollout, schedule
from robofuse.export import export
from robofuse.export.make import TOLERANCE, exported
from robofuse.export.played import Played
from robofuse.files import write_tensors as write
from robofuse.policies import FusionActorCriticPolicy, FusionPPO, Policy, load
from robofuse.policies.modules import Recurrent
from robofuse.policies.saving import pack, save
from robofuse.policies.teacher import load_teacher
from robofuse.train import Train, load_options, run_train
from robofuse.wrappers import VecSensorDropout, VecSensorStack

TINY = Train("Reach").replace(
    robot="gripper", sensors=BLIND, num_envs=8, n_steps=20, batch_size=80, epochs=2, hidden=(16,), token_dim=16,
    steps=480, checkpoint_every=160, validate_every=480, validation_episodes=1, threads=1, seed=5, teacher="none",
    every="outage", outage_steps=5.0, memory_size=12,
)  # fmt: skip


def learner(memory=0, frames=0, num=16, seed=0, **options):
    venv = DummyVecEnv([lambda: OneLook(Looks())] * num)
    venv = VecSensorStack(venv, frames) if frames else venv
    kinds = {"image": "depth"}
    policy = {
        "features_extractor_kwargs": {"kinds": kinds, "token_dim": 16},
        "net_arch": (32,),
        "memory": memory,
        "frames": frames,
    }
    return FusionPPO(env=venv, n_steps=12, batch_size=96, policy_kwargs=policy, seed=seed, device="cpu", **options)


@pytest.mark.parametrize("seed", range(3))
def test_a_rollout_at_once_is_a_rollout_step_by_step(seed):
    torch.manual_seed(seed)
    unit, steps, many = Recurrent(5, 7), 6, 4
    features, state, starts = torch.randn(steps, many, 5), torch.randn(many, 7), torch.rand(steps, many) < 0.3
    whole = unit(features.flatten(0, 1), state, starts).view(steps, many, 7)
    for t in range(steps):
        state = unit(features[t], torch.where(starts[t][:, None], 0.0, state))
        assert torch.equal(whole[t], state)
    # nothing of the episode before reaches the next one
    changed = features.clone()
    changed[:3] += 1.0
    starts[3] = True
    a, b = (unit(x.flatten(0, 1), torch.randn(many, 7), starts).view(steps, many, 7) for x in (features, changed))
    assert torch.equal(a[3:], b[3:]) and not torch.equal(a[:3], b[:3])


@pytest.mark.parametrize("options", [{"memory": 8}, {"memory": 8, "frames": 2}, {"frames": 2}])
def test_first_ratio_is_one_across_episodes_and_rollouts(options):
    model = learner(**options, n_epochs=1)
    model.learn(16 * 12 * 3)
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    if "memory" in options:
        stored = model.rollout_buffer.stored["_memory"]
        assert not stored[model.rollout_buffer.start > 0.5].any()  # episodes of 6 steps begin with nothing
        assert stored[model.rollout_buffer.start < 0.5].any()


def test_minibatches_are_whole_environments_each_once():
    model = learner(memory=4)
    model.learn(16 * 12)
    buffer = model.rollout_buffer
    seen = []
    for batch in buffer.minibatches(50):  # room for 4 columns of 12
        assert batch.starts.shape == (12, 4) and len(batch.actions) == 48
        columns = batch.old_log_prob.view(12, 4).T
        where = [(buffer.log_prob.T == column).all(1).nonzero().item() for column in columns]
        assert torch.equal(batch.starts, buffer.start[:, where] > 0.5)
        seen += where
    assert sorted(seen) == list(range(16))


def test_other_algorithms_are_told_that_they_cannot_train_it():
    model = A2C(FusionActorCriticPolicy, DummyVecEnv([Looks]), policy_kwargs={
        "memory": 4, "features_extractor_kwargs": {"kinds": {"image": "depth"}}})  # fmt: skip
    with pytest.raises(ValueError, match="FusionPPO"):
        model.learn(10)


def test_frames_without_a_stack_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"VecSensorStack\(env, 2\); they hold image"):
        kinds = {"features_extractor_kwargs": {"kinds": {"image": "depth"}}}
        FusionPPO(env=DummyVecEnv([Looks]), batch_size=25, policy_kwargs={"frames": 2, **kinds}, device="cpu")
    model = learner(frames=2, num=8)
    tensors, meta = pack(model.policy)
    write(tmp_path / "odd.safetensors", tensors, {**meta, "frames": 3, "world": {}, "card": {}})
    with pytest.raises(ValueError, match="odd.safetensors .*VecSensorStack"):
        load(tmp_path / "odd.safetensors")


@pytest.fixture(scope="module", params=[{"memory": 8}, {"frames": 2}, {"memory": 8, "frames": 3}], ids=str)
def policy(request, tmp_path_factory):
    """Untrained, written and read again."""
    model = learner(**request.param, num=8)
    path = tmp_path_factory.mktemp("policy") / "it.safetensors"
    save(model.policy, path)
    found = load(path, device="cpu")
    assert found.remembers and found.network.memory == request.param.get("memory", 0)
    return found


@pytest.fixture(scope="module")
def made(policy):
    return exported(policy)


def looks(num, hidden=(), seed=0):
    rng = np.random.default_rng(seed)
    found = {
        "image": rng.integers(0, 255, (num, 20, 20, 1), np.uint8),
        "state": rng.uniform(-1, 1, (num, 2)).astype(np.float32),
        "available": np.ones((num, 2), np.int8),
    }
    for key, column in (("image", 0), ("state", 1)):
        if key in hidden:
            found["available"][:, column] = 0
    return found


def test_it_remembers_what_it_saw_and_not_what_was_hidden(policy):
    assert policy.keys == ("image", "state")
    one, other, noisy = policy.stateful(2), policy.stateful(2), policy.stateful(2)
    first, different = looks(2, seed=1), looks(2, seed=2)
    one.act(first), noisy.act(first), other.act(first | {"image": different["image"]})
    later = [looks(2, ("image",), seed) for seed in (3, 4)]
    for observation in later:
        hidden = observation | {"image": different["image"]}
        a, b, c = one.act(observation), other.act(observation), noisy.act(hidden)
    assert torch.equal(a, c)  # not to the bit did the hidden picture matter
    assert not torch.equal(a, b)  # the one from before did


def test_episodes_begin_where_they_are_said_to(policy):
    env_ids, fresh = policy.stateful(3), policy.stateful(3)
    env_ids.act(looks(3, seed=1))
    env_ids.start(torch.tensor([0, 2]))
    a, b = env_ids.act(looks(3, seed=2)), fresh.act(looks(3, seed=2))
    assert torch.equal(a[[0, 2]], b[[0, 2]]) and not torch.equal(a[1], b[1])
    with pytest.raises(ValueError, match="3 environments, got 2"):
        env_ids.act(looks(2))
    with pytest.raises(ValueError, match="env_ids"):
        env_ids.start([3])


def test_without_stateful_it_says_how(policy):
    with pytest.raises(ValueError, match=r"actor = policy\.stateful"):
        policy.act(looks(1))


def test_on_a_robot_it_remembers_too(policy, made):
    assert made.difference <= TOLERANCE and made.deployed.remembers
    assert made.deployed.keys == ("image", "state")
    env_ids = policy.stateful(1)
    made.deployed.reset()
    for step in range(8):
        hidden = ("image",) if step in (1, 2, 4, 5, 6) else ("state",) if step == 3 else ()
        observation = looks(1, hidden, step)
        action = made.deployed({key: x[0] for key, x in observation.items()})
        np.testing.assert_allclose(action, env_ids.act(observation)[0].numpy(), atol=TOLERANCE)
    again = made.deployed({key: x[0] for key, x in looks(1, (), 0).items()})
    made.deployed.reset()
    first = made.deployed({key: x[0] for key, x in looks(1, (), 0).items()})
    assert not np.array_equal(again, first)
    np.testing.assert_allclose(first, policy.stateful(1).act(looks(1, (), 0))[0].numpy(), atol=TOLERANCE)


def test_what_is_switched_off_leaves_its_memory_as_if_it_were_missing(made):
    off, missing = made.deployed.fork(), made.deployed.fork()
    for step in range(6):
        off.off = ("image",) if step in (1, 2, 4) else ()
        seen, masked = ({key: x[0] for key, x in looks(1, some, step).items()} for some in ((), off.off))
        assert off(seen).tobytes() == missing(masked).tobytes()


@pytest.fixture(scope="module", params=["stack", "recurrent"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / request.param
    assert run_train(TINY.replace(memory=request.param, out=folder)) == 0
    return folder


def test_resumed_it_ends_with_the_same_weights(trained, tmp_path):
    part = shutil.copytree(trained, tmp_path / "part")
    for name in ("checkpoint-0000000480", "final"):  # back to the checkpoint of step 320, in the middle of episodes
        (part / f"{name}.safetensors").unlink()
    assert run_train(load_options(part)) == 0
    a, b = (load(folder / "final.safetensors").network.state_dict() for folder in (trained, part))
    assert all(torch.equal(x, b[name]) for name, x in a.items())


@pytest.mark.slow
def test_evaluate_and_replay(trained, tmp_path, capsys):
    file = str(trained / "final.safetensors")
    demos = ["record", file, "--episodes", "1", "--keep", "all", "--out", str(tmp_path / "demos")]
    assert cli.main(demos) == 0
    arguments = ["evaluate", file, "--episodes", "2", "--num-envs", "4", "--out", str(tmp_path / "found")]
    assert cli.main(arguments) == 0
    assert "all" in capsys.readouterr().out


def test_a_buffer_that_is_written_again_does_not_change_what_is_remembered(made):
    one, other = (Deployed(made.data) for _ in range(2))
    buffer = {key: x[0] for key, x in looks(1, (), 0).items()}
    for step in range(3):
        fresh = {key: x[0].copy() for key, x in looks(1, (), step).items()}
        for key, x in fresh.items():
            buffer[key][...] = x
        assert np.array_equal(one(buffer), other(fresh))


def test_time_goes_on_for_what_it_remembers_while_it_is_blind(policy, made):
    deployed = Deployed(made.data, timeouts={"image": 0.5, "state": 0.5})
    env_ids, seen = policy.stateful(1), looks(1, (), 0)
    for key in ("image", "state"):
        deployed.feed(key, seen[key][0], 0.0)
    np.testing.assert_allclose(deployed.act(0.0), env_ids.act(seen)[0].numpy(), atol=TOLERANCE)
    for step in range(1, 4):
        with pytest.raises(Blind):
            deployed.act(float(step))
        env_ids.act(looks(1, ("image", "state"), 1))
    deployed.feed("state", looks(1, (), 5)["state"][0], 4.0)
    again = env_ids.act(looks(1, ("image",), 5))[0].numpy()
    np.testing.assert_allclose(deployed.act(4.0), again, atol=TOLERANCE)


@pytest.mark.parametrize("said", ["[]", '{"frames": 7}', '{"size": 3}', '{"frames": -1}', '{"frames": 1e400}', "{}"])
def test_a_memory_that_is_not_the_graphs_is_refused(made, said):
    model = onnx.load_from_string(made.data)
    found = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, found | {"robofuse.memory": said, "robofuse.sha256": "0" * 64})
    with pytest.raises(ValueError, match="does not describe a policy"):
        Deployed(seal(model.SerializeToString()))


def test_stacks_of_images_with_channels_first(tmp_path):
    class First(Looks):
        observation_space = gym.spaces.Dict(
            image=gym.spaces.Box(0, 255, (3, 24, 24), np.uint8), state=Looks.observation_space["state"]
        )

        def _see(self):
            return self.observation_space.sample()

    venv = VecSensorStack(DummyVecEnv([First] * 2), 2)
    model = FusionPPO(env=venv, n_steps=12, batch_size=24, policy_kwargs={"frames": 2}, device="cpu")
    policy = Policy(model.policy, "first")
    assert policy.sensors[0].shape == (3, 24, 24)
    observation = {key: x[None] for key, x in First().observation_space.sample().items()}
    assert policy.stateful(1).act(observation).shape == (1, 1)
    assert exported(policy).difference <= TOLERANCE


def test_a_stack_without_frames_is_exported_as_its_readings_are():
    venv = VecSensorStack(VecSensorDropout(DummyVecEnv([Looks] * 8), 0.3), 2)
    kinds = {"features_extractor_kwargs": {"kinds": {"image": "depth"}}}
    model = FusionPPO(env=venv, n_steps=12, batch_size=96, policy_kwargs=kinds, device="cpu")
    made = exported(Policy(model.policy, "plain"))
    assert made.difference <= TOLERANCE and not made.deployed.remembers


def test_sb3_saves_the_policy_alone(policy, tmp_path):
    policy.network.save(tmp_path / "it.pt")
    again = FusionActorCriticPolicy.load(tmp_path / "it.pt", device="cpu")
    assert (again.memory, again.frames) == (policy.network.memory, policy.frames)


def test_a_teacher_must_not_remember(tmp_path):
    options = {"sensors": ("truth",), "dropout": "none", "memory": "recurrent", "out": tmp_path}
    assert run_train(TINY.replace(**options, every=None, steps=160, validate_every=0)) == 0
    with pytest.raises(ValueError, match="--memory none"):
        load_teacher(str(tmp_path / "final.safetensors"), 1, "cpu")


def test_exported_it_remembers_in_the_simulator_too(policy, tmp_path):
    played, env_ids = Played(export(policy, tmp_path / "it.onnx")), policy.stateful(3)
    stateful = played.stateful(3)
    for step in range(6):
        if step == 3:
            env_ids.start([1]), stateful.start(torch.tensor([1]))
        observation = looks(3, ("image",) if step in (1, 2, 4) else (), step)
        np.testing.assert_allclose(stateful.act(observation), env_ids.act(observation), atol=TOLERANCE)
    with pytest.raises(ValueError, match=r"policy\.stateful"):
        played.act(looks(3))


def test_results_do_not_depend_on_how_many_play_side_by_side(trained):
    policy, results = load(trained / "final.safetensors"), []
    for num in (1, 5):
        world = World(num_envs=num, auto_reset=False, seed=3, **policy.world)
        jobs = schedule(singles(policy.keys)[:2], range(3))
        results.append([(r.condition, r.episode, r.success, r.steps) for r in rollout(policy, world, jobs)])
        world.close()
    assert results[0] == results[1]


def test_demonstrations_and_memory_do_not_go_together(tmp_path, capsys):
    options = ["--demos", str(tmp_path), "--memory", "stack", "--out", str(tmp_path / "run")]
    options += ["--robot", "gripper", "--sensors", *BLIND]
    assert cli.main(["train", "Reach", *options]) == 2
    assert "row by row" in capsys.readouterr().err


@pytest.mark.slow
def test_only_a_memory_helps_where_one_look_must_do():
    """Guess a number in ±0.8 that is shown once in 6 steps: blind guessing costs 5/6 · 0.64/3 a step."""
    costs = {}
    ways = {"none": {}, "stack": {"frames": 2}, "hold": {"frames": 1}, "recurrent": {"memory": 16}}
    for name, options in ways.items():
        model = learner(**options, num=32, learning_rate=lambda left: 3e-3 * left, ent_coef=0.0, gamma=0.5)
        model.learn(60_000)
        env_ids = Policy(model.policy, name).stateful(32)
        venv, cost = DummyVecEnv([lambda: OneLook(Looks())] * 32), 0.0
        venv.seed(1000)
        observation = venv.reset()
        for _ in range(5 * Looks.steps):
            observation, rewards, dones, _ = venv.step(env_ids.act(observation).numpy())
            env_ids.start(torch.from_numpy(np.flatnonzero(dones)))
            cost -= rewards.mean() / (5 * Looks.steps)
        costs[name] = cost
    print(costs)
    assert costs["none"] > 0.12
    assert max(costs[name] for name in ways if name != "none") < 0.04, costs


def test_what_is_remembered_can_be_asked(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("remembered", Path(__file__).parents[2] / "scripts" / "remembered.py")
    script = importlib.util.module_from_spec(spec)
    sys.modules["remembered"] = script
    spec.loader.exec_module(script)
    options = {"task": "Grasp", "sensors": ("depth", "proprio"), "image_size": 20, "renderer": "warp", "steps": 160}
    assert run_train(TINY.replace(**options, memory="stack", validate_every=0, out=tmp_path)) == 0
    policy = load(tmp_path / "final.safetensors")
    config = script.Config((str(tmp_path / "final.safetensors"),), episodes=4, steps=(0, 3))
    found = script.errors(policy, config)
    assert len(found) == 2 and all(0 < place < 1000 and 0 < yaw < 2.1 for place, yaw in found)
    script.main(config)
    assert "place" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no heads"):
        script.errors(load("grasp"), config)
