"""Agents and environments of others under the same failures."""

from pathlib import Path

import foreign_envs
import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from toys import STRIDE

from robofuse.deploy import Policy as Deployed
from robofuse.errors import InputError
from robofuse.evaluate import AgentOptions, Evaluate, Report, evaluate_agent, read_evaluation, run_evaluate, run_report
from robofuse.export import export
from robofuse.policies import FusionExtractor
from robofuse.wrappers import SensorDropout, VecSensorDropout

FILE = Path(foreign_envs.__file__)


def expert(observation):
    """Home by `near`, else by `far`, else it stays; `available` is of far, near, noise."""
    far, near, _ = observation["available"]
    place = observation["near"][0] if near else np.arctan2(*observation["far"]) / 1.5 if far else 0.0
    return np.clip([-place / STRIDE], -1.0, 1.0).astype(np.float32)


def test_a_function_loses_what_its_sensors_told(tmp_path):
    found = evaluate_agent(expert, foreign_envs.line, tmp_path / "e", episodes=40, onset=3)
    rows = {name: row.success for name, row in found.conditions.items()}
    assert set(rows) == {row.condition for row in read_evaluation(tmp_path / "e").record.conditions} and len(rows) == 10
    for name in ("all", "no-near", "no-far", "no-noise", "only-far", "only-near", "no-near@3"):
        assert rows[name] == 1.0, name
    assert rows["only-noise"] < 0.3 and found.conditions["only-noise"].change[2] < -0.5
    # the same scenes in all conditions: what is not needed changes nothing at all
    one, other = (found.conditions[name].episodes for name in ("all", "no-noise"))
    assert [(e.steps, e.reward) for e in one] == [(e.steps, e.reward) for e in other]
    assert len({e.reward for e in one}) == 40
    assert run_report(Report((tmp_path / "e",), out=tmp_path / "r.html")) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Line" in page and "only-noise" in page and "with the ?" not in page


def test_every_fault_of_a_vector_reaches_it(tmp_path):
    seen = []

    def watch(observation):
        seen.append({key: np.array(x) for key, x in observation.items()})
        return np.zeros(1, np.float32)

    evaluate_agent(watch, foreign_envs.line, tmp_path, episodes=1, conditions=("all",), faults=("near:offset(1.0)@2",))
    healthy, broken = seen[:8], seen[8:]
    same = [np.array_equal(a["near"], b["near"]) for a, b in zip(healthy, broken, strict=True)]
    assert same == [True] * 2 + [False] * 6
    assert all(np.array_equal(a["far"], b["far"]) for a, b in zip(healthy, broken, strict=True))


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """Two agents of SB3, one with our extractor, and what the second normalised with."""
    folder = tmp_path_factory.mktemp("agents")
    env = VecSensorDropout(VecNormalize(DummyVecEnv([foreign_envs.line] * 4), norm_reward=False), 0.3, seed=0)
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dim": 8}}
    PPO("MultiInputPolicy", env, n_steps=32, batch_size=32, policy_kwargs=kwargs, seed=0, device="cpu").learn(128).save(
        folder / "ours.zip"
    )
    env.venv.save(str(folder / "norm.pkl"))
    plain = DummyVecEnv([foreign_envs.line] * 4)
    PPO("MultiInputPolicy", plain, n_steps=32, batch_size=32, seed=0, device="cpu").learn(128).save(
        folder / "plain.zip"
    )
    return folder


def test_agents_of_stable_baselines3_from_the_command_line(agents, tmp_path, capsys):
    options = AgentOptions(f"{FILE}:line", trust=True, normalize=agents / "norm.pkl")
    config = Evaluate(str(agents / "ours.zip"), 3, ("singles",), agent=options, out=tmp_path / "ours")
    assert "--agent" not in config.command and f"--env {FILE}:line --trust --normalize" in config.command
    assert run_evaluate(config) == 0
    capsys.readouterr()
    record = read_evaluation(tmp_path / "ours").record
    assert record.policy.keys == ("far", "near", "noise") and record.world["env"].endswith(":line")
    before = (tmp_path / "ours/episodes.csv").read_text()
    assert run_evaluate(config) == 0  # nothing is played again
    assert "episodes are already in" in capsys.readouterr().out
    assert (tmp_path / "ours/episodes.csv").read_text() == before
    options = AgentOptions(f"{FILE}:line", trust=True)
    both = Evaluate(str(agents / "plain.zip"), 3, ("singles",), agent=options, out=tmp_path / "both",
                    compare=(str(agents / "ours.zip"),))  # fmt: skip
    assert run_evaluate(both) == 0
    assert (tmp_path / "both/comparison.csv").exists()


def test_what_is_normalised_is_masked_afterwards(agents, tmp_path):
    given = []

    class Watch:
        observation_space = None

        def predict(self, observation, **_):
            given.append({key: np.array(x) for key, x in observation.items()})
            return np.zeros(1, np.float32), None

    statistics = VecNormalize.load(str(agents / "norm.pkl"), DummyVecEnv([foreign_envs.line]))
    evaluate_agent(Watch(), foreign_envs.line, tmp_path, episodes=1, conditions=("no-near",), normalise=statistics)
    assert all(not one["near"].any() and one["far"].any() for one in given)
    assert given[0]["available"].tolist() == [1, 0, 1]


def test_what_was_exported_acts_as_the_agent(agents, tmp_path):
    """In the same episodes, under the same failures, normalised inside the file; and nothing has to be trusted."""
    statistics = VecNormalize.load(str(agents / "norm.pkl"), DummyVecEnv([foreign_envs.line]))
    export(PPO.load(agents / "ours.zip"), agents / "ours.onnx", normalise=statistics, rate=20)
    played = []
    for file, options in (("ours.zip", {"trust": True, "normalize": agents / "norm.pkl"}), ("ours.onnx", {})):
        out = tmp_path / file
        config = Evaluate(str(agents / file), 4, ("singles",), agent=AgentOptions(f"{FILE}:line", **options), out=out)
        assert run_evaluate(config) == 0
        played.append({name: [(e.success, e.steps, round(e.reward, 3)) for e in row.episodes]
                       for name, row in read_evaluation(out).conditions.items()})  # fmt: skip
    assert played[0] == played[1] and len(played[0]) > 3


def test_an_exported_policy_may_read_less_and_ends_at_nan(tmp_path):
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dim": 8}}
    env = SensorDropout(gym.wrappers.FilterObservation(foreign_envs.room(), ["eye", "place"]), 0.3)
    agent = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, policy_kwargs=kwargs, device="cpu")
    policy = Deployed(export(agent, tmp_path / "part.onnx"))
    assert policy.keys == ("eye", "place") and policy.sensors[0].shape == (16, 20, 3)  # the environment has (3, 16, 20)
    found = evaluate_agent(
        policy, foreign_envs.room, tmp_path / "e", episodes=2, conditions=("all", "no-eye"), faults=("place:nan@3",)
    )
    steps = {name: [e.steps for e in row.episodes] for name, row in found.conditions.items()}
    assert steps["all"] == [8, 8] and steps["no-eye"] == [8, 8] and steps["place:nan@3"] == [3, 3]
    with pytest.raises(InputError, match="reads eye, place; the environment has far, near, noise"):
        evaluate_agent(policy, foreign_envs.line, tmp_path / "f", episodes=1)


def test_environments_that_ignore_the_seed_are_noticed(tmp_path, capsys):
    evaluate_agent(expert, foreign_envs.forgetful, tmp_path, episodes=2, conditions=("all",))
    assert "show different scenes" in " ".join(capsys.readouterr().out.split())
    assert "show different scenes" in read_evaluation(tmp_path).record.note


def test_success_by_return(tmp_path):
    found = evaluate_agent(expert, foreign_envs.silent, tmp_path, episodes=30, conditions=("all",), success_return=-1.0)
    episodes = found.conditions["all"].episodes
    assert [e.success for e in episodes] == [e.reward >= -1.0 for e in episodes]
    assert 0.0 < found.conditions["all"].success < 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ("silent", "neither is_success nor success; say from which sum of rewards"),
        ("box", "Dict"),
        ("endless", "has not ended after"),
    ],
)
def test_environments_that_cannot_be_judged(make, message, tmp_path, monkeypatch):
    monkeypatch.setattr("robofuse.evaluate.foreign._MOST_STEPS", 100)
    with pytest.raises(ValueError, match=message):
        evaluate_agent(expert, getattr(foreign_envs, make), tmp_path, episodes=1, conditions=("all",))


def test_what_does_not_fit_is_said(agents, tmp_path):
    def run(policy="plain.zip", env=f"{FILE}:line", **options):
        agent = AgentOptions(env, **({"trust": True} | options))
        run_evaluate(Evaluate(str(agents / policy), 1, ("all",), agent=agent, out=tmp_path / "x"))

    for options, message in (
        ({"trust": False}, "can run code hidden in it; give --trust"),
        ({"policy": "none.zip"}, "no such file"),
        ({"env": f"{FILE}:circle"}, "has no function circle"),
        ({"env": "Grasp-v99"}, "or give FILE.py:FUNCTION"),
        ({"env": f"{FILE}:box"}, "Dict"),
        ({"algo": "reinforce"}, "unknown algorithm 'reinforce'; algorithms: a2c"),
        ({"algo": "dqn"}, "cannot be loaded as dqn"),
        ({"normalize": agents / "plain.zip"}, "cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**options)
    evaluate_agent(expert, foreign_envs.line, tmp_path / "f", episodes=1, conditions=("all",))
    with pytest.raises(ValueError, match="whether it is of the same function"):
        evaluate_agent(expert, foreign_envs.line, tmp_path / "f", episodes=1, conditions=("all",))
