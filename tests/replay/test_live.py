"""`robofuse replay --live`: a session without a browser, and what the page says."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from replaying import Witness, small_world

from robofuse.envs import World
from robofuse.evaluate.agents import AgentOptions
from robofuse.faults import Plan
from robofuse.play import Setup
from robofuse.replay import live as lives
from robofuse.replay import run
from robofuse.replay.live import Live, Switch, fitting_faults
from robofuse.replay.page import Page, light_of
from robofuse.replay.run import Replay, run_replay

KEYS = ("depth", "force", "proprio", "rgb")


@pytest.fixture(scope="module")
def world():
    world = small_world()
    yield world
    world.close()


@pytest.fixture(autouse=True)
def _every_moment(monkeypatch):
    monkeypatch.setattr(lives, "_SHOWN", 0.0)


class Idle(Witness):
    """Does nothing, so that an episode takes all of its time."""

    def act(self, observation):
        self.seen.append(observation)
        return torch.zeros(1, 5)


def played(world, script: dict[int, Callable], steps=12, actor=Idle, **options):
    """The moments of a session, as fast as it goes: `script` says what a viewer does when he sees moment number k."""
    moments = []

    def show(moment):
        moments.append(moment)
        script.get(len(moments) - 1, lambda live: None)(live)
        if len(moments) == steps:
            live.stop()

    actor = actor(world)
    live = Live(actor, world, show, **options)
    live.set_speed(inf)
    live.run()
    return live, moments, actor.seen


def test_a_switch_acts_in_the_next_observation_and_the_policy_reads_what_is_shown(world):
    off = lambda live: live.set("rgb", Switch(off=True))  # noqa: E731
    live, moments, seen = played(world, {3: off, 7: lambda live: live.set("rgb", Switch())})
    assert [moment.frame.step for moment in moments] == list(range(12))
    assert [moment.frame.on["rgb"] for moment in moments] == [not 4 <= step < 8 for step in range(12)]
    assert all(moment.frame.on[key] for moment in moments for key in ("depth", "force", "proprio"))
    assert [moment.frame.off_since.get("rgb") for moment in moments[3:9]] == [None, 4, 4, 4, 4, None]
    for moment, observation in zip(moments, seen, strict=True):
        assert all(np.array_equal(moment.frame.observation[key], observation[key][0].numpy()) for key in KEYS)
    assert str(moments[4].plan) == "rgb:blackout@4" and str(moments[9].plan) == "" and live.steps == 12


@pytest.mark.parametrize("key", KEYS)
def test_every_fault_that_fits_acts_through_the_injectors(world, key):
    names = fitting_faults(next(sensor for sensor in world.sensors if sensor.key == key))
    assert {"freeze", "latency", "blackout", "noise" if key != "force" else "spikes"} <= set(names)
    assert "stale" not in names
    chosen = {
        2 * k: lambda live, name=name: live.set(key, Switch(fault=name, severity=1.0)) for k, name in enumerate(names)
    }
    _, moments, _ = played(world, chosen, 2 * len(names) + 1)
    for k, name in enumerate(names):
        moment = moments[2 * k + 1]
        assert str(moment.plan).startswith(f"{key}:{name}@{moment.frame.step}"), name
        if name != "intermittent":
            assert moment.affected == {other: other == key for other in KEYS}, name
            assert moment.frame.on[key], name  # nobody told the policy


def test_a_fault_goes_on_while_its_slider_moves_and_begins_again_when_chosen_again(world):
    def choose(fault, severity, off=False):
        return lambda live: live.set("proprio", Switch(off, fault, severity))

    script = {2: choose("latency", 0.4), 5: choose("latency", 0.2), 8: choose("latency", 0.2, True)}
    _, moments, _ = played(world, script | {9: choose("latency", 0.2)}, 13)
    plans = [str(moment.plan) for moment in moments]
    assert plans[3] == "proprio:latency(0.4)@3" and plans[6] == "proprio:latency(0.2)@3"
    assert plans[9] == "proprio:blackout@9" and plans[10] == "proprio:latency(0.2)@10"


def test_switches_outlast_an_episode_and_episodes_are_counted(world):
    live, moments, _ = played(world, {2: lambda live: live.set("depth", Switch(off=True))}, 60, Witness)
    ends = [moment for moment in moments if moment.frame.outcome]
    assert len(ends) >= 2 and [moment.finished for moment in ends] == list(range(1, len(ends) + 1))
    assert all(moment.frame.success for moment in ends) and live.succeeded == live.finished == len(ends)
    assert [moment.frame.episode for moment in ends] == list(range(len(ends)))
    later = [moment for moment in moments if moment.frame.episode > 0]
    assert later[0].frame.step == 0 and not any(moment.frame.on["depth"] for moment in later)
    assert moments[-1].frame.total == pytest.approx(sum(moments[-1].frame.terms.values()), abs=1e3)


def test_a_new_scene_begins_at_once_and_does_not_count(world):
    live, moments, _ = played(world, {4: Live.new_scene}, 9, first=20)
    assert [(m.frame.episode, m.frame.step) for m in moments] == [(20, k) for k in range(5)] + [
        (21, k) for k in range(4)
    ]
    assert live.finished == 0 and moments[5].frame.total == 0.0
    straight = world.reset(episode=21)
    assert torch.equal(straight["rgb"][0], torch.from_numpy(moments[5].frame.observation["rgb"]))


def test_a_sensor_that_is_off_from_the_start_has_its_switch_off(world):
    plan = Plan.parse("rgb,depth:blackout", world.sensors)
    live, moments, _ = played(world, {2: lambda live: live.set("rgb", Switch())}, 5, planned=plan)
    assert [m.frame.on["rgb"] for m in moments] == [False, False, False, True, True]
    assert live.switch("depth") == Switch(off=True) and not any(m.frame.on["depth"] for m in moments)
    assert live.planned == set()


def test_what_was_planned_holds_until_a_switch_is_touched_and_again_after(world):
    plan = Plan.parse("rgb:blackout@2+depth:noise", world.sensors)
    mended = lambda live: live.set("rgb", Switch())  # noqa: E731
    _, moments, _ = played(world, {4: mended, 6: lambda live: live.set("rgb", None)}, 9, planned=plan)
    assert [m.frame.on["rgb"] for m in moments] == [True, True, False, False, False, True, True, False, False]
    assert all(moment.affected["depth"] for moment in moments)


def test_a_pause_holds_and_a_stop_ends_it(world):
    moments, shown = [], threading.Event()

    def show(moment):
        moments.append(moment)
        if len(moments) == 3:
            live.pause(True)
            shown.set()

    live = Live(Idle(world), world, show)
    live.set_speed(inf)
    thread = threading.Thread(target=live.run)
    thread.start()
    assert shown.wait(10.0)
    time.sleep(0.15)
    assert len(moments) == 3
    live.set("force", Switch(off=True))  # is thrown when it goes on
    live.pause(False)
    deadline = time.monotonic() + 10.0
    while len(moments) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    live.pause(True)
    live.stop()
    thread.join(10.0)
    assert not thread.is_alive() and [m.frame.on["force"] for m in moments[2:5]] == [True, False, False]


@pytest.mark.parametrize(("speed", "steps"), [(1.0, 8), (0.5, 4)])
def test_real_time_is_real_and_half_is_half(world, speed, steps):
    times = []

    def show(moment):
        times.append(time.monotonic())
        if len(times) > steps:
            live.stop()

    live = Live(Idle(world), world, show)
    live.set_speed(speed)
    live.run()
    assert 0.35 < times[steps] - times[0] < 1.0  # 8 steps of 50 ms, on a busy machine too


def test_a_switch_does_not_wait_for_the_step_that_is_due(world):
    times, thrown = [], threading.Timer(0.1, lambda: live.set("rgb", Switch(off=True)))

    def show(moment):
        times.append((time.monotonic(), moment.frame.on["rgb"]))
        if len(times) == 1:
            thrown.start()
        if len(times) == 3:
            live.stop()

    live = Live(Idle(world), world, show)
    live.set_speed(0.1)  # a step in half a second
    live.run()
    (began, on), (acted, off), (later, _) = times
    assert on and not off and 0.09 < acted - began < 0.4
    assert 0.9 < later - began < 1.4  # and time goes on as it did


class Doubtful:
    """A monitor that does not trust depth from its third look on."""

    card, limit = {}, 1.0

    def stateful(self, num_envs):
        self.looks = 0
        self.trusted, self.broken = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
        self.level = torch.zeros(1, 4, 5)
        return self

    def start(self, rows): ...

    def step(self, observation, rows):
        self.looks += 1
        self.trusted[0, 0] = self.looks < 3
        self.level[0, 0, 2] = 2.0 * (self.looks >= 3)
        return self.trusted.to(torch.int8)


def test_the_monitors_opinion_is_told_and_what_it_masks_is_off(world):
    _, moments, seen = played(world, {}, 5, monitor=Doubtful())
    assert [m.frame.on["depth"] for m in moments] == [True, True, False, False, False]
    assert not seen[2]["depth"].any() and seen[1]["depth"].any()
    assert moments[1].opinions["depth"] == (True, ()) and moments[3].opinions["depth"] == (False, ("statistics",))
    assert moments[3].opinions["rgb"] == (True, ())
    told = light_of("depth", moments[3])
    assert "light-depth-off" in told and "off since 0.10 s" in told and "monitor: not trusted (statistics)" in told
    assert "light-rgb-good" in light_of("rgb", moments[3]) and "monitor: trusted" in light_of("rgb", moments[3])


def test_lights_tell_what_the_policy_does_not_know(world):
    _, moments, _ = played(world, {1: lambda live: live.set("rgb", Switch(fault="noise"))}, 4)
    assert "light-rgb-good" in light_of("rgb", moments[1])
    assert "light-rgb-broken" in light_of("rgb", moments[2]) and "broken: noise" in light_of("rgb", moments[2])


@pytest.mark.parametrize(
    ("key", "switch", "message"),
    [
        ("lidar", Switch(), "unknown sensor 'lidar'; sensors: depth, force"),
        ("rgb", Switch(fault="holes"), "unknown fault 'holes' for a sensor of kind rgb"),
        ("rgb", Switch(fault="noise", severity=2.0), r"severity of noise must lie in \[0, 1\], got 2"),
    ],
)
def test_what_cannot_be_switched_is_refused(world, key, switch, message):
    with pytest.raises(ValueError, match=message):
        Live(Idle(world), world, print).set(key, switch)


def test_an_action_that_is_not_finite_ends_the_episode_and_no_more(world):
    class Poisoned(Idle):
        def act(self, observation):
            super().act(observation)
            return torch.full((1, 5), torch.nan if len(self.seen) == 3 else 0.0)

    live, moments, _ = played(world, {}, 6, Poisoned)
    assert [m.frame.episode for m in moments] == [0, 0, 0, 0, 1, 1] and "not finite" in moments[3].frame.outcome
    assert (live.finished, live.succeeded) == (1, 0)


def test_several_worlds_are_refused():
    world = World("Reach", 2, robot="gripper", image_size=8, auto_reset=False)
    with pytest.raises(ValueError, match="a live replay is of one world, got a World of 2"):
        Live(Idle(world), world, print)
    world.close()


# the page


def test_the_page_follows_and_its_switches_break_sensors(world):
    with Page("127.0.0.1", 0, "a <test>") as page:
        moments = []

        def show(moment):
            page.show(moment)
            moments.append(moment)
            if len(moments) == 3:
                page.kill["rgb"].value = True  # what a click does, too: viser calls back
            elif len(moments) == 5:
                page.kill["rgb"].value, page.fault["depth"].value = False, "freeze"
            elif len(moments) == 8:
                live.stop()

        live = Live(Idle(world), world, show, planned=Plan.parse("force:drift+proprio:blackout", world.sensors))
        page.open(live)
        live.set_speed(inf)
        live.run()
        assert [moment.frame.on["rgb"] for moment in moments] == [True] * 3 + [False] * 2 + [True] * 3
        assert [moment.affected["depth"] for moment in moments] == [False] * 5 + [True] * 3
        assert all(moment.affected["force"] and not moment.frame.on["proprio"] for moment in moments)
        assert page.fault["force"].value == "as planned" and page.fault["rgb"].value == "none"
        assert page.kill["proprio"].value and page.fault["proprio"].value == "none" and not page.kill["force"].value
        assert page.severity["depth"].disabled and not page.severity["rgb"].disabled  # a frozen camera has no severity
        told = page._status.content
        assert "a &lt;test&gt;" in told and "0 of 0" in told and "7 of at most" in told


def test_ctrl_c_ends_it_with_what_was_seen(world, monkeypatch, capsys):

    class Impatient(Idle):
        def act(self, observation):
            if len(self.seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().act(observation)

    monkeypatch.setattr(world, "close", lambda: None)
    monkeypatch.setattr(run, "open_setup", lambda *_, **options: Setup(world, Impatient(world), "x"))
    handler = signal.getsignal(signal.SIGINT)
    assert run_replay(Replay("expert", live=True, port=0)) == []
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("http://127.0.0.1:") and first.endswith("shows x: Reach with the gripper; Ctrl-C ends it")
    assert last == "0 of 0 episodes succeeded, 3 control steps were played"
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_port_in_use_and_a_missing_package_are_sentences(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen at 127.0.0.1, port {port}: .*--port takes another"):
            run_replay(Replay("expert", task="Reach", robot="gripper", image_size=8, live=True, port=port))
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(RuntimeError, match=r"pip install 'robofuse\[live\]'"):
        Page("127.0.0.1", 0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("film.mp4")}, "--out is for films"),
        ({"rerun": Path("film.rrd")}, "--rerun is for films"),
        ({"show": "yes"}, "--show yes is for films"),
        ({"agent": AgentOptions(env="x")}, "--env is for films"),
        ({"port": 70000}, "port must be an integer from 0 to 65535, got 70000"),
        ({"disable": "sonar"}, "'sonar'"),
    ],
)
def test_options_that_do_not_go_with_a_page_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run_replay(Replay("expert", task="Reach", robot="gripper", image_size=8, live=True, **options))
