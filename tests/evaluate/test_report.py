"""The report, of evaluations made up for the purpose: every figure on the page against the tables."""

import base64
import csv
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from statistics import median

import numpy as np
import pytest
from markupsafe import escape

from robofuse.evaluate import Report, run_report
from robofuse.evaluate import read_evaluations as read_all
from robofuse.evaluate.findings import compare, curves, hardest, judge, not_measured, total, watch
from robofuse.evaluate.report import films_of
from robofuse.evaluate.results import Event
from robofuse.evaluate.sections import points, span
from robofuse.stats import iqm, paired_difference, wilson

KEYS = ("depth", "force", "rgb")
EPISODES = "condition episode success steps reward error jerk detected alarms watched peak_force".split()
DEAD = [(), ("depth",), ("force",), ("rgb",), ("depth", "force"), ("depth", "rgb"), ("force", "rgb")]
SEVERITIES = (0.25, 0.5, 0.75, 1.0)
FAULTS = [("rgb", "freeze"), ("rgb", "noise"), ("depth", "holes"), ("force", "bias")]


def conditions():
    """Name → (row without counts, how much harder it is)."""
    found = {}
    for lost in DEAD:
        name = f"no-{'+'.join(lost)}" if lost else "all"
        live = "+".join(key for key in KEYS if key not in lost)
        row = {"group": "missing" if lost else "all", "live": live, "dead_from": " ".join(f"{key}@0" for key in lost)}
        found[name] = row, 0.12 * len(lost) ** 2
    for key in KEYS:
        live = "+".join(other for other in KEYS if other != key)
        found[f"no-{key}@15"] = {"group": "midway", "live": live, "dead_from": f"{key}@15"}, 0.06
    for index, (sensor, fault) in enumerate(FAULTS):
        for severity in SEVERITIES:
            text = f"{sensor}:{fault}" + (f"({severity:g})" if severity != 1 else "") + "@15"
            live = "+".join(other for other in KEYS if other != sensor)
            row = {"sensor": sensor, "fault": fault, "severity": severity, "onset": 15, "announced": False}
            found[text] = {"group": "fault", "live": live, "dead_from": "", **row}, 0.15 * index * severity
    row = {"sensor": "depth", "fault": "freeze", "severity": 1.0, "onset": 15, "announced": False}
    found["depth:freeze@15"] = {"group": "fault", "live": "force+rgb", "dead_from": "", **row}, 0.2
    row = {"group": "fault", "live": "depth", "dead_from": "", "onset": 15}
    found["rgb:freeze@15+force:bias@15"] = row, 0.5
    return found


def make(folder, name="brave", *, seed=1_000_000, scenes=40, skill=0.9, monitor=True, asked=None, of=None, card=None):
    """An evaluation; whether a scene succeeds depends on how hard it is, so that policies agree on the hard ones."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    hard = rng.random(scenes)
    rows, episodes = [], []
    for text, (row, harder) in (of or conditions()).items():
        won = hard + 0.1 * rng.standard_normal(scenes) < skill - harder
        for scene in range(scenes):
            found = rng.random() < (row.get("severity") or 0)
            seen = {"detected": int(rng.integers(1, 6)) if found else "", "alarms": int(rng.random() < 0.02)}
            episodes.append(
                {"condition": text, "episode": scene, "success": int(won[scene]), "steps": 30 + scene % 7}
                | {"reward": 1.5, "error": "", "jerk": 0.1 + harder, "watched": 30, "peak_force": 20.0 + 9.0 * harder}
                | (seen if monitor else {})
            )
        dead_from = {key: int(step) for key, step in (part.split("@") for part in row["dead_from"].split())}
        named = {"live": row["live"].split("+"), "dead_from": dead_from}
        rows.append({"condition": text, "plan": text, "n": scenes, "successes": int(won.sum()), **row, **named})
    record = {
        **{"format": 4, "command": f"robofuse evaluate {name} --episodes {scenes}", "seed": seed, "note": ""},
        "policy": {"name": name, "weights": "ab" * 32, "keys": list(KEYS), "card": {"steps": 1000} | (card or {})},
        "world": {"task": "Reach", "robot": "gripper", "image_size": 16},
        **{"episodes": asked or scenes, "complete": asked is None, "scenes": scenes, "seconds": 90.0},
        **{"device": "cpu", "machine": {"cores": 2}, "versions": {"mujoco": "4.0"}, "written": "2026-01-02"},
        "monitor": {"false_alarm_target": 0.001} if monitor else None,
    }
    write(folder / "episodes.csv", EPISODES, episodes)
    (folder / "evaluation.json").write_text(json.dumps(record | {"conditions": rows}))
    return folder


def write(path, names, rows):
    with path.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def rates(folder):
    """Success by condition, from the episodes."""
    found = {}
    for row in read(folder / "episodes.csv"):
        found.setdefault(row["condition"], []).append(row["success"] == "1")
    return found


def page_of(*folders, **options):
    out = folders[0].parent / "report.html"
    assert run_report(Report(folders, out, **options)) == 0
    return out.read_text(encoding="utf-8")


def words(page):
    """What can be read, in one line."""
    text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return make(tmp_path_factory.mktemp("one") / "brave")


@pytest.fixture(scope="module")
def page(one):
    return page_of(one)


def test_the_verdict_is_what_the_episodes_say(one, page):
    won = rates(one)
    share = {name: sum(some) / len(some) for name, some in won.items()}
    said = words(re.search(r'<p class="verdict">(.*?)</p>', page, re.DOTALL)[1])
    low, high = (f"{100 * end:.1f}" for end in wilson(sum(won["all"]), 40))
    assert f"in 40 scenes, brave succeeds in {100 * share['all']:.1f} % ({low} to {high})" in said
    single = min(("no-depth", "no-force", "no-rgb"), key=share.__getitem__)
    assert f"misses most, {single[3:]}, in {100 * share[single]:.1f} % (" in said
    dying = min((f"no-{key}@15" for key in KEYS), key=share.__getitem__)
    assert f"in at worst {100 * share[dying]:.1f} % (" in said and f"without {dying[3:-3]} from step 15 on" in said
    faults = [value for name, value in share.items() if ":" in name]
    kept = sum(value >= 0.9 * share["all"] for value in faults)
    assert len(faults) == 18 and 0 < kept < 18
    assert f"{kept} of 18 fault conditions ( {100 * kept / 18:.0f} % ;" in said and "at least 90 % of that" in said


def test_robustness_is_the_area(one, page):
    share = {name: sum(some) / len(some) for name, some in rates(one).items()}
    for sensor, fault in FAULTS:
        y = [
            share["all"],
            *(share[f"{sensor}:{fault}({s:g})@15"] for s in SEVERITIES[:3]),
            share[f"{sensor}:{fault}@15"],
        ]
        area = sum(0.25 * (a + b) / 2 for a, b in zip(y, y[1:], strict=False)) / y[0]
        assert f"{fault} R {area:.2f}" in words(page)
    (low, high), frozen = wilson(sum(rates(one)["depth:freeze@15"]), 40), share["depth:freeze@15"]
    said = f"depth: freeze from step 15 {100 * frozen:.1f} % ({span((low, high))})"
    assert said in words(page) and "All of them set in at control step 15." in words(page)
    row = next(row for row in read(one.parent / "report_files" / "curves.csv") if row["fault"] == "bias")
    assert float(row["severity"]) == 0.0 and float(row["success"]) == share["all"]
    # made up: the jerk is 0.1 where nothing fails, 0.1 + 0.45 under the bias at severity 1
    assert float(row["jerk_ratio"]) == pytest.approx(5.5) and "5.5 ×, force: bias" in words(page)


def test_key_figures_and_bootstrap(one):
    found = judge(*read_all([one]))
    matrix = np.array([some for name, some in rates(one).items() if ":" in name], dtype=float)
    assert found.middle.value == pytest.approx(iqm(matrix.mean(axis=1)))
    assert found.middle.low < found.middle.value < found.middle.high
    assert found.kept.low <= found.kept.value <= found.kept.high
    assert found.pair.condition.count("+") == 1 and found.single.condition.count("+") == 0


def test_heat_map_and_table_of_the_dead(one, page):
    won = rates(one)
    cells = re.findall(r'<td style="[^"]*"><b>(\d+)</b><small>(\d+) to (\d+)</small></td>', page)
    expected = set()
    for name in ("all", "no-depth", "no-force", "no-rgb", "no-depth+force", "no-depth+rgb", "no-force+rgb"):
        ends = (100 * sum(won[name]) / 40, *(100 * end for end in wilson(sum(won[name]), 40)))
        expected.add(tuple(f"{value:.0f}" for value in ends))
    assert len(cells) == 7 and set(cells) == expected
    change = paired_difference(won["all"], won["no-rgb@15"])
    assert f"{points(change.value)} ({span(change)})" in words(page)


def test_monitor_against_the_episodes(one, page):
    rows = watch(*read_all([one]))
    episodes = read(one / "episodes.csv")
    affected = [row for row in episodes if row["condition"].startswith("rgb:noise")]
    row = next(row for row in rows if row.name == "rgb: noise from step 15")
    delays = [int(episode["detected"]) for episode in affected if episode["detected"]]
    assert (row.found, row.affected, row.delay) == (len(delays), 160, median(delays))
    strong = [episode for episode in affected if episode["condition"] == "rgb:noise@15"]
    assert row.by_severity[1.0] == (sum(bool(episode["detected"]) for episode in strong), 40)
    alarms, steps = (sum(int(episode[key]) for episode in episodes) for key in ("alarms", "watched"))
    assert alarms > 0 and total(rows).per_thousand == pytest.approx(1000 * alarms / steps)
    assert f"{1000 * alarms / steps:.2f} ({alarms:,} in {steps:,}) times per 1,000" in words(page)
    assert "calibrated for at most 1." in words(page)


def test_episodes_that_end_before_the_fault_are_not_held_against_the_monitor(tmp_path):
    folder = make(tmp_path / "late")
    rows = read(folder / "episodes.csv")
    for row in rows:
        if row["condition"] == "rgb:freeze@15" and int(row["episode"]) < 10:
            row |= {"steps": 15, "detected": ""}
    write(folder / "episodes.csv", EPISODES, rows)
    row = next(row for row in watch(*read_all([folder])) if row.name.startswith("rgb: freeze"))
    assert row.by_severity[1.0][1] == 30


def test_hard_scenes(one, page):
    won = rates(one)
    failed = {
        scene: [name for name in won if name != "all" and not won[name][scene]]
        for scene in range(40)
        if won["all"][scene]
    }
    most = sorted((scene for scene in failed if failed[scene]), key=lambda scene: (-len(failed[scene]), scene))
    hard = hardest(*read_all([one]), 5)
    assert [found.scene for found in hard] == most[:5]
    assert {condition.condition for condition in hard[0].failed} == set(failed[most[0]])
    best = max(failed[most[0]], key=lambda name: sum(won[name]))
    assert hard[0].failed[0].rate == sum(won[best]) / 40
    assert f"scene {most[0]} {len(failed[most[0]])} of 27" in words(page)
    assert f"robofuse replay brave --seed 1000000 --episode {most[0]} --episodes 1" in words(page)


@pytest.mark.slow
def test_two_policies_scene_by_scene(tmp_path):
    make(tmp_path / "all" / "a", "first")
    make(tmp_path / "all" / "b", "second", skill=0.7, scenes=30)
    first, second = read_all([tmp_path / "all"])
    found = compare(first, second)
    assert found.scenes == 30 and found.faults == 18 and not found.alone
    a, b = ({name: some[:30] for name, some in rates(tmp_path / "all" / name).items()} for name in "ab")
    for change in found.changes:
        assert change.difference == paired_difference(a[change.condition], b[change.condition])
    faults = [name for name in a if ":" in name]
    middle = [iqm([sum(one[name]) / 30 for name in faults]) for one in (a, b)]
    assert found.middle.value == pytest.approx(middle[1] - middle[0]) and found.middle.high < 0
    clean = [sum(one["all"]) / 30 for one in (a, b)]
    mean = [np.mean([sum(one[name]) / 30 for name in faults]) for one in (a, b)]
    assert found.effective.value == pytest.approx(mean[1] - clean[1] * mean[0] / clean[0])
    page = page_of(tmp_path / "all")
    assert "On the same 30 scenes, second does better than first under 0 of 28 conditions" in words(page)
    assert f"{points(found.middle.value)} ({span(found.middle)}) points" in words(page)
    assert "Only 30 scenes per condition" in words(page) and (tmp_path / "report_files" / "legend.png").exists()


def test_a_policy_beside_itself_does_not_differ(tmp_path):
    make(tmp_path / "a", "same"), make(tmp_path / "b", "same")
    first, second = read_all([tmp_path / "a", tmp_path / "b"])
    assert (first.label, second.label) == ("same (a)", "same (b)")
    found = compare(first, second)
    assert found.middle == (0, 0, 0) and found.effective == pytest.approx((0, 0, 0))
    assert all(change.difference.value == 0 and not change.sure for change in found.changes)


@pytest.mark.slow
def test_faults_of_the_training_and_new_ones(tmp_path):
    for name, met, skill in (("plain", [], 0.7), ("broken", ["rgb:noise", "rgb:freeze"], 0.9)):
        make(tmp_path / name, name, skill=skill, card={"seen_faults": met})
    page = words(page_of(tmp_path / "plain", tmp_path / "broken"))
    rows = {(row["policy"], row["faults"]): row for row in read(tmp_path / "report_files" / "seen.csv")}
    for name in ("plain", "broken"):
        won = rates(tmp_path / name)
        met = [text for text in won if text.startswith(("rgb:noise", "rgb:freeze")) and "+" not in text]
        new = [text for text in won if ":" in text and "+" not in text and text not in met]
        assert len(met) == 8 and len(new) == 9
        for title, names in (("met in training", met), ("new", new)):
            assert float(rows[name, title]["mean"]) == pytest.approx(np.mean([won[text] for text in names]))
    assert "Met in training: rgb:freeze, rgb:noise" in page and "New: depth:freeze, depth:holes, force:bias" in page
    gain = float(rows["broken", "new"]["mean"]) - float(rows["plain", "new"]["mean"])
    assert f"[{points(gain)}:" in page and "2 faults" in page and "no faults" in page
    # which faults the word meant at that time, or what a file of plans said, is not known today
    few = {name: row for name, row in conditions().items() if name == "all" or name.startswith("rgb:noise")}
    make(tmp_path / "old", "old", of=few, card={"options": {"failures": {"faults": ["standard"]}}})
    make(tmp_path / "new", "new", of=few, card={"seen_faults": ["rgb:noise"]})
    assert "Faults of the training" in (page := page_of(tmp_path / "old", tmp_path / "new"))
    assert "cannot be told" in words(page)
    make(tmp_path / "none", "none", of=few, card={"seen_faults": []})
    for name in ("none", "old"):
        assert "Faults of the training" not in page_of(tmp_path / name)


@pytest.mark.parametrize("what, value", [("seed", 5), ("task", "Grasp"), ("robot", "arm")])
def test_other_scenes_are_not_put_side_by_side(tmp_path, what, value):
    make(tmp_path / "a"), make(tmp_path / "b")
    record = json.loads((tmp_path / "b" / "evaluation.json").read_text())
    (record if what == "seed" else record["world"])[what] = value
    (tmp_path / "b" / "evaluation.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"{what} {value}"):
        read_all([tmp_path / "a", tmp_path / "b"])


def test_what_is_missing_is_said(tmp_path):
    some = {name: value for name, value in conditions().items() if name not in ("no-rgb", "no-force@15")}
    del some["rgb:freeze(0.5)@15"]
    folder = make(tmp_path / "part", monitor=False, asked=200, of=some)
    rows = read(folder / "episodes.csv")
    rows.append({**rows[0], "episode": 40})  # of a scene that other conditions have not finished
    write(folder / "episodes.csv", EPISODES, rows)
    (found,) = read_all([folder])
    assert found.scenes == 40
    said = " ".join(not_measured(found))
    assert "not complete: 40 of 200 scenes" in said and "Least far: no-depth" in said
    assert "1 of 7 sets of live sensors were not played: depth + force." in said
    assert "sensors that fail on the way, announced, of force." in said
    assert re.search(r"Faults of rgb in the grid that were not played: [^.]*freeze at 0\.5", said) is None
    assert "No health monitor" in said
    page = page_of(folder)
    assert "not complete: 40 of 200" in words(page) and 'id="monitor"' not in page and 'class="none"' in page
    curve = curves(found)[Event("rgb", "freeze", 15, False)]
    assert curve.robustness is None and list(curve.points) == [0.25, 0.75, 1.0]
    assert "freeze R –" in words(page)


def test_missing_severities_of_graded_faults_are_named(tmp_path):
    some = {name: value for name, value in conditions().items() if name != "rgb:noise(0.5)@15"}
    said = " ".join(not_measured(*read_all([make(tmp_path / "part", of=some)])))
    assert re.search(r"Faults of rgb [^.]*noise at 0\.5", said)
    assert re.search(r"Faults of depth [^.]*blackout", said) and "No health monitor" not in said


def test_without_all_sensors_nothing_is_compared(tmp_path):
    some = {name: value for name, value in conditions().items() if name != "all"}
    page = words(page_of(make(tmp_path / "part", of=some)))
    assert "was not measured with all sensors" in page and "(all) was not played" in page


def test_names_from_files_are_not_html(tmp_path):
    evil = "<script>alert(1)</script>\"'&$x^$[/b]{{ 7 }}"
    some = conditions()
    some[f"rgb:{evil}@15"] = {"group": "fault", "live": evil, "dead_from": "", "onset": 15}, 0.2
    for severity in SEVERITIES:
        row = {"group": "fault", "sensor": evil, "fault": evil, "severity": severity, "onset": 15, "announced": True}
        some[f"{evil}{severity}"] = {"live": "rgb", "dead_from": "", **row}, 0.8
    for label in "ab":
        make(tmp_path / label, evil, of=some)
    page = page_of(tmp_path / "a", tmp_path / "b")
    assert "<script" not in page and escape(evil) in page
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in (tmp_path / "report_files").iterdir())
    Outline().feed(page)


class Outline(HTMLParser):
    """Every element is closed; headings do not skip a level; pictures have alt texts; no id is there twice."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.level = [], [], [], [], 0

    def handle_starttag(self, name, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        assert not {key for key in given if key.startswith("on")}
        if name == "img":
            assert given["alt"].strip()
            self.images.append(given["src"])
        if re.fullmatch("h[1-6]", name):
            assert int(name[1]) <= self.level + 1
            self.level = int(name[1])
        if name not in ("img", "meta", "br"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def close(self):
        super().close()
        assert not self.open and len(self.ids) == len(set(self.ids))


def test_the_page_stands_alone_and_is_well_formed(page, one):
    import cv2

    outline = Outline()
    outline.feed(page)
    outline.close()
    assert set(outline.links) == {f"#{name}" for name in outline.ids}  # every section is in the contents
    assert not re.search(r"(src|href|action)=\"(?!data:|#)|url\(|@import|<link|<script|https?://", page)
    assert '<meta name="viewport"' in page and '<html lang="en">' in page
    assert len(outline.images) == 5  # four curves and the monitor
    for source in outline.images:
        content = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and picture.std() > 1
    files = {path.name: path for path in (one.parent / "report_files").iterdir()}
    assert (
        files["sensors-1-brave.png"].read_bytes().startswith(b"\x89PNG")
        and len(read(files["sensors-1-brave.csv"])) == 10
    )
    for name in ("curve-rgb-freeze-15.png", "monitor-1-brave.png", "scenes-1-brave.csv", "figures.csv"):
        assert name in files


def test_the_same_evaluation_gives_the_same_page(one, page):
    assert page_of(one) == page


def test_every_sentence_of_the_method(page):
    said = words(page)
    for what in (
        "robofuse evaluate brave --episodes 40",
        "Reach with the gripper",
        "1.5 minutes",
        "cores 2",
        "steps 1000",
    ):
        assert what in said


def test_what_is_no_evaluation(tmp_path):
    with pytest.raises(ValueError, match=r"evaluation\.json does not exist"):
        read_all([tmp_path])
    folder = make(tmp_path / "a")
    (folder / "episodes.csv").unlink()
    with pytest.raises(ValueError, match=r"episodes\.csv: No such file"):
        read_all([folder])
    folder = make(tmp_path / "b", of={name: conditions()[name] for name in ("all", "no-rgb")})
    rows = [row for row in read(folder / "episodes.csv") if row["condition"] == "all"]
    write(folder / "episodes.csv", EPISODES, rows)
    with pytest.raises(ValueError, match="no scene is finished"):
        read_all([folder])
    for options, said in (
        ({"folders": ()}, "at least one folder"),
        ({"out": tmp_path / "page.pdf"}, "ends in .html"),
        ({"videos": -1}, "videos"),
        ({"folders": (make(tmp_path / "c"),), "policy": ("a", "b")}, "one --policy per evaluation: 1 eval"),
    ):
        with pytest.raises(ValueError, match=said):
            run_report(Report(**{"folders": (tmp_path,), "out": tmp_path / "x.html"} | options))


def test_an_unwritable_place(one, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match="cannot write .*give another --out"):
        run_report(Report((one,), tmp_path / "taken" / "report.html"))


def test_films_are_part_of_the_page(one, monkeypatch):
    asked = []

    def film(evaluation, policy, hard):
        asked.append((evaluation.label, policy, hard.scene))
        if len(asked) == 2:
            raise ValueError("no such <policy>")
        return b"a film", False

    monkeypatch.setattr("robofuse.evaluate.report.film", film)
    page = page_of(one, videos=2)
    scenes = [hard.scene for hard in hardest(*read_all([one]), 2)]
    assert asked == [("brave", "brave", scene) for scene in scenes]
    assert f'src="data:video/mp4;base64,{base64.b64encode(b"a film").decode()}"' in page
    assert "no video: no such <policy>" in words(page)
    assert (one.parent / "report_files" / f"scenes-1-brave-{scenes[0]}.mp4").read_bytes() == b"a film"


def test_no_films_unless_asked_for(one):
    assert films_of(Report((one,)), read_all([one])) == {}


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_sideways_scrolling(one, page, tmp_path, width):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium on this machine")
    # a frame of that width tells how wide the page wants to be; browsers without a head have a minimum of their own
    frame = tmp_path / "frame.html"
    script = "document.title=f.contentDocument.documentElement.scrollWidth"
    frame.write_text(
        f'<body><iframe id="f" width="{width}" height="900" srcdoc="{html.escape(page)}" '
        f'onload="{script};document.body.innerHTML=document.title"></iframe>'
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    found = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    wide = re.search(r"<body>(\d+)", found.stdout)
    assert wide is not None and int(wide[1]) <= width


def test_no_text_of_an_evaluation_reaches_the_page_unescaped(tmp_path):
    """A tag in any string of the record is shown as text, or refused."""
    evil = "<img src=x onerror=alert(1)>"
    card = {"seen_faults": ["rgb:noise"], "options": {"task": "Reach", "network": {"a": "b"}}}
    few = ("all", "no-rgb", "no-rgb@15", "rgb:noise@15", "rgb:freeze@15+force:bias@15")
    folder = make(tmp_path / "a", scenes=6, of={name: conditions()[name] for name in few}, card=card)
    path = folder / "evaluation.json"
    good = json.loads(path.read_text())
    good["note"] = "a note"

    def strings(node, way=()):
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            yield from [(*way, key)] if isinstance(value, str) else strings(value, (*way, key))

    def spoilt(*ways):
        record = json.loads(json.dumps(good))
        for number, way in enumerate(ways):
            node = record
            for key in way[:-1]:
                node = node[key]
            node[way[-1]] = evil + str(number)
        path.write_text(json.dumps(record))
        return folder

    taken = []
    for way in strings(good):
        try:
            read_all([spoilt(way)])
            taken.append(way)
        except ValueError:  # such as a group or the name of a condition
            continue
    page = page_of(spoilt(*taken))
    assert len(taken) > 20 and page.count("&lt;img src=x") > 20 and "<img src=x" not in page
