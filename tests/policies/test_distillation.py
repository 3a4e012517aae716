import pytest
import torch
from helpers import BLIND
from hypothesis import given, settings
from hypothesis import strategies as st
from sensing import SENSORS, SPACE, observe, spoil
from toys import Line

from robofuse.dropout import Dropout, Independent
from robofuse.dropout.apply import submasks
from robofuse.envs import SB3VecEnv
from robofuse.policies import FUSIONS, FusionExtractor, FusionPPO
from robofuse.policies.rollouts import TEACHER_ACTION, Replay, TensorRolloutBuffer

WORLDS = {"sensors": BLIND, "robot": "gripper", "privileged": True, "seed": 3}


def make_model(teacher=True, **options):
    env = SB3VecEnv("Reach", 6, dropout=Dropout(Independent(0.4)), **WORLDS)
    advice = (lambda _: env.world.expert()) if teacher else None
    options = {"n_steps": 8, "batch_size": 24, "n_epochs": 2, "learning_rate": 3e-3} | options
    return FusionPPO(env=env, seed=0, device="cpu", teacher=advice, **options)


@given(st.integers(1, 40), st.integers(1, 6), st.floats(0.01, 0.99), st.integers(0, 99))
def test_submasks_hide_more_and_never_all(batch, sensors, keep, seed):
    torch.manual_seed(seed)
    available = torch.rand(batch, sensors) < 0.5
    drawn = submasks(available, keep)
    assert bool((drawn <= available).all())
    assert torch.equal(drawn.any(1), available.any(1))


def test_submasks_keep_as_often_as_asked():
    torch.manual_seed(0)
    drawn = submasks(torch.ones(20_000, 8, dtype=torch.bool), 0.6)
    assert drawn.float().mean() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("fusion", FUSIONS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_fusing_again_is_fusing_with_fewer_sensors(fusion, seed):
    """Forward and backward: what was masked is as unreadable as if it had been so from the beginning."""
    torch.manual_seed(seed)
    extractor = FusionExtractor(SPACE, SENSORS, token_dim=16, fusion=fusion)
    seen = observe(12, seed)
    fused = extractor.fuse(seen)
    fewer = submasks(fused.available, 0.5)
    again = extractor.fuse_again(fused, fewer)
    direct = extractor.fuse(spoil(seen | {"available": fewer.to(torch.int8)}))
    torch.testing.assert_close(again.features, direct.features)
    weights = list(extractor.parameters())
    first, second = (
        torch.autograd.grad(x.features.square().sum(), weights, allow_unused=True, materialize_grads=True)
        for x in (again, direct)
    )
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_zero_filling_cannot_be_masked_again():
    extractor = FusionExtractor(SPACE, SENSORS, token_dim=16, masked_as="zeros")
    fused = extractor.fuse(observe(4))
    with pytest.raises(ValueError, match="zeros"):
        extractor.fuse_again(fused, fused.available)


def test_several_masks_for_each_row_keep_the_rows_apart():
    extractor = FusionExtractor(SPACE, SENSORS, token_dim=16)
    seen = observe(5, available=torch.ones(5, 4))
    fused = extractor.fuse(seen)
    masks = torch.cat([fused.available, submasks(fused.available, 0.5)])
    again = extractor.fuse_again(fused, masks).features
    torch.testing.assert_close(again[:5], fused.features)
    for row in range(5):
        one = {key: x[row : row + 1] for key, x in seen.items()} | {"available": masks[5 + row, None].to(torch.int8)}
        torch.testing.assert_close(again[5 + row, None], extractor.fuse(one).features)


@pytest.mark.parametrize("options", [{"teacher": False}, {}, {"replay_rows": 100, "replay_passes": 2.0}])
def test_first_ratio_is_one_whatever_is_distilled(options):
    model = make_model(remask=2, **options)
    errors = []
    model.loss = lambda batch, clip, loss=model.loss: (errors.append(found := loss(batch, clip)), found)[1]
    model.learn(3 * 6 * 8)
    per_rollout = len(errors) // 3
    assert all(float((errors[i * per_rollout][1] - 1.0).abs().max()) < 1e-5 for i in range(3))


def test_the_expert_is_asked_in_the_state_that_is_shown():
    """The action that is stored with an observation is the expert's for it: towards the ball in `privileged`."""
    model = make_model()
    model.learn(6 * 8)
    stored = model.rollout_buffer.stored
    world = model.get_env().world
    offset = stored["privileged"][..., :3]
    move = (0.6 * offset / world.robot.model.step).clamp(-1.0, 1.0)
    torch.testing.assert_close(stored[TEACHER_ACTION][..., :3], move, rtol=1e-4, atol=1e-4)
    assert float(move.std()) > 0.1


def test_remasking_brings_actions_under_fewer_sensors_together():
    """Without a teacher and without advantage: only the policy's own action under all sensors is a target."""

    def spread(model):
        obs = {key: x.flatten(0, 1) for key, x in model.rollout_buffer.stored.items()}
        obs["available"] = torch.ones_like(obs["available"])
        with torch.no_grad():
            fused = model.policy.fuse(obs)
            one = torch.zeros_like(fused.available)
            one[:, 0] = True
            both, alone = (model.policy.mean_action(x) for x in (fused, model.policy.fuse_again(fused, one, obs)))
        return float((both - alone).square().mean() / both.var(0).mean())

    found = {}
    for masks in (0, 2):
        model = make_model(teacher=False, remask=masks, remask_self=30.0)
        model.learn(12 * 6 * 8)
        found[masks] = spread(model)
    assert found[2] < 0.7 * found[0]


def test_the_teacher_is_not_asked_when_it_has_no_weight():
    model = make_model(teacher_until=0.5)
    asked = []
    advice = model.teacher
    model.teacher = lambda obs: (asked.append(model._current_progress_remaining), advice(obs))[1]
    model.learn(4 * 6 * 8)
    assert asked and min(asked) > 0.5
    assert not model.rollout_buffer.stored[TEACHER_ACTION].any()


def test_a_teacher_with_a_last_weight_teaches_to_the_end():
    model = make_model(teacher_until=0.5, teacher_final=0.25, teacher_coef=2.0)
    model.learn(2 * 6 * 8)
    model._current_progress_remaining = 0.0
    assert model.teacher_weight() == pytest.approx(0.5)
    model._current_progress_remaining = 0.75
    assert model.teacher_weight() == pytest.approx(2.0 * (1 - 0.5 * 0.75))


def test_a_replay_holds_the_newest_rows():
    model = make_model()
    replay = Replay(60)
    for count in (48, 60, 60):  # 6 worlds, 8 steps
        model.learn(6 * 8, reset_num_timesteps=False)
        replay.add(model.rollout_buffer)
        assert replay.size == count
    newest = model.rollout_buffer.stored["privileged"].flatten(0, 1)
    held = replay._stored["privileged"]
    present = (held[:, None] == newest[None]).all(-1).any(0)
    assert bool(present.all())
    rows = [len(batch["privileged"]) for batch in replay.minibatches(100, 24)]
    assert rows == [24] * 4
    replay.clear()
    assert replay.size == 0


def test_rollouts_larger_than_the_replay_leave_their_end():
    model = make_model()
    model.learn(6 * 8)
    replay = Replay(10)
    assert isinstance(model.rollout_buffer, TensorRolloutBuffer)
    replay.add(model.rollout_buffer)
    assert torch.equal(replay._stored["privileged"], model.rollout_buffer.stored["privileged"].flatten(0, 1)[-10:])


def test_a_policy_that_remembers_takes_no_replay():
    with pytest.raises(ValueError, match="replay_rows"):
        make_model(replay_rows=10, policy_kwargs={"memory": 8})


def test_masks_of_a_policy_that_remembers_hide_the_present_only():
    """Without any mask, fusing again is what was fused: the memory before the step is the one that it had."""
    model = make_model(remask=1, policy_kwargs={"memory": 8})
    model.learn(2 * 6 * 8)
    for batch in model.rollout_buffer.minibatches(24):
        fused = model.policy.fuse(batch.observations, batch.starts)
        again = model.policy.fuse_again(fused, fused.available, batch.observations, batch.starts)
        torch.testing.assert_close(again.features, fused.features)
        torch.testing.assert_close(again.memory, fused.memory)


def test_past_rows_are_not_in_sb3s_files(tmp_path):
    model = make_model(replay_rows=40_000, replay_passes=1.0, teacher_final=0.5)
    model.learn(6 * 8)
    path = tmp_path / "model.zip"
    model.save(path)
    assert path.stat().st_size < 2_000_000  # the rows alone would be 40,000 times 400 bytes
    loaded = FusionPPO.load(path, env=model.get_env(), device="cpu", trust=True, teacher=model.teacher)
    assert loaded.replay.capacity == 40_000 and loaded.replay.size == 0
    loaded.learn(6 * 8)
    assert loaded.replay.size == 48


def test_a_second_learn_is_taught_from_its_first_step_on():
    """SB3 tells the progress after a rollout: without care, the first one would have the last training's."""
    model = make_model()
    model.learn(2 * 6 * 8)
    model.learn(6 * 8)
    assert model.rollout_buffer.stored[TEACHER_ACTION].any()


def test_a_teacher_may_leave_and_come_back():
    model = make_model()
    advice = model.teacher
    model.learn(6 * 8)
    model.set_teacher(None)
    model.learn(6 * 8)
    assert TEACHER_ACTION not in model.rollout_buffer.stored
    model.set_teacher(advice)
    model.learn(6 * 8)
    assert model.rollout_buffer.stored[TEACHER_ACTION].any()


@pytest.mark.parametrize(
    "answer", [torch.zeros(6, 4), torch.zeros(5, 5), torch.zeros(5), torch.full((6, 5), torch.nan)]
)
def test_a_teacher_that_answers_something_else_is_named(answer):
    model = make_model()
    model.set_teacher(lambda _: answer)
    with pytest.raises((ValueError, RuntimeError), match="teacher.*6, 5"):
        model.learn(6 * 8)


@pytest.mark.parametrize(
    "options",
    [
        {"remask_keep": 0.0},
        {"remask_keep": 1.5},
        {"policy_coef": -1.0},
        {"aux_coef": float("nan")},
        {"remask_coef": -1.0},
        {"remask_self": float("nan")},
        {"replay_rows": -1},
        {"replay_passes": -1.0},
        {"teacher_final": 2.0},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_model(remask=1, **options)


def test_masking_again_needs_a_box_and_mask_tokens():
    with pytest.raises(ValueError, match="remask.*zeros"):
        make_model(remask=1, policy_kwargs={"features_extractor_kwargs": {"masked_as": "zeros"}})
    with pytest.raises(ValueError, match="remask.*RemaskCallback"):
        FusionPPO(env=Line(discrete=True), remask=1, n_steps=8, batch_size=8, device="cpu")
