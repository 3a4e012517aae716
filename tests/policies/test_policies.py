import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse.dropout import Dropout, Groups, Independent, Markov, Rates, Subsets
from robofuse.envs import SB3VecEnv
from robofuse.policies import FUSIONS, FusionActorCriticPolicy, FusionExtractor, FusionPPO
from robofuse.policies.encoders import millimetres, saturated, slopes
from robofuse.policies.modules import RunningNorm
from robofuse.policies.rollouts import TensorRolloutBuffer
from robofuse.sensors import Sensor, infer_sensors, observation_space
from robofuse.wrappers import VecSensorDropout

SENSORS = (
    Sensor("depth", "depth", (24, 28, 1), "uint16", "mm", 1000.0, 20.0),
    Sensor("force", "window", (4, 3), "float32", "N", (10.0, 10.0, 1.0), 20.0),
    Sensor("proprio", "vector", (5,), "float32", "rad", 1.0, 20.0),
    Sensor("rgb", "rgb", (24, 28, 3), "uint8", "", 255.0, 20.0),
)
SPACE = observation_space(SENSORS, privileged=6)
LAWS = {
    "independent": Independent(0.4),
    "per sensor": Independent({"proprio": 0.9, "force": 0.2}),
    "subsets": Subsets(),
    "groups": Groups((("force", "proprio"),), 0.4),
    "rates": Rates({"force": 0.5}),
    "markov": Markov(0.2, 0.3),
}


def observe(batch, seed=0, available=None):
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(rng.integers(0, 2000, (batch, 24, 28, 1)).astype(np.uint16))
    if available is None:
        available = rng.random((batch, 4)) < 0.5
        available[:, 2] |= ~available.any(1)
    return {
        "depth": depth,
        "force": torch.from_numpy(rng.normal(size=(batch, 4, 3)).astype(np.float32)),
        "proprio": torch.from_numpy(rng.normal(size=(batch, 5)).astype(np.float32)),
        "rgb": torch.from_numpy(rng.integers(0, 256, (batch, 24, 28, 3), dtype=np.uint8)),
        "available": torch.as_tensor(available, dtype=torch.int8),
        "privileged": torch.from_numpy(rng.normal(size=(batch, 6)).astype(np.float32)),
    }


def spoil(observation, seed=1):
    """Whatever a hidden sensor holds, replaced: NaN, other bytes, the largest depth."""
    spoiled, rng = {key: x.clone() for key, x in observation.items()}, np.random.default_rng(seed)
    for m, sensor in enumerate(SENSORS):
        hidden = (observation["available"][:, m] == 0).numpy()
        x = spoiled[sensor.key].numpy()
        x[hidden] = np.nan if x.dtype.kind == "f" else rng.integers(0, np.iinfo(x.dtype).max, x[hidden].shape)
    return spoiled


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("live_rows_only", [True, False])
def test_hidden_is_unreadable_to_the_bit(fusion, live_rows_only):
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16, live_rows_only=live_rows_only)
    clean = observe(40)
    results = []
    for observation in (clean, spoil(clean)):
        extractor.zero_grad()
        features = extractor(observation)
        features.square().sum().backward()
        grads = [None if p.grad is None else p.grad.clone() for p in extractor.parameters()]
        results.append((features.detach(), grads))
    (first, grads), (second, spoiled_grads) = results
    assert first.shape == (40, extractor.features_dim)
    assert torch.equal(first, second)
    for a, b in zip(grads, spoiled_grads, strict=True):
        assert (a is None and b is None) or (torch.equal(a, b) and a.isfinite().all())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_live_sensors_are_read(fusion):
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16)
    a, b = observe(6, 0, np.ones((6, 4))), observe(6, 1, np.ones((6, 4)))
    for key in ("depth", "force", "proprio", "rgb"):
        mixed = {**a, key: b[key]}
        assert (extractor(a) - extractor(mixed)).abs().amax(1).min() > 1e-6, key


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_hidden_is_finite(fusion):
    extractor = FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=8)
    assert extractor(spoil(observe(3, 0, np.zeros((3, 4))))).isfinite().all()


def test_encoding_live_rows_only_changes_nothing_else():
    torch.manual_seed(0)
    extractor = FusionExtractor(SPACE, SENSORS)
    observation = observe(70)
    sparse = extractor(observation)
    extractor.live_rows_only = False
    torch.testing.assert_close(sparse, extractor(observation), rtol=1e-4, atol=1e-5)


def test_sensor_hidden_in_the_whole_batch_costs_nothing_and_may_be_missing():
    extractor = FusionExtractor(SPACE, SENSORS)
    observation = observe(5, 0, np.tile([0, 1, 1, 0], (5, 1)))
    full = extractor(observation)
    del observation["rgb"], observation["depth"], observation["privileged"]
    assert torch.equal(full, extractor(observation))


def test_mask_tokens_learn():
    extractor = FusionExtractor(SPACE, SENSORS)
    extractor(observe(5, 0, np.tile([0, 1, 1, 0], (5, 1)))).square().sum().backward()
    gradient = extractor.mask_tokens.grad.abs().sum(1)
    assert (gradient[[0, 3]] > 0).all() and (gradient[[1, 2]] == 0).all()
    assert extractor.encoders["rgb"].head[0].weight.grad is None


@pytest.mark.parametrize("kind", ["rgb", "depth"])
def test_channels_first_and_floats_read_the_same(kind):
    sensor = next(s for s in SENSORS if s.kind == kind)
    first = Sensor(kind, kind, (sensor.shape[2], *sensor.shape[:2]), sensor.dtype, "", sensor.scale, 0.0)
    space = {s.key: observation_space([s]) for s in (sensor,)}[kind]
    torch.manual_seed(0)
    a = FusionExtractor(space, [sensor])
    torch.manual_seed(0)
    b = FusionExtractor(observation_space([first]), [first])
    x = observe(4)[kind]
    ones = torch.ones(4, 1)
    out = a({kind: x, "available": ones})
    torch.testing.assert_close(out, b({kind: x.permute(0, 3, 1, 2).contiguous(), "available": ones}))
    as_float = x.float() / 255 if kind == "rgb" else x.float()  # what SB3's preprocessing makes of them
    torch.testing.assert_close(out, a({kind: as_float, "available": ones}), rtol=1e-4, atol=1e-5)


def test_depth_and_saturation_planes():
    depth = torch.tensor([[0, 1], [40000, 65535]], dtype=torch.int32).to(torch.uint16)
    assert millimetres(depth).tolist() == [[0.0, 1.0], [40000.0, 65535.0]]
    planes = slopes(torch.tensor([[[0.5, 0.51, 0.0], [0.5, 0.52, 0.6]]]))
    torch.testing.assert_close(planes[0, 1, 0], torch.tensor([0.0, 0.5, 0.0]))  # no slope where there is no return
    torch.testing.assert_close(planes[0, 2, 1], torch.tensor([0.0, 0.5, 0.0]))
    grey_and_red = torch.tensor([[[[9, 9, 9], [200, 10, 30]]]], dtype=torch.uint8)
    assert saturated(grey_and_red)[0, 0].tolist() == [[9, 9, 9, 0], [200, 10, 30, 190]]


def test_bytes_of_depth_or_grey_that_sb3_has_divided():
    sensor = Sensor("grey", "depth", (24, 24, 1), "uint8", "", 255.0, 0.0)
    extractor = FusionExtractor(observation_space([sensor]), [sensor])
    x = torch.randint(0, 256, (3, 24, 24, 1), dtype=torch.uint8)
    torch.testing.assert_close(extractor({"grey": x}), extractor({"grey": x.float() / 255}))


def test_discrete_sensors_are_one_hot():
    space = gym.spaces.Dict({"gear": gym.spaces.Discrete(5)})
    extractor = FusionExtractor(space)
    gears = torch.arange(5)
    torch.testing.assert_close(extractor({"gear": gears}), extractor({"gear": torch.eye(5)}))
    with pytest.raises(ValueError, match="'gears' is a MultiDiscrete"):
        infer_sensors(gym.spaces.Dict({"gears": gym.spaces.MultiDiscrete([2, 3])}))


def test_own_encoder_and_fusion():
    class Mean(torch.nn.Module):
        def __init__(self, sensor, token_dim):
            super().__init__()
            self.layer = torch.nn.Linear(1, token_dim)

        def forward(self, x):
            return self.layer(x.float().flatten(1).mean(1, keepdim=True))

    class First(torch.nn.Module):
        def __init__(self, sensors, token_dim):
            super().__init__()
            self.features = token_dim

        def forward(self, tokens, available):
            return tokens[:, 0]

    extractor = FusionExtractor(SPACE, SENSORS, encoders={"rgb": Mean, "window": Mean}, fusion=First, token_dim=8)
    assert isinstance(extractor.encoders["rgb"], Mean) and isinstance(extractor.encoders["force"], Mean)
    assert extractor(observe(3)).shape == (3, 8)


def test_spaces_of_others():
    box = gym.spaces.Box
    space = gym.spaces.Dict(
        {
            "camera": box(0, 255, (64, 64, 3), np.uint8),
            "depth_image": box(0.0, 9.0, (1, 32, 32), np.float32),
            "state": box(-1, 1, (7,), np.float32),
            "contact": gym.spaces.MultiBinary(3),
            "gear": gym.spaces.Discrete(4),
        }
    )
    kinds = {sensor.key: sensor.kind for sensor in infer_sensors(space)}
    assert kinds == {"camera": "rgb", "contact": "vector", "depth_image": "depth", "gear": "vector", "state": "vector"}
    FusionExtractor(space)
    with pytest.raises(ValueError, match="cannot tell what kind of sensor 'image'"):
        infer_sensors(gym.spaces.Dict({"image": box(0, 1, (64, 64, 3), np.float32)}))
    assert infer_sensors(gym.spaces.Dict({"image": box(0, 1, (64, 64, 3), np.float32)}), {"image": "rgb"})
    with pytest.raises(ValueError, match="TransformObservation"):
        infer_sensors(space["state"])
    with pytest.raises(ValueError, match="'nested'"):
        infer_sensors(gym.spaces.Dict({"nested": gym.spaces.Dict({"a": space["state"]})}))
    with pytest.raises(ValueError, match="which is no sensor"):
        infer_sensors(space, {"camra": "rgb"})


def test_available_of_another_length():
    space = gym.spaces.Dict({**SPACE.spaces, "available": gym.spaces.MultiBinary(2)})
    with pytest.raises(ValueError, match="maskable"):
        FusionExtractor(space, SENSORS)
    extractor = FusionExtractor(space, SENSORS, maskable=["rgb", "depth"])
    observation = observe(4) | {"available": torch.tensor([[0, 1]] * 4)}
    live = extractor.fuse(observation).available
    assert live.tolist() == [[False, True, True, True]] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "concatenate"}, "unknown fusion 'concatenate'; fusions: concat"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"maskable": ["rgbd"]}, "maskable names 'rgbd'"),
        ({"sensors": [Sensor("lidar", "vector", (3,), "float32", "", 1.0, 0.0)]}, "no 'lidar' in the observation"),
        ({"sensors": [Sensor("proprio", "vector", (3,), "float32", "", 1.0, 0.0)]}, "has shape"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        FusionExtractor(SPACE, **{"sensors": SENSORS, **options})


def make_env(law=None, every="episode", **options):
    options = {"sensors": ("proprio", "force"), "robot": "gripper", "privileged": True, "seed": 3} | options
    dropout = None if law is None else Dropout(law, every=every)
    return SB3VecEnv("Reach", 6, dropout=dropout, **options)


@pytest.mark.parametrize(
    ("law", "every"),
    [(law, every) for law in LAWS for every in ("episode", "outage", "step") if law != "markov" or every == "step"],
)
def test_first_ratio_is_one(law, every):
    env = make_env(LAWS[law], every, sensors=("truth", "proprio", "force"))
    model = FusionPPO(env=env, n_steps=16, batch_size=48, n_epochs=2, seed=0, device="cpu", learning_rate=3e-3)
    model.learn(3 * 6 * 16)
    assert model.rollout_buffer.stored["available"].float().mean() < 1.0
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    plain = PPO(
        "MultiInputPolicy", env, n_steps=16, batch_size=48, n_epochs=1, seed=0, device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor},
    )  # fmt: skip
    plain.learn(6 * 16)
    plain.collect_rollouts(env, plain._init_callback(None), plain.rollout_buffer, 16)
    plain.policy.set_training_mode(True)
    batch = next(plain.rollout_buffer.get(48))
    with torch.no_grad():
        _, log_prob, _ = plain.policy.evaluate_actions(batch.observations, batch.actions)
    assert (log_prob - batch.old_log_prob).abs().max() < 1e-5
    env.close()


@pytest.mark.parametrize("mixed", [False, True])
def test_first_ratio_is_one_with_images(mixed):
    env = make_env(Independent(0.5), "step", sensors=("rgb", "depth", "proprio"), image_size=24)
    options = {"sensors": env.world.sensors, "mixed_precision": mixed}
    model = FusionPPO(env=env, n_steps=8, batch_size=48, n_epochs=1, seed=0, device="cpu",
                      policy_kwargs={"features_extractor_kwargs": options})  # fmt: skip
    model.learn(2 * 48)
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    assert model.rollout_buffer.stored["rgb"].dtype == torch.uint8
    assert model.rollout_buffer.stored["depth"].dtype == torch.uint16
    env.close()


def test_dropout_inside_the_extractor_is_for_replay_buffers():
    env = make_env(None, privileged=False)
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"dropout": 0.5}}
    for make in (PPO, FusionPPO):
        with pytest.raises(ValueError, match="VecSensorDropout"):
            policy = "FusionPolicy" if make is FusionPPO else "MultiInputPolicy"
            make(policy, env, n_steps=8, batch_size=48, policy_kwargs=kwargs, device="cpu")
    model = SAC("MultiInputPolicy", env, policy_kwargs=kwargs, learning_starts=12, device="cpu", buffer_size=100)
    model.learn(24)
    observation = {"proprio": torch.randn(64, 2), "force": torch.randn(64, 4, 8), "available": torch.ones(64, 2)}
    extractor = FusionExtractor(
        gym.spaces.Dict(
            {
                "force": gym.spaces.Box(-9, 9, (4, 8)),
                "proprio": gym.spaces.Box(-9, 9, (2,)),
                "available": gym.spaces.MultiBinary(2),
            }
        ),
        dropout=0.5,
    )
    share = extractor.fuse(observation).available.float()
    assert share.any(1).all() and 0.4 < share.mean() < 0.9
    assert extractor.eval().fuse(observation).available.all()
    env.close()


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


def test_discrete_actions():
    class Toy(gym.Env):
        observation_space = gym.spaces.Dict({"state": gym.spaces.Box(-1, 1, (2,))})
        action_space = gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"state": self.observation_space["state"].sample()}, {}

        def step(self, action):
            return {"state": self.observation_space["state"].sample()}, float(action == 1), False, True, {}

    env = VecSensorDropout(DummyVecEnv([Toy]), 0.0)
    model = FusionPPO(env=env, n_steps=32, batch_size=32, seed=0, device="cpu", learning_rate=1e-2).learn(600)
    action, _ = model.predict(env.reset(), deterministic=True)
    assert action.tolist() == [1]


def test_no_image_is_copied_into_another_type_or_order():
    env = make_env(None, sensors=("rgb",), image_size=24)
    model = FusionPPO(env=env, n_steps=4, batch_size=24, device="cpu", n_epochs=1)
    assert model.get_env() is env
    model.learn(24)
    # rgb, available, privileged, action, six scalars
    held = 24 * 24 * 3 + 1 + 4 * (len(env.world.privileged_names) + 5 + 6)
    assert model.rollout_buffer.bytes_per_step() == held
    env.close()


def test_advantages_are_those_of_sb3():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,))})
    args = {"observation_space": space, "action_space": gym.spaces.Box(-1, 1, (1,)), "n_envs": 3, "device": "cpu"}
    rng = np.random.default_rng(0)
    ours, theirs = (kind(7, gamma=0.9, gae_lambda=0.8, **args) for kind in (TensorRolloutBuffer, DictRolloutBuffer))
    ours.reset()
    for _ in range(7):
        step = [{"a": rng.normal(size=(3, 2)).astype(np.float32)}, rng.normal(size=(3, 1)), rng.normal(size=3),
                rng.random(3) < 0.3, torch.randn(3), torch.randn(3)]  # fmt: skip
        ours.add(*step)
        theirs.add(*step)
    last, dones = torch.randn(3), np.array([True, False, False])
    ours.compute_returns_and_advantage(last, dones)
    theirs.compute_returns_and_advantage(last, dones)
    np.testing.assert_allclose(ours.advantage.numpy(), theirs.advantages, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.returns, theirs.returns, rtol=1e-5, atol=1e-5)
    rows = torch.cat([batch.actions for batch in ours.minibatches(5)])
    # the last batch would have had one row and is left out
    assert len(rows) == 20 and set(rows.flatten().tolist()) < set(theirs.actions.flatten().tolist())


def test_nan_is_refused_before_it_reaches_the_weights():
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0)
    model.learn(48)
    before = {name: p.clone() for name, p in model.policy.named_parameters()}
    model.rollout_buffer.advantage[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="learning rate"):
        model.train()
    model.rollout_buffer.advantage[0, 0] = 0.0
    model.rollout_buffer.stored["proprio"][0, 0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="'proprio' holds NaN"):
        model.train()
    assert all(torch.equal(p, before[name]) for name, p in model.policy.named_parameters())
    model.rollout_buffer.stored["available"][0, 0] = torch.tensor([1, 0])  # hidden NaN is nobody's fault
    model.rollout_buffer.target[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="the rewards or values of the rollout hold NaN"):
        model.train()
    model.rollout_buffer.target[0, 0] = 0.0
    model.train()
    model.rollout_buffer.advantage[0, 0] = torch.nan
    with pytest.raises(RuntimeError, match="learning rate"):
        model.train()
    assert model.policy.return_norm.mean.isfinite().all()
    env.close()


def test_actions_that_are_not_finite_move_nothing():
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0)
    model.learn(48)
    model._last_obs["proprio"][0] = np.nan
    moved = []
    env.step = lambda actions: moved.append(actions)
    with pytest.raises(RuntimeError, match="'proprio' holds NaN or Inf where it is live"):
        model.learn(48, reset_num_timesteps=False)
    assert not moved
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clip_range_vf": 0.2}, "clip_range_vf"), ({"use_sde": True}, "use_sde")],
)
def test_options_that_would_do_nothing_are_refused(options, message):
    env = make_env()
    with pytest.raises(ValueError, match=message):
        FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", **options)
    env.close()


def test_episodes_that_ran_out_of_time_are_worth_what_would_have_followed():
    """As SB3 does it, though all of a rollout are looked up at once: r + γ V(last observation)."""
    env = make_env(Independent(0.3))
    model = FusionPPO(env=env, n_steps=150, batch_size=900, device="cpu", seed=0)
    seen, step = [], env.step

    def watched(actions):
        seen.append(step(np.zeros_like(actions)))
        return seen[-1]

    env.step = watched
    _, callback = model._setup_learn(900)
    model.collect_rollouts(env, callback, model.rollout_buffer, 150)
    late = 0
    for number, (_, rewards, dones, infos) in enumerate(seen):
        for i, info in enumerate(infos):
            expected = rewards[i]
            if dones[i] and info["TimeLimit.truncated"]:
                late += 1
                final = {key: torch.from_numpy(np.asarray(x)[None]) for key, x in info["terminal_observation"].items()}
                with torch.no_grad():
                    expected += model.gamma * float(model.policy.predict_values(final))
            assert float(model.rollout_buffer.reward[number, i]) == pytest.approx(expected, abs=1e-5)
    assert late >= env.num_envs
    env.close()


def test_learning_beyond_the_asked_steps():
    env = make_env(Independent(0.3))
    FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu").learn(60)  # the second rollout ends at 96
    env.close()


def test_the_entropy_bonus_may_follow_the_progress():
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0, ent_coef=lambda left: 0.5 * left)
    model.learn(48)
    batch = next(model.rollout_buffer.minibatches(48))
    found = {}
    for left in (1.0, 0.2, 0.0):
        model._current_progress_remaining = left
        loss, _, parts = model.loss(batch, 0.2)
        found[left] = loss.item() + 0.5 * left * parts["entropy"].item()
    assert parts["entropy"].abs() > 0.1
    assert found[1.0] == pytest.approx(found[0.0], abs=1e-5) and found[0.2] == pytest.approx(found[0.0], abs=1e-5)
    env.close()


def test_actions_of_any_shape():
    policy = FusionActorCriticPolicy(
        SPACE, gym.spaces.Box(-1, 1, (2, 3)), lambda _: 1e-3, features_extractor_kwargs={"sensors": SENSORS}
    )
    observation = observe(4) | {"privileged": torch.randn(4, 6, dtype=torch.float64)}
    assert policy.act(observation).shape == (4, 2, 3) and policy(observation)[1].shape == (4, 1)


def test_save_and_load(tmp_path):
    env = make_env()
    model = FusionPPO(env=env, n_steps=8, batch_size=48, device="cpu", seed=0).learn(48)
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="trust=True"):
        FusionPPO.load(tmp_path / "model.zip")
    again = FusionPPO.load(tmp_path / "model.zip", env=env, device="cpu", trust=True)
    observation = env.reset()
    actions = [m.predict(observation, deterministic=True)[0] for m in (model, again)]
    assert np.array_equal(*actions)
    again.learn(48)
    env.close()


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
