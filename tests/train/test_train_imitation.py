"""Behaviour cloning before training: it copies, with sensors hidden, it is repeatable, and it fits or is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import BLIND

from robofuse.demos import Record, Recorder, read, run_record
from robofuse.files import read_tensors as tensors_of
from robofuse.policies import load
from robofuse.tensors import one_torch_thread
from robofuse.train import Train, load_options, run_train
from robofuse.train.build import make_env, make_model, resolve
from robofuse.train.imitation import BehaviourCloning, discounted
from robofuse.train.training import Training

BASE = Train("Reach").replace(
    robot="gripper", sensors=BLIND, num_envs=4, n_steps=10, batch_size=40, epochs=1, hidden=(16,), token_dim=8,
    steps=80, checkpoint_every=40, validate_every=0, threads=1, teacher="none", demo_epochs=3, p=0.4, full=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos") / "d"
    assert run_record(Record(task="Reach", robot="gripper", sensors=BLIND, episodes=8, num_envs=8, out=folder)) == 0
    return folder


@pytest.fixture(scope="module")
def config(demos):
    return resolve(BASE.replace(demos=str(demos)))[0]


def start(config, change=None):
    """A warm start, a policy for it, and what the policy was told while it copied."""
    env = make_env(config)
    try:
        policy, warm, told = make_model(config, env).policy, BehaviourCloning(config, env.world), []
        if change:
            change(policy, warm)
        with one_torch_thread():
            card = warm.run(policy, told.append, lambda: False)
    finally:
        env.close()
    return policy, warm, card, told


def test_it_copies_and_learns_what_comes_of_it(config):
    policy, warm, card, told = start(config.replace(demo_epochs=25, lr=4e-3, p=0.1))
    assert card["difference"][1] < 0.4 * card["difference"][0]
    assert (card["episodes"], card["passes"], card["by"]) == (8, 25, "expert") and card["steps"] == warm.demos.frames
    assert len(told) == 25 and "pass 25 of 25" in told[-1]
    assert torch.equal(policy.log_std, torch.full((5,), BASE.network.log_std_init))  # nobody shows how much to try out
    assert not policy.optimizer.state
    episode = warm.demos.episodes[0]
    with torch.no_grad():
        acted = policy.act(episode.observation)
        values = policy.predict_values(episode.observation)[:, 0]
    assert (acted[:, 4] > 0.6).all()  # the expert's hand is open
    returns = discounted(episode.reward, BASE.learning.gamma)
    assert torch.corrcoef(torch.stack([values, returns]))[0, 1] > 0.7


def test_neither_random_numbers_nor_the_clock_matter(config):
    state = torch.get_rng_state()

    def note(policy, warm):
        nonlocal state
        state = torch.get_rng_state()

    one = start(config, note)[0].state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    other = start(config)[0].state_dict()
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    third = start(config.replace(seed=7))[0].state_dict()
    assert not torch.equal(third["action_net.weight"], one["action_net.weight"])


def test_methods_against_collapse_take_part(config):
    """Each of them changes what is learned, and none makes it depend on torch's global random numbers."""
    plain = start(config)[0].state_dict()
    for options in (
        {"balance": True},
        {"modulation": 0.5},
        {"sensor_weights": ("force=3",)},
        {"regularisers": ("reconstruction=1", "consistency=1")},
        {"token_dropout": ("standard=0.2", "feature=0.1")},
    ):
        torch.manual_seed(1)
        one = start(config.replace(**options))[0].state_dict()
        torch.manual_seed(2)
        two = start(config.replace(**options))[0].state_dict()
        assert all(torch.equal(x, two[name]) for name, x in one.items()), options
        assert not torch.equal(one["action_net.weight"], plain["action_net.weight"]), options


def test_blending_learns_nothing_from_the_demonstrations_it_sets_apart(config, demos, tmp_path):
    def spoil(policy, warm):
        warm._actions[warm._held_out] = float("nan")  # would show in every weight
        assert len(warm._held_out) and not set(warm._held_out.tolist()) & set(warm._copied.tolist())

    more = tmp_path / "d"
    assert run_record(Record(task="Reach", robot="gripper", sensors=BLIND, episodes=10, num_envs=8, out=more)) == 0
    policy, warm, _, _ = start(config.replace(demos=str(more), blending=3), spoil)
    assert not torch.equal(warm._blending.weights, torch.ones(3))
    assert all(bool(x.isfinite().all()) for x in policy.state_dict().values())


def test_a_late_fusion_is_calibrated_on_the_demonstrations_set_apart(config, demos, tmp_path):
    """A sensor that says nothing, but with confidence, loses its weight."""

    def overconfident(policy, warm):
        with torch.no_grad():
            policy.features_extractor.fusion.bias[0, -1] = 2.0
        assert len(warm._held_out) and not set(warm._held_out.tolist()) & set(warm._copied.tolist())

    more = tmp_path / "d"
    assert run_record(Record(task="Reach", robot="gripper", sensors=BLIND, episodes=10, num_envs=8, out=more)) == 0
    config = config.replace(demos=str(more), fusion="late", hidden=(), demo_epochs=8, lr=3e-3)
    plain = start(config.replace(blending=1), overconfident)[
        0
    ].features_extractor.fusion  # blending sets them apart too
    fusion = start(config.replace(calibrate=True, blending=1), overconfident)[0].features_extractor.fusion
    assert torch.equal(plain.weight, fusion.weight)  # it comes when all is learned
    assert torch.equal(plain.temperature, torch.ones(2))
    assert fusion.temperature[0] > 2.0 * fusion.temperature[1]  # force tells less of the way than the joints do
    for wrong, message in (({"fusion": "gated"}, "--fusion late"), ({"demos": str(demos)}, "--calibrate sets")):
        with pytest.raises(ValueError, match=message):
            start(config.replace(calibrate=True, **wrong))


@pytest.mark.parametrize("law", ["independent", "markov", "none"])
def test_sensors_are_masked_as_in_the_training(config, law):
    config = config.replace(dropout=law, full=0.0, outage_steps=4.0)
    env = make_env(config)
    warm = BehaviourCloning(config, env.world)
    env.close()
    passes = torch.stack([warm._masks(epoch) for epoch in range(60)]).float()
    hidden = 1.0 - passes.mean(dim=(0, 1))
    assert passes.shape[1:] == (warm.demos.frames, 2) and (passes.sum(2) >= 1).all()
    if law == "none":
        assert not hidden.any()
        return
    assert (hidden > 0.15).all() and not torch.equal(passes[0], passes[1])
    first = len(warm.demos.episodes[0])
    constant = (passes[:, :first] == passes[:, :1]).all()
    assert bool(constant) == (law == "independent")  # of an episode, or in the course of it


def test_shared_masks_are_one_per_minibatch(config):
    config = config.replace(dropout="independent", p=0.5, full=0.0, shared=True)
    env = make_env(config)
    warm = BehaviourCloning(config, env.world)
    env.close()
    masks = []
    for epoch in range(10):
        for batch, _, _ in warm._batches(epoch, 4, torch.Generator().manual_seed(epoch)):
            assert (batch["available"] == batch["available"][0]).all()
            masks.append(tuple(batch["available"][0].tolist()))
    assert len(set(masks)) == 3  # of two sensors one is always kept


def test_what_a_hidden_sensor_held_is_not_copied(config):
    """The demonstrations' own gaps count: what was not delivered stays unread, whatever is drawn."""

    def blind(fill):
        def change(policy, warm):
            warm._observation["proprio"] = torch.full_like(warm._observation["proprio"], fill)
            warm._observation["available"] = warm._observation["available"].clone()
            warm._observation["available"][:, 1] = 0

        return change

    one, other = (start(config, blind(fill))[0].state_dict() for fill in (0.0, torch.nan))
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_demonstrations_that_lack_a_sensor_lack_it_in_every_pass(config):
    env = make_env(config.replace(dropout="none"))
    try:
        warm = BehaviourCloning(config.replace(dropout="none"), env.world)
        warm.lose({"force": 0.25, "proprio": 0.5})
        passes = []
        for epoch in range(2):
            rows = warm._batches(epoch, 1, torch.Generator().manual_seed(epoch))
            passes.append(torch.cat([batch["available"] for batch, _, _ in rows]))
        episodes = warm._observation["available"].split(warm._lengths)
        with pytest.raises(ValueError, match="smell"):
            warm.lose({"smell": 0.1})
        with pytest.raises(ValueError, match="1 together at most"):
            warm.lose({"force": 0.6, "proprio": 0.6})
    finally:
        env.close()
    assert all(bool((rows == rows[0]).all()) for rows in episodes)
    assert sorted(rows[0].tolist() for rows in episodes) == [[0, 1]] * 2 + [[1, 0]] * 4 + [[1, 1]] * 2
    for rows in passes:
        assert sorted(rows.tolist()) == sorted(torch.cat(list(episodes)).tolist())


def test_returns():
    found = discounted(torch.tensor([1.0, 0.0, 2.0]), 0.5)
    assert found.tolist() == [1.5, 1.0, 2.0]


def test_truth_is_found_in_what_was_recorded_beside(config):
    policy, warm, card, _ = start(config.replace(sensors=("truth",), dropout="none", aux_coef=0.0))
    assert warm._observation["truth"].shape == (warm.demos.frames, policy.truth_dim)
    assert card["difference"][1] < card["difference"][0]


def test_a_training_begins_with_it(config, tmp_path, capsys):
    assert run_train(config.replace(out=tmp_path / "run")) == 0
    assert "demonstrations, pass 1 of 3" in capsys.readouterr().out
    card = load(tmp_path / "run").card
    assert card["demonstrations"]["episodes"] == 8 and card["options"]["imitation"]["demo_epochs"] == 3
    assert run_train(config.replace(out=tmp_path / "cold", demos="none")) == 0
    assert load(tmp_path / "cold").card["demonstrations"] is None
    for name in ("run", "cold"):
        last = tmp_path / name / "checkpoint-0000000080.safetensors"
        last.unlink()
        (tmp_path / name / "final.safetensors").rename(tmp_path / name / "kept.safetensors")
        assert run_train(load_options(tmp_path / name)) == 0
        one, other = (tensors_of(tmp_path / name / f"{file}.safetensors")[0] for file in ("kept", "final"))
        assert all(torch.equal(x, other[key]) for key, x in one.items())  # to the bit, and no copying again
    assert load(tmp_path / "run").card["demonstrations"]["episodes"] == 8


def test_asked_to_stop_while_copying_it_begins_again(config, tmp_path):
    notes = []
    training = Training(config.replace(out=tmp_path / "run"), tmp_path / "run", {})
    try:
        assert not training.run(lambda news: notes.append(news.note), lambda: len(notes) == 2)
        assert len(notes) == 2 and training.state.step == 0
    finally:
        training.close()
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "Grasp"}, "are of the task Reach; this training is of Grasp"),
        ({"robot": "arm"}, "are of the robot gripper; this training is of arm"),
        ({"force_window": 5}, r"'force' of shape \(10, 8\); in this training it is \(5, 8\)"),
        ({"demos": "nowhere"}, "there is no folder nowhere: it holds no demonstrations"),
        ({"demo_epochs": 0}, "--demo-epochs must be"),
        ({"blending": 3, "aux_coef": 0.0}, "needs --aux-coef above 0"),
        ({"blending": 3}, "there are only 8"),
        ({"sensor_weights": ("rgb=2",)}, "unknown sensor 'rgb' in"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(config, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run_train(config.replace(out=tmp_path / "run", renderer="warp", **options))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_other_cameras_are_refused_and_other_renderers_told(config, tmp_path):
    folder = tmp_path / "d"
    asked = Record(task="Reach", robot="gripper", sensors=("depth",), episodes=2, num_envs=2, image_size=20, out=folder)
    assert run_record(replace(asked, renderer="warp")) == 0
    fitting = config.replace(sensors=("depth",), image_size=20, renderer="warp", dropout="none", demos=str(folder))
    assert not start(fitting)[1].note
    about = json.loads((folder / "meta/robofuse.json").read_text())
    other = shutil.copytree(folder, tmp_path / "e")
    about["world"]["renderer"] = "gl"
    (other / "meta/robofuse.json").write_text(json.dumps(about))
    assert "have pictures of gl, the training of warp" in start(fitting.replace(demos=str(other)))[1].note
    about["world"]["cameras"][0]["position"] = [0.0, 0.0, 9.0]
    (other / "meta/robofuse.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="see through .*9.0"):
        start(fitting.replace(demos=str(other)))
    with pytest.raises(ValueError, match="at 20 pixels.* 40"):
        start(fitting.replace(render_size=40))


def test_a_persons_recording_needs_no_truth(config, demos, tmp_path):
    shown = read(demos)
    with Recorder(tmp_path / "d", shown.sensors, shown.actions) as recorder:
        for episode in shown.episodes:
            seen = {key: x for key, x in episode.observation.items() if key != "privileged"}
            recorder.append(replace(episode, observation=seen))
    policy, _, card, _ = start(config.replace(demos=str(tmp_path / "d")))
    assert card["by"] is None and card["difference"][1] < card["difference"][0]
    fresh = start(config.replace(demos=str(tmp_path / "d"), demo_epochs=1))[0]
    blind = [sensor for sensor in shown.sensors if sensor.key == "proprio"]
    with Recorder(tmp_path / "e", blind, shown.actions) as recorder:
        for episode in shown.episodes:
            seen = {"proprio": episode.observation["proprio"], "available": episode.observation["available"][:, 1:]}
            recorder.append(replace(episode, observation=seen))
    with pytest.raises(ValueError, match="no sensor 'force'.* proprio"):
        start(config.replace(demos=str(tmp_path / "e")))
    with pytest.raises(ValueError, match="no sensor 'truth'.* proprio"):
        start(config.replace(demos=str(tmp_path / "e"), sensors=("truth",), dropout="none"))
    assert torch.equal(policy.value_net.weight, fresh.value_net.weight)  # the critic had nothing to learn from
