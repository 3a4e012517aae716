"""Fault plans in evaluations: they really reach the policy, on the same scenes, and what is noted of it."""

import csv
import importlib
import json

import numpy as np
import pytest
import torch
from helpers import same
from lab import KEYS, WORLD, Fake

from robofuse import cli, policies
from robofuse.envs import World
from robofuse.evaluate import Condition, Evaluate, Job, grid, rollout, run, run_evaluate, schedule
from robofuse.evaluate.conditions import missing
from robofuse.evaluate.results import ConditionResult, Episode, summarise
from robofuse.evaluate.screen import comparison_table, percent, points
from robofuse.faults import Injector, Mix, Plan, seen_faults
from robofuse.faults.mix import HELD_OUT, SEVERITIES, standard_plans
from robofuse.play import make_world


def world(num, **options):
    return World(num_envs=num, auto_reset=False, **(WORLD | {"seed": 5} | options))


def plan(text, place):
    return Plan.parse(text, place.sensors)


def condition(text, place):
    return Condition.from_plan(KEYS, plan(text, place))


class Recorder(Fake):
    """Remembers what it was given by episode and step."""

    def act(self, observation):
        action = super().act(observation)
        self.seen = getattr(self, "seen", {})
        for env_id, (episode, step) in enumerate(
            zip(self.place.episode.tolist(), self.place.elapsed.tolist(), strict=True)
        ):
            self.seen.setdefault((episode, step), []).append({key: x[env_id].clone() for key, x in observation.items()})
        return action


# what arrives

TEXTS = ("force:bias(0.5)@2", "proprio:noise+force:drift@1", "proprio:latency(0.4)@3", "force:intermittent(0.5)", "")


def test_worlds_under_different_plans_get_what_a_world_under_each_plan_gets():
    """To the bit, in worlds of their own and side by side, announced or not."""
    together = world(len(TEXTS))
    alone = []
    for text in TEXTS:
        one = world(1, faults=text)
        alone.append((one, one.reset(episode=len(alone))))
    together.reset()
    plans = [plan(text, together) for text in TEXTS]
    observation = together.restart(range(len(TEXTS)), range(len(TEXTS)), plans)
    action = 0.3 * torch.randn(len(TEXTS), 5, generator=torch.Generator().manual_seed(1))
    for _ in range(8):
        for env_id, (one, expected) in enumerate(alone):
            assert same({key: value[env_id : env_id + 1] for key, value in observation.items()}, expected)
            assert together.affected[env_id].tolist() == one.affected[0].tolist()
        observation = together.step(action).observation
        alone = [(one, one.step(action[env_id : env_id + 1]).observation) for env_id, (one, _) in enumerate(alone)]
    with pytest.raises(ValueError, match="got 1 and 2"):
        together.restart([0, 1], [0, 1], plans[:1])


def injectors(place, faults=None):
    return Injector(faults or Plan(), place.sensors, place.num_envs, place.seed, 0.05)


def test_what_was_observed_is_not_changed():
    place = world(2)
    faults, observation = injectors(place), place.reset()
    before = {key: value.clone() for key, value in observation.items()}
    faults.start(torch.arange(2), place.episode, [plan("force:bias", place), plan("proprio:blackout", place)])
    faults.apply(observation)
    assert same(before, observation)
    assert faults.affected.tolist() == [[True, False], [False, True]]


def test_a_world_that_goes_on_without_a_plan_is_healthy_again():
    place = world(2)
    faults, observation = injectors(place, plan("force:bias", place)), place.reset()
    faults.start(torch.arange(2), place.episode)
    faults.start(torch.tensor([0]), place.episode[:1], [Plan()])
    readings, _ = faults.apply(observation)
    assert torch.equal(readings["force"][0], observation["force"][0])
    assert not torch.equal(readings["force"][1], observation["force"][1])
    faults.start(torch.arange(2), place.episode, [Plan(), Plan()])
    assert faults.idle and faults.apply(observation)[0]["force"] is observation["force"]


# a mix


def test_a_mix_is_drawn_by_seed_and_episode_and_reaches_the_observation():
    place = world(6)
    mix = Mix(tuple(standard_plans(place.sensors, until=0)), share=0.5)
    assert not {s.fault.name for p in mix.plans for s in p} & (HELD_OUT | {"nan", "inf", "stale", "intermittent"})
    assert all(not s.is_announced for p in mix.plans for s in p)
    drawn = mix.draw(7, torch.arange(2000))
    assert drawn[500:600] == mix.draw(7, torch.arange(500, 600)) != mix.draw(8, torch.arange(500, 600))
    assert 900 < sum(len(p) > 0 for p in drawn) < 1100
    assert {p for p in drawn if len(p)} == set(mix.plans)
    assert {s.fault.severity for p in drawn for s in p} == set(SEVERITIES)
    healthy = place.reset()
    broken_ = world(6, faults=mix).reset()
    for env_id, drew in enumerate(mix.draw(5, torch.arange(6))):
        affected = {s.sensor for s in drew if s.fault.name not in ("freeze", "latency", "jitter", "stuck")}
        changed = {key for key in KEYS if not torch.equal(healthy[key][env_id], broken_[key][env_id])}
        assert changed == affected  # those left out have nothing to hold yet
    read = Mix.parse(["standard", "force:bias@3"], 0.5, place.sensors)
    assert len(read.plans) == len(mix.plans) + 1 and str(read.plans[-1]) == "force:bias@3"
    with pytest.raises(ValueError, match="at least one"):
        Mix(())
    with pytest.raises(ValueError, match="share of the episodes"):
        Mix((Plan(),), share=2.0)


def test_the_policy_reads_the_broken_sensor_and_the_scene_stays():
    place = world(3)
    fake = Recorder(place)
    bias = condition("force:bias(0.5)@2", place)
    rollout(fake, place, schedule([missing(KEYS, []), bias], [4]))
    (healthy, faulty), (healthy_late, faulty_late) = fake.seen[4, 1], fake.seen[4, 2]
    assert same(healthy, faulty) and faulty_late["available"].tolist() == [1, 1]
    assert torch.equal(healthy_late["proprio"], faulty_late["proprio"])
    # severity 0.5 of 5 N and 0.5 N·m, or what its docstring says: the same for all rows, and not nothing
    change = (faulty_late["force"] - healthy_late["force"]).abs()
    assert change.min() > 0.0 and torch.allclose(change, change[:1].expand_as(change), atol=1e-5)


# the command line


def test_the_command_line_shows_the_place(fake, capsys):
    assert cli.main(["evaluate", "fake", "--faults", "force:bias+force:wobble"]) == 2
    last = capsys.readouterr().err.splitlines()
    assert last[-2:] == ["  force:bias+force:wobble", " " * 19 + "^"] and last[-3].startswith("error: unknown fault")


# failures of the policy


class Swallows(Fake):
    """Its action is what it reads."""

    def act(self, observation):
        return super().act(observation) + 0.0 * observation["force"].reshape(len(observation["force"]), -1)[:, :5]


def test_an_action_that_is_not_finite_ends_the_episode_as_a_failure():
    place = world(2)
    jobs = schedule([condition("force:nan@3", place), missing(KEYS, [])], range(3))
    results = rollout(Swallows(place), place, jobs)
    failed, fine = results[:3], results[3:]
    assert all(r.steps == 3 and not r.success and "not finite" in r.error for r in failed)
    assert all(r.success and not r.error for r in fine)


def test_an_action_that_is_not_finite_without_a_cause_is_a_mistake():
    class Broken(Fake):
        def act(self, observation):
            return super().act(observation) * float("nan")

    place = world(1)
    with pytest.raises(ValueError, match="not finite in episode 0 under all"):
        rollout(Broken(place), place, [Job(missing(KEYS, []), 0)])


# what is noted


class Accelerating:
    """Actions 0, 0.1, 0.4, 0.9 along x, and 0.5 along y at the last of them."""

    table = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.4, 0.0], [0.9, 0.5]])

    def __init__(self, world):
        self.world = world

    def act(self, observation):
        action = torch.zeros(self.world.num_envs, 5)
        action[:, :2] = self.table[self.world.elapsed.clamp(max=3)]
        return action


def test_jerk_is_the_second_difference_of_actions_at_the_onset():
    place = world(2)
    jobs = [Job(condition("force:bias@2", place), 0), Job(missing(KEYS, []), 0)]
    first, second = rollout(Accelerating(place), place, jobs, reference=3)
    assert first.jerk == pytest.approx(0.2)  # 0.4 − 2·0.1 + 0
    assert second.jerk == pytest.approx((0.2**2 + 0.5**2) ** 0.5)  # (0.9 − 0.8 + 0.1, 0.5)


class Suspicious:
    """A monitor that stops trusting force at one step, and trusts it again at another."""

    card = {}

    def __init__(self, off, on=1000):
        self.off, self.on = off, on

    def stateful(self, num):
        self.step_of = torch.zeros(num, dtype=torch.int64)
        return self

    def start(self, rows):
        self.step_of[rows] = 0

    def step(self, observation, rows):
        step = self.step_of[rows]
        self.step_of[rows] += 1
        trusted = torch.ones(len(rows), 2, dtype=torch.int8)
        trusted[:, 0] = (~((step >= self.off) & (step < self.on))).to(torch.int8)
        return trusted


def test_a_monitor_hides_what_it_does_not_trust_and_is_judged():
    place = world(3)
    fake = Recorder(place)
    conditions = [missing(KEYS, []), condition("force:bias@2", place), missing(KEYS, ["force"])]
    full, bias, gone = rollout(fake, place, schedule(conditions, [0]), monitor=Suspicious(3, 5))
    assert (full.detected, full.alarms) == (None, 1) and full.watched == full.steps
    assert (bias.detected, bias.alarms) == (1, 0)
    assert (gone.detected, gone.alarms) == (None, 0)  # what is known to be gone needs no monitor
    live = {step: [seen["available"].tolist() for seen in fake.seen[0, step]][0] for step in range(2, 6)}
    assert live == {2: [1, 1], 3: [0, 1], 4: [0, 1], 5: [1, 1]}
    assert all(not seen["force"].any() for seen in fake.seen[0, 3])


def test_results_under_faults_do_not_depend_on_how_many_are_played_at_a_time():
    conditions = [condition(text, world(1)) for text in TEXTS if text]
    several = [
        rollout(Fake(place), place, schedule(conditions, range(5)), monitor=Suspicious(9))
        for place in (world(1), world(7), world(32))
    ]
    assert several[0] == several[1] == several[2]


# the command


@pytest.fixture
def fake(monkeypatch):
    made = {"fake": Fake(), "other": Fake()}
    importlib.import_module("robofuse.export")  # it would keep the replaced `load` if it were first imported below
    monkeypatch.setitem(vars(policies), "load", lambda name, device="auto": made[name])

    def make(trained, *arguments, **options):
        place = make_world(trained, *arguments, **options)
        for policy in made.values():
            policy.place = place
        return place

    monkeypatch.setattr(run, "make_world", make)
    return made


def test_evaluate_faults(fake, tmp_path, capsys):
    faults = ("grid", "force:bias+proprio:noise@4")
    asked = Evaluate("fake", episodes=2, num_envs=8, conditions=("all",), faults=faults, onset=3, out=tmp_path)
    assert run_evaluate(asked) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    place = world(1)
    assert [row["condition"] for row in found["conditions"]] == [
        *("all", *(c.name for c in grid(place.sensors, 3)), "force:bias+proprio:noise@4")
    ]
    by_name = {row["condition"]: row for row in found["conditions"]}
    drift = by_name["force:drift(0.25)@3"]
    assert (drift["group"], drift["sensor"], drift["fault"], drift["severity"]) == ("fault", "force", "drift", 0.25)
    assert drift["onset"] == 3 and drift["announced"] is False and drift["jerk"] is not None
    assert by_name["force:bias+proprio:noise@4"]["sensor"] is None
    with (tmp_path / "conditions.csv").open() as lines:
        assert next(row for row in csv.DictReader(lines) if row["fault"] == "drift")["severity"] == "0.25"
    shown = capsys.readouterr().out
    assert "force:drift@3" in shown and "at 0.25" in shown and "found" not in shown


def test_compare_plays_the_same_for_each(fake, tmp_path, capsys):
    asked = Evaluate("fake", episodes=2, num_envs=4, conditions=("all", "no-proprio"), compare=("other",), out=tmp_path)
    assert run_evaluate(asked) == 0
    assert (tmp_path / "fake" / "episodes.csv").read_text() == (tmp_path / "other" / "episodes.csv").read_text()
    with (tmp_path / "comparison.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["condition"], row["policy"]) for row in rows] == [
        *(("all", "fake"), ("all", "other"), ("no-proprio", "fake"), ("no-proprio", "other"))
    ]
    assert rows[1]["difference"] == "0.0" and "fake 0.0 (" in capsys.readouterr().out


def test_policies_of_one_name_are_refused(fake, tmp_path):
    with pytest.raises(ValueError, match="two policies are called fake"):
        run_evaluate(Evaluate("fake", compare=("fake",), out=tmp_path))


def test_many_conditions_are_compared_by_group():
    names = ["all", *(f"force:bias({i / 100})" for i in range(1, 61))]
    rng = np.random.default_rng(0)
    results = {p: {n: list(rng.random(20) < rate) for n in names} for p, rate in (("good", 0.9), ("bad", 0.3))}
    rows = [ConditionResult(condition=name, group="all" if name == "all" else "fault", live=("rgb",)) for name in names]
    table, text = comparison_table(
        {
            policy: {
                row.condition: row
                for row in summarise(
                    rows, [Episode(name, k, bool(w), 9, 0.0) for name, won in some.items() for k, w in enumerate(won)]
                )
            }
            for policy, some in results.items()
        }
    )
    lines = [list(map(str, column.cells)) for column in table.columns]
    assert lines[0] == ["all (1)", "fault (60)"]
    share = np.mean([results["bad"][n] for n in names[1:]])
    assert lines[2][1].startswith(f"{percent(share)} (")
    gain = np.mean([results["good"][n] for n in names[1:]]) - share
    assert f"good {points(gain)} (" in lines[2][1]
    good, bad = (np.array([results[p][n] for n in names[1:]], float) for p in ("good", "bad"))
    better = np.mean([(g[:, None] > b).mean() + 0.5 * (g[:, None] == b).mean() for g, b in zip(good, bad, strict=True)])
    assert f"better with probability {better:.2f}" in lines[2][1]
    assert len(text.splitlines()) == 1 + 2 * len(names)


def test_a_policy_says_which_faults_it_has_seen():
    sensors = world(1).sensors
    assert seen_faults(Mix.parse(["force:bias+proprio:noise", "force:bias(0.3)@4"], 1.0, sensors)) == [
        *("force:bias", "proprio:noise")
    ]
    assert seen_faults(None) == seen_faults(Plan()) == []
    standard = seen_faults(Mix.parse(["standard"], 0.5, sensors))
    standard = [fault for fault in standard if fault != "proprio:swap"]  # another test's own fault
    assert "force:bias" in standard and "force:drift" not in standard and "proprio:nan" not in standard
    shipped = policies.load("grasp", device="cpu").card["seen_faults"]
    assert {"force:bias", "rgb:freeze"} < set(standard) | set(shipped) and set(standard) < set(shipped)
    assert policies.load("grasp-dropout", device="cpu").card["seen_faults"] == []
