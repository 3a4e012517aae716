"""The suite: which conditions, who takes part, and what is made of what was played."""

import shutil

import pytest

from robofuse import load
from robofuse.errors import InputError
from robofuse.evaluate import suite
from robofuse.evaluate.conditions import parse, subsets
from robofuse.evaluate.results import ConditionResult, Episode, summarise
from robofuse.evaluate.suite import GROUPS, SENSORS, Entry, Suite, conditions_of, over_all, page, run_suite, score
from robofuse.faults.mix import HELD_OUT
from robofuse.policies.saving import locate


@pytest.fixture(scope="module")
def policy():
    return load("grasp-remask")


def test_the_official_conditions(policy):
    quick, full = (conditions_of(policy.sensors, tier) for tier in ("quick", "full"))
    assert set(quick) < set(full) and {group for group, _ in full.values()} == set(GROUPS)
    assert [name for name, (group, _) in quick.items() if group == "subsets"] == [x.name for x in subsets(SENSORS)]
    for name, (group, _) in full.items():
        if group in ("standard", "held out"):
            assert (name.partition(":")[2].partition("@")[0].partition("(")[0] in HELD_OUT) == (group == "held out")
    told = [name for name, (group, _) in quick.items() if group == "outages"]
    assert len(told) == 8 and sum(name.endswith("?") for name in told) == 4  # announced is usual for a blackout


def played(rates, keys=SENSORS, peak=30.0):
    """Results of 20 scenes under conditions, name → share."""
    conditions = parse([*rates], keys, 10)
    episodes = [
        Episode(one.name, k, k < round(20 * rates[one.name]), 30, 1.0, peak_force=peak)
        for one in conditions
        for k in range(20)
    ]
    return {one.condition: one for one in summarise([ConditionResult.blank(one) for one in conditions], episodes)}


def rates(single=0.8, pair=0.5):
    found = {"all": 1.0}
    for one in subsets(SENSORS)[1:]:
        gone = 4 - len(one.live)
        found[one.name] = {1: single, 2: pair}.get(gone, 0.1)
    return found | {"no-rgb": single - 0.1, "no-depth+rgb": pair - 0.2}


def test_scores_are_what_was_played():
    """Two seeds, a specialist and a baseline; other tasks do not count."""
    groups = {one.name: "subsets" for one in subsets(SENSORS)}
    results = {
        Entry("a", "policies", "Grasp", "arm", SENSORS, "1"): played(rates()),
        Entry("b", "policies", "Grasp", "arm", SENSORS, "2"): played(rates(single=1.0), peak=50.0),
        Entry("c", "policies", "Sort", "arm", SENSORS, "3"): played(rates(pair=0.2)),
        Entry("d", "specialists", "Grasp", "arm", ("depth", "force", "proprio"), "4"): played(
            {"all": 0.9}, ("depth", "force", "proprio")
        ),
        Entry("e", "baseline", "Grasp", "arm", SENSORS, "5"): played(rates(single=0.3)),
    }
    found = score("Grasp", results, groups)
    assert found["seeds"] == 2 and found["clean"]["success"] == 1.0 and found["clean"]["n"] == 40
    assert found["clean"]["peak_force"] == 40.0
    worst = found["worst_single"]
    assert worst["condition"] == "no-rgb" and worst["success"] == pytest.approx(0.8)
    assert worst["by_seed"] == pytest.approx([0.7, 0.9]) and worst["retention"] == pytest.approx(0.8)
    assert worst["share_of_specialist"] == pytest.approx(0.8 / 0.9) and worst["baseline"] == pytest.approx(0.2)
    assert found["worst_pair"]["condition"] == "no-depth+rgb"
    assert found["least_share_of_specialist"] == {"single": pytest.approx(0.8 / 0.9), "pair": None}
    assert score("Feel", results, groups) == {}
    scores = {task: score(task, results, groups) for task in ("Grasp", "Sort", "Feel")}
    means = over_all(scores)
    assert means["clean"] == 1.0 and means["worst_pair"] == pytest.approx((0.3 + 0.0) / 2)
    record = {
        **{"tier": "quick", "episodes": 20, "seed": 1, "missing_tasks": ["Feel"], "groups": GROUPS, "version": "0"},
        **{"machine": {}, "tasks": {task: one for task, one in scores.items() if one}},
        "policies": [entry._asdict() for entry in results],
    }
    html = page(record)
    assert "no-depth+rgb" in html and "without one: Feel" in html and "http" not in html
    rows = suite.summary_table(scores)
    assert [str(column.header) for column in rows.columns] == ["", "Grasp (2 seeds)", "Sort (1 seed)", "Feel", "mean"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policies": ()}, "name at least one policy"),
        ({"policies": ("grasp",), "tasks": ("Juggle",)}, "the suite has the tasks Grasp, PegInsert"),
        ({"policies": ("grasp",), "tasks": ("Sort",)}, "grasp is a policy of Grasp; this suite has the tasks Sort"),
        ({"policies": ("grasp", "grasp")}, "grasp has the same weights as grasp"),
        ({"policies": ("grasp",), "specialists": ("grasp-remask",)}, "has all sensors, and --specialists are"),
        ({"policies": ("nobody",)}, "no policy 'nobody'"),
    ],
)
def test_what_does_not_take_part_is_named(options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        run_suite(Suite(**options, out=tmp_path / "suite"))
    assert not (tmp_path / "suite" / "suite.json").exists()


def test_robots_of_one_task_are_not_mixed(tmp_path, monkeypatch):
    real, names = suite.load_trained, []

    def load_with_other_robots(name, **options):
        names.append(name)
        trained = real(name, **options)
        return trained._replace(options=trained.options | {"robot": f"robot-{len(names)}"})

    monkeypatch.setattr(suite, "load_trained", load_with_other_robots)
    with pytest.raises(InputError, match="grasp-remask has the robot robot-2, and grasp, of the same task, robot-1"):
        run_suite(Suite(("grasp", "grasp-remask"), out=tmp_path))


def test_worlds_of_their_own_are_refused(tmp_path, monkeypatch):
    real = suite.load_trained

    def without_noise(name, **options):
        trained = real(name, **options)
        return trained._replace(options=trained.options | {"noise": False})

    monkeypatch.setattr(suite, "load_trained", without_noise)
    with pytest.raises(InputError, match="grasp was trained with noise of its own"):
        run_suite(Suite(("grasp",), out=tmp_path))


@pytest.mark.slow
def test_a_suite_goes_on_and_says_the_same(tmp_path, monkeypatch, policy):
    """Played in one go, interrupted at first, and on Ray: the same file."""
    few = {name: text for name, text in conditions_of(policy.sensors, "quick").items() if name in ("all", "no-rgb")}
    few |= {one.name: ("subsets", one.name) for one in subsets(SENSORS)}
    monkeypatch.setattr(suite, "conditions_of", lambda sensors, tier: few)
    monkeypatch.setitem(suite.EPISODES, "quick", 2)
    assert run_suite(Suite(("grasp-remask",), out=tmp_path / "one")) == 0
    stopped = []

    def stop(config):
        stopped.append(config)
        return 130

    with monkeypatch.context() as patch:
        patch.setattr(suite, "run_evaluate", stop)
        assert run_suite(Suite(("grasp-remask",), out=tmp_path / "two")) == 130
    assert stopped and not (tmp_path / "two" / "suite.json").exists()
    assert run_suite(Suite(("grasp-remask",), out=tmp_path / "two")) == 0
    one, two = ((tmp_path / name / "suite.json").read_text() for name in ("one", "two"))
    assert run_suite(Suite(("grasp-remask",), out=tmp_path / "three", ray="local")) == 0
    assert (tmp_path / "three" / "suite.json").read_text() == one
    assert one == two and '"missing_tasks": [' in one
    assert (tmp_path / "one" / "suite.csv").read_text().count("\n") == 16


@pytest.mark.slow
def test_other_weights_under_the_same_name_are_refused(tmp_path, monkeypatch, policy):
    monkeypatch.setattr(suite, "conditions_of", lambda sensors, tier: {one.name: ("subsets", one.name)
                                                                      for one in subsets(SENSORS)})  # fmt: skip
    monkeypatch.setitem(suite.EPISODES, "quick", 1)
    file = tmp_path / "runs" / "mine.safetensors"
    file.parent.mkdir()
    shutil.copy(locate("grasp-remask"), file)
    assert run_suite(Suite((str(file),), out=tmp_path / "suite")) == 0
    before = (tmp_path / "suite" / "suite.json").read_text()
    shutil.copy(locate("grasp"), file)
    with pytest.raises(InputError, match=r"runs-mine.*policy\.weights"):
        run_suite(Suite((str(file),), out=tmp_path / "suite"))
    assert (tmp_path / "suite" / "suite.json").read_text() == before
