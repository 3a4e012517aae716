"""Results: what episodes sum up to, the folder that keeps them, and files that say something wrong."""

import csv
import json
import random

import numpy as np
import pytest
from lab import KEYS

from robofuse.errors import InputError
from robofuse.evaluate import ConditionResult, Episode, midway, parse, read_evaluation, read_evaluations, subsets
from robofuse.evaluate.figures import draw_curve, draw_detection, draw_heatmap, draw_legend, shade, split_keys
from robofuse.evaluate.folder import read_episodes, read_finished, write_results
from robofuse.evaluate.results import Evaluated, Record, finished_scenes, summarise
from robofuse.evaluate.screen import comparison_table

FOUR = ("depth", "force", "proprio", "rgb")


def blank(conditions):
    return [ConditionResult.blank(condition) for condition in conditions]


def episodes_of(condition, outcomes):
    name = getattr(condition, "name", None) or condition.condition
    return [Episode(name, k, bool(won), 10 + k, float(won)) for k, won in enumerate(outcomes)]


def record(**options):
    policy = Evaluated(name="brave", weights="ab", keys=KEYS, card={})
    return Record(**{"policy": policy, "world": {"task": "Reach"}, "seed": 7, "episodes": 3, **options})


def test_rows_by_hand():
    full, less = blank(subsets(KEYS)[:2])
    episodes = episodes_of(full, [1, 1, 1, 0]) + episodes_of(less, [1, 0, 0, 1])
    first, second = summarise([full, less], episodes)
    assert (first.n, first.successes, first.success, first.retention, first.change) == (4, 3, 0.75, 1.0, None)
    assert second.success == 0.5 and second.retention == pytest.approx(2 / 3)
    assert second.change.value == -0.25 and second.change.low < -0.25 < second.change.high
    assert first.steps == 11.5 and first.steps_to_success == 11.0 and second.reward == 0.5
    plain = second.to_dict()
    assert plain["condition"] == "no-force" and plain["live"] == ("proprio",) and plain["dead_from"] == {"force": 0}
    assert plain["success_low"] == pytest.approx(0.150, abs=1e-3) and plain["difference"] == -0.25


def test_only_scenes_that_every_condition_has_finished_count():
    full, less = blank(subsets(KEYS)[:2])
    episodes = episodes_of(full, [1, 1, 1, 0, 1]) + [e for e in episodes_of(less, [1, 0, 1, 1]) if e.episode != 2]
    assert finished_scenes(["all", "no-force"], episodes) == 2
    assert [row.n for row in summarise([full, less], episodes)] == [2, 2]
    assert [row.success for row in summarise([full, less], episodes_of(full, [1]))] == [None, None]


def test_nothing_to_compare_with():
    full, less = blank(subsets(KEYS)[:2])
    (row,) = summarise([less], episodes_of(less, [1, 0]))
    assert row.success == 0.5 and row.retention is None and row.change is None
    assert summarise([full, less], episodes_of(full, [0]) + episodes_of(less, [0]))[1].retention is None


# the folder


def write(folder, **options):
    rows = blank(parse(["all", "no-force", "no-proprio@2"], KEYS, 5))
    episodes = [episode for row in rows for episode in episodes_of(row, [1, 0, 1])]
    write_results(folder, record(**options), summarise(rows, episodes), episodes)
    return rows, episodes


def test_what_is_written_is_read(tmp_path):
    rows, episodes = write(tmp_path)
    found = read_evaluation(tmp_path)
    assert list(found.conditions.values()) == summarise(rows, episodes) and found.record.policy == record().policy
    assert found.played == {"all": 3, "no-force": 3, "no-proprio@2": 3} and found.scenes == 3 and found.keys == KEYS
    assert read_episodes(tmp_path) == episodes
    with (tmp_path / "conditions.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert list(table[0]) == [name for name in ConditionResult.__struct_fields__ if name != "episodes"]
    assert (table[2]["group"], table[2]["dead_from"], table[0]["live"]) == ("midway", "proprio@2", "force+proprio")
    assert json.loads((tmp_path / "evaluation.json").read_text())["conditions"][1]["announced"] is True


def test_an_evaluation_goes_on_only_where_it_is_the_same(tmp_path):
    asked = [(name, scene) for name in ("all", "no-force", "no-proprio@2") for scene in range(5)]
    assert read_finished(tmp_path / "none", record(), asked) == ([], 0.0)
    _, episodes = write(tmp_path, seconds=4.0)
    assert read_finished(tmp_path, record(episodes=5), asked) == (episodes, 4.0)
    for options, said in (({"seed": 8}, "seed 7, now 8"), ({"world": {"task": "Grasp"}}, 'world.task "Reach", now')):
        with pytest.raises(InputError, match=said):
            read_finished(tmp_path, record(**options), asked)
    with pytest.raises(InputError, match="episode 2 under all"):
        read_finished(tmp_path, record(), [job for job in asked if job[1] < 2])
    (tmp_path / "evaluation.json").unlink()
    with pytest.raises(InputError, match="no evaluation.json"):
        read_finished(tmp_path, record(), asked)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda r: r["policy"].update(keys="x" * 53), "policy.keys: expected `array`, got `str`"),
        (lambda r: r["policy"].update(keys=["a"] * 17), "policy.keys: expected `array` of length <= 16"),
        (lambda r: r["policy"].update(keys=[]), "policy.keys"),
        (lambda r: r["policy"].update(keys=["rgb", "rgb"]), "policy: keys must differ"),
        (lambda r: r["policy"].update(keys=[1]), r"policy.keys\[0\]: expected `str`"),
        (lambda r: r.pop("policy"), "missing required field `policy`"),
        (lambda r: r.update(seed="7"), "seed: expected `int`"),
        (lambda r: r.update(seed=-1), "seed: expected `int` >= 0"),
        (lambda r: r.update(world=[]), "world: expected `object`"),
        (lambda r: r.update(format=2), "has format 2, this robofuse reads 4"),
        (lambda r: r.update(conditions=[]), "has no conditions"),
        (lambda r: r.update(conditions=r["conditions"] * 2), "has a condition twice"),
        (lambda r: r["conditions"][0].update(group="every"), r"conditions\[0\].group"),
        (lambda r: r["conditions"][0].update(live="rgb"), r"conditions\[0\].live: expected `array`"),
        (lambda r: r["conditions"][0].update(fault="freeze"), "belong together"),
        (lambda r: r["conditions"][0].update(n=2), "all has 2 successes of 2, but 2 of 3 in episodes.csv"),
        (lambda r: r["conditions"].pop(), "lacks: no-proprio@2"),
        (lambda r: r["conditions"][1].update(dead_from={"force": -1}), r"dead_from"),
        (lambda r: r.update(episodes=0), "episodes: expected `int` >= 1"),
    ],
)
def test_wrong_records_are_named(tmp_path, change, said):
    write(tmp_path)
    path = tmp_path / "evaluation.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match=said) as error:
        read_evaluation(tmp_path)
    assert "evaluation.json" in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"[", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b"9" * 5000, b"null"]
)
def test_what_is_no_record_is_said_so(tmp_path, content):
    write(tmp_path)
    (tmp_path / "evaluation.json").write_bytes(content)
    for read in (read_evaluation, lambda folder: read_finished(folder, record(), [])):
        with pytest.raises(InputError, match=r"evaluation\.json"):
            read(tmp_path)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("all,0,1", "all,x,1", r"line 2: episode: expected `int`"),
        ("all,0,1", "all,-1,1", r"line 2: episode: expected `int` >= 0"),
        ("all,0,1", "all,0,yes", r"line 2: success: expected `bool`"),
        ("all,0,1,10,1.0", "all,0,1,10,nan", r"line 2: reward"),
        ("all,0,1,10,1.0", "all,0,1,10,1e999", r"line 2: reward"),
        ("all,0,1,10,1.0", "all,0,1,,1.0", r"line 2: object missing required field `steps`"),
        ("all,0,1", "odd,0,1", r"has conditions that evaluation\.json lacks: odd"),
        ("all,1,", "all,0,", r"line 3: episode 0 under all is there twice"),
        ("condition,episode", "what,episode", "must have the columns condition, .*; it has what"),
        ("force\n", "force,more\n", "must have the columns"),
        (",0,0,\n", ",0,0,1,2,3\n", "line 2: more cells than columns"),
        ("all,0", "all\0,0", r"lacks|cannot read"),
    ],
)
def test_wrong_episodes_are_named_with_their_line(tmp_path, old, new, said):
    write(tmp_path)
    path = tmp_path / "episodes.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=said) as error:
        read_evaluation(tmp_path)
    assert "episodes.csv" in str(error.value)


def test_damaged_folders_end_in_one_kind_of_error(tmp_path):
    """Whatever single byte or JSON value changes, the folder is read or refused with an InputError."""
    write(tmp_path)
    rng = random.Random(0)
    values = (None, True, -1, 2**70, 1e300, "", "a" * 2000, [], [[]], {}, {"": {}}, "<b>", "$x^$", "[/]")
    for name in ("evaluation.json", "episodes.csv"):
        path = tmp_path / name
        before = path.read_bytes()
        for _ in range(150):
            spoilt = bytearray(before)
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
            path.write_bytes(bytes(spoilt))
            try:
                read_evaluations([tmp_path])
            except InputError as error:
                assert name in str(error) or "scene" in str(error)
        path.write_bytes(before)
    path = tmp_path / "evaluation.json"
    good = json.loads(path.read_text())
    for key in good:
        for value in values:
            path.write_text(json.dumps({**good, key: value}))
            try:
                read_evaluations([tmp_path])
            except InputError as error:
                assert "evaluation.json" in str(error)


def test_seen_faults_come_from_the_card():
    def seen(card):
        return record(policy=Evaluated(name="a", keys=KEYS, card=card)).seen_faults

    assert seen({"seen_faults": ["rgb:freeze"], "options": {"failures": {"faults": []}}}) == {"rgb:freeze"}
    assert seen({"seen_faults": []}) == frozenset() == seen({"options": {"failures": {"faults": []}}})
    # which faults the word meant then, or what a file of plans said, nobody knows now
    assert seen({"options": {"failures": {"faults": ["standard"]}}}) is None
    assert seen({}) is None is seen({"options": 3})


# the heat map


def heat(keys, conditions):
    import cv2

    rows = blank(conditions)
    found = summarise(rows, [episode for row in rows for episode in episodes_of(row, [1, 0, 1])])
    png = draw_heatmap(found, keys, "success", "where and how")
    return png and cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_the_heat_map_has_a_cell_for_every_set_that_was_played():
    square, flat = heat(FOUR, subsets(FOUR)), heat(("a", "b"), subsets(("a", "b")))
    assert square.shape[0] > flat.shape[0] and square.std() > 10
    small = heat(FOUR, parse(["all", "no-rgb"], FOUR, 15))
    assert small.shape[0] < square.shape[0]
    assert heat(FOUR, midway(FOUR, 3)) is None


def test_cameras_go_down_and_the_rest_along():
    assert split_keys(("depth", "depth_wrist", "force", "rgb")) == (("depth", "depth_wrist", "rgb"), ("force",))
    assert split_keys(("force", "proprio")) == (("force",), ("proprio",))
    assert split_keys(("rgb",)) == ((), ("rgb",))


def test_ink_is_readable_on_every_colour():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for success in np.linspace(0, 1, 41):
        back, ink = shade(float(success))
        light, dark = sorted((luminance(back), 1.0 if ink == "#fff" else 0.0), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("name", ["cost $5 or $6", "$x^$", "\\$\\frac", "[bold]", "[/]", "a" * 300, "b\\"])
def test_any_name_can_be_drawn_and_printed(name, capsys):
    from rich.console import Console

    rows = blank(subsets(("a", name)))
    some = summarise(rows, [episode for row in rows for episode in episodes_of(row, [1, 0, 1])])
    assert draw_heatmap(some, ("a", name), f"{name}: success", name)
    assert draw_legend([name, "other"]) and draw_curve([(0, {1.0: some[0]})]) and draw_detection([name], [(1, 2)])
    results = {row.condition: row for row in some}
    table, _ = comparison_table({name: results, "other": results})
    Console(width=2000).print(table)
    assert name in capsys.readouterr().out
