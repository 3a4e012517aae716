"""The extractor in the algorithms of SB3 and sb3-contrib; a return of 0 is a random policy's, 1 the optimum."""

import numpy as np
import pytest
import torch
from algorithms import WAYS, agent, environment
from stable_baselines3.common.evaluation import evaluate_policy
from toys import STEPS, worth

from robofuse.dropout import Dropout, Independent, Linear
from robofuse.policies import FUSIONS, FusionExtractor
from robofuse.wrappers import DropoutProgress, VecSensorDropout

REPLAY = [name for name, way in WAYS.items() if way.replay]
QUICK = {"PPO", "RecurrentPPO", "SAC", "QRDQN", "DQN with HER"}  # one of each sort; the others are slow tests


def each(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


OTHER_FUSIONS = [(name, fusion) for fusion in FUSIONS if fusion != "concat" for name in ("PPO", "DQN", "TD3")]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(name, extractor=None, **options):
    """An agent that takes its first gradient steps after 80 steps."""
    way = WAYS[name]
    if way.replay:
        options = {"learning_starts": 72, "batch_size": 32, "train_freq": 1, "gradient_steps": 1} | options
    else:
        options = {"n_steps": 8} | ({"n_epochs": 1} if "n_epochs" in way.options else {}) | options
    return agent(way, extractor, **options)


def rows(model, count=64, hidden=()):
    """Observations of anything, of which `hidden` is."""
    rng = np.random.default_rng(0)
    space = model.observation_space
    found = {key: rng.uniform(-1, 1, (count, *space[key].shape)).astype(np.float32) for key in space.spaces}
    keys = [key for key in sorted(space.spaces) if key != "available"]
    return found | {"available": np.tile(np.int8([key not in hidden for key in keys]), (count, 1))}


def shortfall(model, way):
    """What an agent is worth, if that is too little with a sensor missing or too much with none; else nothing."""
    signals = ("observation", "achieved_goal") if way.goals else ("near", "far")
    figures = {hidden: worth(model, hidden, way.goals, way.discrete) for hidden in [(), *zip(signals), signals]}
    figures[("noise",)] = worth(model, ("noise",), way.goals, way.discrete)
    blind = figures[signals]  # the task needs them, so the others were read
    enough = min(x for hidden, x in figures.items() if hidden != signals) > (0.6 if way.goals else 0.8)
    good = enough and figures[()] > (0.8 if way.goals else 0.85) and blind < 0.4
    return None if good else figures


def taught(name, extractor=None, seeds=3, share=1.0, **options):
    """An agent that has learnt its task, in a share of its usual steps, from the first seed that does.

    Trainings this short fail with some seeds, and which ones depends on how a processor rounds.
    """
    found = []
    for seed in range(seeds):
        model = agent(WAYS[name], extractor, seed=seed, **options)
        model.learn(int(share * WAYS[name].steps))
        found.append(shortfall(model, WAYS[name]))
        if found[-1] is None:
            return model
    pytest.fail(f"no seed learns: {found}")


@pytest.mark.parametrize(
    ("name", "steps", "shorter"),
    [
        ("PPO", 2048, {"batch_size": 256, "learning_rate": 5e-3}),
        pytest.param("DQN", 1200, {"gradient_steps": 5}, marks=pytest.mark.slow),
    ],
)
def test_learns_quickly_and_does_without_a_sensor(name, steps, shorter):
    model = agent(WAYS[name], **shorter)
    model.learn(steps)
    assert worth(model, (), discrete=WAYS[name].discrete) > 0.75
    for hidden in ("near", "far"):
        assert worth(model, (hidden,), discrete=WAYS[name].discrete) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_learns_and_does_without_a_sensor(name, tmp_path):
    model = taught(name)
    model.save(tmp_path / "agent")
    again = WAYS[name].make.load(tmp_path / "agent", model.get_env(), device="cpu")
    assert shortfall(again, WAYS[name]) is None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fusion"), OTHER_FUSIONS)
def test_every_fusion_learns(name, fusion):
    slowly = name == "TD3" and fusion == "perceiver"  # at the others' rate its actor saturates at once
    taught(name, {"fusion": fusion}, **({"share": 1.6, "learning_rate": 1e-3} if slowly else {}))


@pytest.mark.parametrize("name", each(WAYS))
def test_save_and_load(name, tmp_path):
    model = tiny(name)
    model.learn(96)
    model.save(tmp_path / "agent")
    env = model.get_env()  # HER's rewards are the environment's
    again = WAYS[name].make.load(tmp_path / "agent", env if WAYS[name].goals else None, device="cpu")
    signal = "observation" if WAYS[name].goals else "near"
    for hidden in ((), (signal,), ("noise", signal)):
        for before, after in ((model, again), (again, model)):  # whichever acts first
            first = before.predict(rows(model, hidden=hidden), deterministic=True)[0]
            assert np.array_equal(first, after.predict(rows(model, hidden=hidden), deterministic=True)[0])
    weights = [p.detach().clone() for p in again.policy.parameters()]
    again.set_env(env)
    again.learn(96)
    assert any(not torch.equal(a, b) for a, b in zip(weights, again.policy.parameters(), strict=True))


class Recorded(FusionExtractor):
    """Writes down what every call saw."""

    calls: list = []  # noqa: RUF012

    def fuse(self, observations):
        fused = super().fuse(observations)
        told = observations["available"].detach().clone() > 0.5
        Recorded.calls.append((id(self), self.training, told, fused.available.clone()))
        return fused


@pytest.mark.parametrize("name", each(REPLAY))
def test_masks_inside_are_drawn_per_row_and_in_gradient_steps_alone(name, monkeypatch):
    monkeypatch.setattr(Recorded, "calls", [])
    model = tiny(name, {"dropout": 0.5}, kind=Recorded, batch_size=128)
    # some rows lack a sensor already, which all networks must respect
    model.replay_buffer.n_sampled_goal = 0
    model.set_env(VecSensorDropout(environment(WAYS[name]), Independent(0.3), seed=1))
    model.learn(160)
    policy = model.policy
    targets = {id(one.features_extractor) for key, one in policy.named_children() if key.endswith("_target")}
    assert targets and any(who in targets for who, *_ in Recorded.calls)
    keys = [sensor.key for sensor in next(m for m in policy.modules() if isinstance(m, Recorded)).sensors]
    sensors = [m for m, key in enumerate(keys) if key != "desired_goal"]
    drew = 0
    for who, training, told, live in Recorded.calls:
        if who in targets or len(told) == environment(WAYS[name]).num_envs:  # a target, or acting
            assert not training and torch.equal(told, live)
            continue
        assert training and not (live & ~told).any()
        assert live[:, sensors].any(1).all()
        hidden = (told & ~live)[:, sensors]
        assert 0.2 < hidden.float().sum() / told[:, sensors].sum() < 0.5
        assert len(hidden.unique(dim=0)) > 3  # every row has its own
        assert live[:, [m for m in range(len(keys)) if m not in sensors]].all()
        drew += 1
    assert drew > 3
    Recorded.calls.clear()
    evaluate_policy(model, model.get_env(), 8, warn=False)
    assert Recorded.calls and not any(training for _, training, *_ in Recorded.calls)


@pytest.mark.parametrize("name", each(["SAC", "DQN with HER", "TD3"]))
def test_a_curriculum_inside_follows_the_training(name, monkeypatch):
    monkeypatch.setattr(Recorded, "calls", [])
    ramp = Dropout(Independent(0.5), schedule=Linear(warmup=0.4, until=0.8))
    model = tiny(name, {"dropout": ramp}, kind=Recorded, batch_size=128)
    model.learn(320, DropoutProgress())
    hidden = [float((told & ~live).float().mean()) for _, training, told, live in Recorded.calls if training]
    few = len(hidden) // 5
    assert not any(hidden[:few]) and sum(hidden[-few:]) / few > 0.2
    inside = [module for module in model.policy.modules() if isinstance(module, Recorded)]
    assert all(module._row_masker.progress > 0.9 for module in inside)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", each(["PPO", "A2C", "RecurrentPPO", "SAC", "TD3", "TQC"]))
def test_extractors_of_actor_and_critic(name, shared):
    model = tiny(name, policy={"share_features_extractor": shared})
    policy = model.policy
    if WAYS[name].replay:
        pair, target = (policy.actor.features_extractor, policy.critic.features_extractor), policy.critic_target
        assert target.features_extractor not in pair
        copied = target.features_extractor
    else:
        pair, copied = (policy.pi_features_extractor, policy.vf_features_extractor), None
    assert (pair[0] is pair[1]) == shared
    before = [[p.detach().clone() for p in one.parameters()] for one in (*pair, copied) if one is not None]
    model.learn(160)
    for part, old in zip([one for one in (*pair, copied) if one is not None], before, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(part.parameters(), old, strict=True))
    action, _ = model.predict(rows(model), deterministic=True)
    assert np.isfinite(action).all()


@pytest.mark.parametrize("name", ["SAC with HER", "DQN with HER"])
def test_hindsight_keeps_masks_and_takes_true_goals(name):
    model = tiny(name, learning_starts=1000)
    env = VecSensorDropout(environment(WAYS[name]), Independent(0.5), seed=2)
    model.set_env(env)
    model.learn(400)
    stored = model.replay_buffer.observations["available"][: model.replay_buffer.pos]
    assert stored[..., :2].all() and 0.25 < 1 - stored[..., 2:].mean() < 0.5  # 0.375, as one of two stays
    batch = model.replay_buffer.sample(500)
    seen, then = batch.observations, batch.next_observations
    keys = ["achieved_goal", "desired_goal", "noise", "observation"]
    shown = dict(zip(keys, seen["available"].bool().unbind(1), strict=True))
    assert shown["achieved_goal"].all() and shown["desired_goal"].all() and not shown["observation"].all()
    assert (seen["observation"][~shown["observation"]] == 0).all()
    assert torch.equal(seen["observation"][shown["observation"]], seen["achieved_goal"][shown["observation"]])
    far = (then["achieved_goal"] - then["desired_goal"]).abs() > 0.15
    assert torch.equal(batch.rewards, -far.float())
    assert torch.equal(seen["available"], then["available"])  # one mask an episode, and no episode after it
    assert (batch.rewards == 0).float().mean() > 1 / STEPS  # goals in hindsight


@pytest.mark.parametrize("name", each(WAYS))
def test_what_is_hidden_cannot_be_read_through_sb3(name):
    model = tiny(name)
    signal = "observation" if WAYS[name].goals else "near"
    clean = rows(model, hidden=(signal,))
    actions = [
        model.predict(clean | {signal: np.full_like(clean[signal], x)}, deterministic=True)[0] for x in (0, 9, np.nan)
    ]
    assert np.array_equal(actions[0], actions[1]) and np.array_equal(actions[0], actions[2])


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if not way.replay])
def test_masks_inside_are_refused_where_rollouts_are_learned_from(name):
    with pytest.raises(ValueError, match="VecSensorDropout"):
        tiny(name, {"dropout": 0.3})
