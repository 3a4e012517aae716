"""A monitor for agents of others in environments of others: calibrated, at work, kept with its evaluation, refused."""

import json
from dataclasses import replace
from pathlib import Path

import foreign_envs
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse.evaluate import AgentOptions, Evaluate, evaluate_agent, run_evaluate
from robofuse.evaluate.agents import load_foreign
from robofuse.evaluate.foreign import break_sensors, episode_steps, make_foreign
from robofuse.evaluate.run import MONITOR, find_monitor
from robofuse.faults import Plan
from robofuse.monitor import Monitor, calibrate_env
from robofuse.monitor.health import health_tensors
from robofuse.policies import FusionExtractor
from robofuse.replay.foreign import foreign_frames

FILE = Path(foreign_envs.__file__)
TARGET = 5e-3  # false alarms per step that are allowed
ONSET = 8


class Keeper:
    """Goes home by whatever it is given; `available` is of eye, place, wheel."""

    def __init__(self):
        self.seen = []

    def __call__(self, observation):
        self.seen.append({key: np.array(x) for key, x in observation.items()})
        eye, place, wheel = observation["available"]
        at = observation["place"][0] if place else (observation["wheel"][0] - 5000) / 400 if wheel else 0.0
        if not (place or wheel) and eye:
            at = np.linspace(-1, 1, 16)[observation["eye"][..., 0].sum(0, dtype=int).argmax()]
        return np.clip([-2.0 * at], -1.0, 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def monitor():
    return calibrate_env(Keeper(), foreign_envs.dock, 64, TARGET, seed=1)


def played(monitor, fault, episodes=4, agent=None):
    """Steps of episodes under a fault, as lists of `Taken`."""
    foreign = make_foreign(agent or Keeper(), foreign_envs.dock)
    env = foreign.make_env()
    broken = break_sensors(foreign, env, Plan.parse(fault, foreign.policy.sensors))
    return [list(episode_steps(foreign, broken, 500 + i, watch=monitor.stateful(1))) for i in range(episodes)]


@pytest.mark.slow
def test_healthy_sensors_of_other_episodes_keep_their_trust(monitor):
    shown = np.array([[taken.observation["available"] for taken in episode] for episode in played(monitor, "", 30)])
    assert shown.shape == (30, 25, 3)
    lost = (shown[:, :-1] > shown[:, 1:]).sum() + (shown[:, 0] == 0).sum()
    assert lost <= 2 * TARGET * 30 * 25  # twice the target: luck
    assert shown.mean() > 0.98
    card = monitor.card
    assert card["target"] == TARGET and card["episodes"] == 64 and card["steps"] + card["held_out"]["steps"] == 64 * 25
    assert card["weights"] is None and card["world"] == {"task": "Dock"} and card["seed"] == 1


@pytest.mark.parametrize(
    ("fault", "within", "share"),
    [
        ("wheel:nan?", 0, 1.0),
        ("place:nan?", 0, 1.0),
        ("wheel:freeze", 1, 1.0),
        ("place:freeze", 1, 1.0),
        ("eye:freeze", 1, 1.0),
        ("eye:blackout?", 0, 1.0),
        ("eye:noise(0.5)", 2, 1.0),
        ("place:noise", 2, 0.75),
        ("place:offset", 3, 0.75),
    ],
)
def test_what_breaks_is_noticed_and_then_reads_zeros(monitor, fault, within, share):
    key, _, what = fault.partition(":")
    column = ["eye", "place", "wheel"].index(key)
    event = f"{key}:{what.rstrip('?')}@{ONSET}{'?' if '?' in fault else ''}"
    found = []
    for episode in played(monitor, event):
        trusted = [bool(taken.observation["available"][column]) for taken in episode]
        assert trusted == [bool(taken.observation[key].any()) for taken in episode]
        found.append(not all(trusted[ONSET : ONSET + within + 1]))
    assert np.mean(found) >= share


def test_agents_that_know_no_available_get_zeros_all_the_same(monitor):
    class Plain:
        """As an agent of Stable-Baselines3 that was trained without masks."""

        action_space, observation_space = foreign_envs.Dock.action_space, foreign_envs.Dock.observation_space
        seen = ()

        def predict(self, observation, state, **_):
            self.seen = [*self.seen, observation]
            return np.zeros(1, np.float32), state

    agent = Plain()
    (episode,) = played(monitor, f"wheel:nan@{ONSET}?", 1, agent)
    assert all("available" not in one for one in agent.seen)
    assert [bool(one["wheel"].any()) for one in agent.seen] == [step < ONSET for step in range(25)]
    assert [taken.observation["available"][2] for taken in episode] == [step < ONSET for step in range(25)]


def test_the_same_seed_gives_the_same_monitor(monitor):
    told = []
    again = calibrate_env(Keeper(), foreign_envs.dock, 64, TARGET, seed=1, progress=lambda *n: told.append(n))
    assert again.card == monitor.card and told[-1] == (64, 64) and len(told) == 64
    for one, other in zip(
        health_tensors(monitor.healths).values(), health_tensors(again.healths).values(), strict=True
    ):
        assert torch.equal(one, other)
    one, other = (played(monitor, f"place:noise@{ONSET}", 2) for _ in range(2))
    assert all(np.array_equal(a.action, b.action) for a, b in zip(sum(one, []), sum(other, []), strict=True))


def test_the_agent_does_without_some_sensors_while_it_is_calibrated():
    agent = Keeper()
    calibrate_env(agent, foreign_envs.dock, 64, TARGET, seed=1)
    shown = np.array([one["available"] for one in agent.seen]).reshape(-1, 25, 3)[-64:]
    whole = shown.all((1, 2))
    assert 0.1 < whole.mean() < 0.5 and shown.any(2).all() and (shown.sum(2) == 1).any()
    assert ((shown[~whole][:, 0] == 1).all(1)).mean() > 0.3  # from some step on
    assert all(one["wheel"].any() == one["available"][2] for one in agent.seen)


def test_sensors_of_unknown_magnitude_are_measured(monitor):
    scale = {sensor.key: sensor.scale for sensor in monitor.sensors}
    assert scale["eye"] == 255.0 and 4800 < scale["wheel"][0] < 5500 and 0.5 < scale["place"][0] < 1.2


def test_a_sensor_that_never_changes_may_stay_the_same_for_longer():
    class Still(gym.ObservationWrapper):
        def observation(self, observation):
            return observation | {"place": np.array([0.3, 0.0], np.float32)}

    monitor = calibrate_env(Keeper(), lambda: Still(foreign_envs.dock(12)), 64, TARGET, seed=1)
    foreign = make_foreign(Keeper(), lambda: Still(foreign_envs.dock(60)))
    broken = break_sensors(foreign, foreign.make_env(), Plan())
    shown = [
        taken.observation["available"][1] for taken in episode_steps(foreign, broken, 7, watch=monitor.stateful(1))
    ]
    assert len(shown) == 60 and all(shown)


@pytest.mark.parametrize(
    ("make", "episodes", "message"),
    [
        ("dock", 3, "episodes must be an integer"),
        ("dock", 8, r"8 episodes gave 192 .* takes 500: more episodes, or longer ones"),
        ("blink", 16, "gave 0 .* takes 500"),
        ("no_return", 16, "'wheel' is not finite in a healthy episode"),
        ("silent_eye", 16, "says itself that 'eye' is missing"),
        ("many", 16, "up to 6 sensors, got 7"),
    ],
)
def test_what_cannot_be_learned_from_is_said(make, episodes, message):
    with pytest.raises(ValueError, match=message):
        calibrate_env(Keeper(), getattr(foreign_envs, make), episodes, TARGET)


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """Two agents of Stable-Baselines3 that have hardly learned."""
    folder = tmp_path_factory.mktemp("agents")
    for seed in (0, 1):
        env, kwargs = DummyVecEnv([foreign_envs.dock]), {"features_extractor_class": FusionExtractor}
        kwargs["features_extractor_kwargs"] = {"token_dim": 8}
        PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs, seed=seed, device="cpu").save(
            folder / f"{seed}.zip"
        )
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Calibrates on few episodes."""
    monkeypatch.setattr("robofuse.monitor.foreign._STEPS", 600)
    monkeypatch.setattr("robofuse.monitor.foreign._FEWEST_EPISODES", 8)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_command_leaves_a_monitor_and_takes_it_again(agents, tmp_path, capsys):
    options, file = AgentOptions(f"{FILE}:dock", trust=True), str(agents / "0.zip")
    asked = Evaluate(file, 2, ("all",), (f"wheel:nan@{ONSET}?",), ONSET, "auto", agent=options, out=tmp_path / "a")
    assert run_evaluate(asked) == 0
    assert "calibrated a health monitor on 24 episodes" in capsys.readouterr().out
    record = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    healthy, broken = record["conditions"]
    assert record["monitor"]["weights"] == record["policy"]["weights"] and record["monitor"]["seed"] == 3_000_000
    assert healthy["watched"] == 50 and healthy["false_alarms"] <= 1 and healthy["detected"] is None
    assert broken["detected"] == 1.0 and broken["delay"] == 0
    path = tmp_path / "a" / MONITOR
    before = path.read_bytes()
    assert run_evaluate(asked) == 0  # as it is there, nothing is calibrated or played again
    assert "calibrated" not in capsys.readouterr().out and path.read_bytes() == before

    same, other = (load_foreign(str(agents / f"{seed}.zip"), options) for seed in (0, 1))
    assert find_monitor(str(path), file, same).card == record["monitor"]
    assert find_monitor("auto", file, same, [path.parent]).card == record["monitor"]
    assert find_monitor("auto", "1.zip", other, [path.parent]) is None
    with pytest.raises(ValueError, match="another policy; --monitor auto"):
        find_monitor(str(path), "1.zip", other)
    path.rename(agents / "0.monitor")  # beside the agent's file
    assert find_monitor("auto", file, same).card == record["monitor"]
    elsewhere = load_foreign(file, AgentOptions(f"{FILE}:no_return", trust=True))
    assert find_monitor("auto", file, elsewhere) is None


def test_a_function_is_watched_from_python(monitor, tmp_path):
    faults = (f"wheel:nan@{ONSET}?", f"eye:freeze@{ONSET}")
    conditions = {"conditions": ("all",), "faults": faults, "episodes": 2, "onset": ONSET}
    one = evaluate_agent(Keeper(), foreign_envs.dock, tmp_path / "a", monitor=monitor, **conditions)
    for row in list(one.conditions.values())[1:]:
        assert row.detected == 1.0 and row.delay <= 1 and row.watched == 50
    path = monitor.save(tmp_path / "m.safetensors")
    other = evaluate_agent(Keeper(), foreign_envs.dock, tmp_path / "b", monitor=path, **conditions)
    assert [row.episodes for row in one.conditions.values()] == [row.episodes for row in other.conditions.values()]
    assert one.record.monitor == other.record.monitor
    with pytest.raises(ValueError, match="watches eye, place, wheel; the policy has far, near, noise"):
        evaluate_agent(Keeper(), foreign_envs.line, tmp_path / "c", monitor=monitor, **conditions)
    strange = replace(monitor, card=monitor.card | {"weights": "0"})
    with pytest.raises(ValueError, match="another policy"):
        evaluate_agent(Keeper(), foreign_envs.dock, tmp_path / "d", monitor=strange, **conditions)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_function_is_calibrated_anew(tmp_path, capsys):
    calibrate_env(Keeper(), foreign_envs.dock, 24).save(tmp_path / MONITOR)
    found = evaluate_agent(Keeper(), foreign_envs.dock, tmp_path, conditions=("all",), episodes=1, monitor="auto")
    assert "calibrated a health monitor" in capsys.readouterr().out
    assert Monitor.load(tmp_path / MONITOR).card == found.record.monitor and found.record.monitor["seed"] == 3_000_000


def test_the_lights_of_a_film_show_what_the_monitor_distrusts(monitor):
    foreign = make_foreign(Keeper(), lambda: foreign_envs.dock(render_mode="rgb_array"))
    plan = Plan.parse(f"wheel:nan@{ONSET}?", foreign.policy.sensors)
    frames = list(foreign_frames(foreign, plan, 500, [0], monitor))
    assert [frame.on["wheel"] for frame in frames] == [frame.step < ONSET for frame in frames]
    assert frames[-1].off_since == {"wheel": ONSET} and not frames[-1].observation["wheel"].any()
    assert all(frame.on["eye"] and frame.on["place"] for frame in frames)
