"""An update does not wait for the device: torch's `meta` device raises wherever somebody would look at a number."""

import numpy as np
import pytest
import torch
from sensing import ESTIMATES

from robofuse.envs import SB3VecEnv
from robofuse.errors import StateError
from robofuse.policies import FusionPPO
from robofuse.policies.ppo import Means
from robofuse.policies.regularisers import REGULARISERS


def make(image_size=24, **options):
    env = SB3VecEnv("Grasp", 4, robot="gripper", image_size=image_size, dropout=0.3, privileged=True, renderer="warp")
    options = {"n_steps": 4, "batch_size": 8, "n_epochs": 2, "remask": 2, "replay_rows": 32} | options
    model = FusionPPO(env=env, teacher=lambda _: env.world.expert(), device="cpu", seed=0, **options)
    model.learn(16)
    model._current_progress_remaining = 0.7  # the teacher has weight
    env.close()
    return model


def to_meta(model):
    """The model and its rollout on `meta`."""
    model.policy.to("meta")
    model.device = torch.device("meta")
    buffer = model.rollout_buffer
    buffer.device = model.device
    buffer.stored = {key: x.to("meta") for key, x in buffer.stored.items()}
    buffer.action_store, buffer.scalars = buffer.action_store.to("meta"), buffer.scalars.to("meta")
    buffer.reward, buffer.start, buffer.value, buffer.log_prob, buffer.advantage, buffer.target = buffer.scalars
    if model.replay is not None:
        model.replay.clear()
        model.replay._stored = {}
    return {key: x[0] for key, x in buffer.stored.items()}


OTHERS = ("attention", "sum", "sum_all", "gated", "product_of_experts", "film", "late", "perceiver")
SLOW = [pytest.param(fusion, marks=pytest.mark.slow) for fusion in OTHERS]


@pytest.mark.parametrize("fusion", ["concat", *SLOW])
def test_acting_and_an_update_look_at_no_number(fusion):
    weights, estimates = dict.fromkeys(REGULARISERS, 0.1), {}
    if fusion == "sum_all":
        estimates = ESTIMATES | {"estimate": "gated", "adapt": "lora"}
    else:
        weights.pop("alignment")
    kwargs = {"features_extractor_kwargs": {"fusion": fusion, **estimates}, "regularisers": weights}
    model = make(policy_kwargs=kwargs, modulation=0.2, sensor_weights={"rgb": 2.0})
    observed = to_meta(model)
    with torch.no_grad():
        fused = model.policy.fuse(observed)
        actions, values, log_probs = model.policy.choose(fused, observed)
        assert model.policy.execute(actions).shape == (4, 5) and values.shape == (4, 1) and log_probs.shape == (4,)
    buffer = model.rollout_buffer
    buffer.compute_returns_and_advantage(values, np.zeros(4, np.float32))
    means, epochs = model.update(0.2)
    assert epochs == 2 and all(x.is_meta for x in means.tensors().values())
    named = {"policy_loss", "teacher", "remask/teacher", "aux/rgb", "not_finite", "grad_norm/rgb", "contrastive/loss"}
    assert named <= set(means.tensors())


def test_both_ways_to_encode_live_rows_agree(monkeypatch):
    """Rows are picked on a CPU; on a GPU all are encoded, and hidden ones replaced."""
    model = make()
    rows = {key: x.flatten(0, 1) for key, x in model.rollout_buffer.stored.items()}
    assert 0 < int(rows["available"].sum()) < rows["available"].numel()
    picked = model.policy.fuse(rows)
    monkeypatch.setattr("robofuse.policies.extractor.on_cpu", lambda _: False)
    for key, live in zip(("depth", "force", "proprio", "rgb"), rows["available"].bool().unbind(1), strict=True):
        if rows[key].is_floating_point():
            rows[key] = rows[key].clone()
            rows[key][~live] = torch.nan  # never read
    replaced = model.policy.fuse(rows)
    torch.testing.assert_close(picked.features, replaced.features)
    torch.testing.assert_close(picked.tokens, replaced.tokens)


def test_a_broken_step_changes_no_weight_and_is_told_when_the_update_is_over(monkeypatch):
    """As on a GPU: the fused optimizer is told on the device, and nobody looks before the end."""
    model = make(replay_rows=0)
    for module in ("ppo", "actor_critic", "extractor"):
        monkeypatch.setattr(f"robofuse.policies.{module}.on_cpu", lambda _: False)
    model.update(0.2)  # moments of the optimizer are there
    before = {name: x.clone() for name, x in model.policy.state_dict().items() if "norm" not in name}
    model.rollout_buffer.advantage.fill_(torch.nan)
    with pytest.raises(StateError, match="policy_loss.*became NaN"):
        model.train()
    for name, x in before.items():
        assert torch.equal(x, model.policy.state_dict()[name]), name
    model.rollout_buffer.advantage.zero_()
    model.rollout_buffer.stored["force"][0, 0] = torch.nan
    model.rollout_buffer.stored["available"].fill_(1)
    with pytest.raises(StateError, match="'force' holds NaN"):
        model.train()


def test_means_of_nothing_are_nothing():
    assert Means().tensors() == {}
