import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sensing import SENSORS, SPACE, observe

from robofuse.policies import FusionActorCriticPolicy
from robofuse.policies.modules import RunningNorm


def test_policy_actions_stay_inside_and_need_no_privileged():
    policy = FusionActorCriticPolicy(
        SPACE, gym.spaces.Box(np.float32([-2, 0]), np.float32([2, 1])), lambda _: 1e-3,
        features_extractor_kwargs={"sensors": SENSORS},
    )  # fmt: skip
    with torch.no_grad():
        policy.action_net.bias.copy_(torch.tensor([40.0, -40.0]))
    observation = observe(9)
    del observation["privileged"]
    assert policy.act(observation).tolist() == [[2.0, 0.0]] * 9
    for u in torch.randn(50, 2) * 30:
        assert policy.action_space.contains(policy.execute(u[None])[0].numpy())
    predicted, _ = policy.predict({key: x.numpy() for key, x in observation.items()}, deterministic=True)
    assert np.allclose(predicted, [[2.0, 0.0]] * 9)
    with pytest.raises(ValueError, match="privileged"):
        policy.predict_values(observation)
    with pytest.raises(ValueError, match="finite bounds"):
        FusionActorCriticPolicy(SPACE, gym.spaces.Box(-np.inf, np.inf, (2,)), lambda _: 1e-3)


def test_tanh_leaves_the_ratio_alone_and_entropy_is_that_of_the_executed_action():
    policy = FusionActorCriticPolicy(
        SPACE, gym.spaces.Box(-1, 1, (3,)), lambda _: 1e-3, features_extractor_kwargs={"sensors": SENSORS}
    )
    distribution = policy.get_distribution(observe(2))
    normal = distribution.distribution
    torch.manual_seed(0)
    u = normal.sample((40000,))
    squashed = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform(cache_size=1))
    monte_carlo = -squashed.log_prob(torch.tanh(u).clamp(-0.9999999, 0.9999999)).sum(-1).mean(0)
    torch.testing.assert_close(policy.entropy(distribution), monte_carlo, rtol=0.02, atol=0.02)
    assert policy.entropy(distribution).mean() < 3 * np.log(2.0)  # nothing in [−1, 1]³ has more
    # the difference of two log-densities is the same in u and in tanh(u)
    other = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(normal.mean + 0.2, normal.stddev), torch.distributions.TanhTransform(cache_size=1)
    )
    sample = u[:20]
    action = torch.tanh(sample.double()).float()
    in_u = torch.distributions.Normal(normal.mean + 0.2, normal.stddev).log_prob(sample) - normal.log_prob(sample)
    torch.testing.assert_close(other.log_prob(action) - squashed.log_prob(action), in_u, rtol=1e-2, atol=1e-2)


def test_actions_of_any_shape():
    policy = FusionActorCriticPolicy(
        SPACE, gym.spaces.Box(-1, 1, (2, 3)), lambda _: 1e-3, features_extractor_kwargs={"sensors": SENSORS}
    )
    observation = observe(4) | {"privileged": torch.randn(4, 6, dtype=torch.float64)}
    assert policy.act(observation).shape == (4, 2, 3) and policy(observation)[1].shape == (4, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 1000))
def test_running_norm_is_the_mean_and_std_of_everything(sizes, seed):
    rows = np.random.default_rng(seed).normal(3.0, 2.0, (sum(sizes), 2)).astype(np.float32)
    norm = RunningNorm(2)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        norm.update(torch.from_numpy(part))
    np.testing.assert_allclose(norm.mean, rows.mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.var, rows.var(0), rtol=1e-3, atol=1e-4)
    x = torch.from_numpy(rows)
    inside = ((x - norm.mean) / norm.std).abs() < 5
    torch.testing.assert_close(norm.inverse(norm(x))[inside], x[inside], rtol=1e-3, atol=1e-3)
