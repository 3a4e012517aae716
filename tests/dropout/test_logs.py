"""Laws fitted to logs find the rates that the logs were drawn with."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import KEYS, masks_of

from robofuse.dropout import Dropout, Empirical, Independent, Markov, Rates, as_log, read_log

SETS = st.lists(st.sampled_from(KEYS), max_size=3, unique=True).map(lambda keys: tuple(sorted(keys)))
TABLES = st.dictionaries(SETS, st.integers(0, 50), min_size=1).filter(
    lambda table: any(n for lost, n in table.items() if len(lost) < 2)
)


@settings(max_examples=40, deadline=None)
@given(table=TABLES, seed=st.integers(0, 2**40))
def test_sets_are_drawn_as_often_as_the_table_says_and_found_again(table, seed):
    law, total, count = Empirical(table), sum(table.values()), 4000
    drawn = masks_of(law, range(count), 0, seed)[0]
    found = Empirical.from_log(drawn, KEYS).missing
    assert sum(found.values()) == count and set(found) <= {lost for lost, n in table.items() if n}
    for lost, n in table.items():
        error = 6.0 * (n / total * (1.0 - n / total) / count) ** 0.5
        assert abs(found.get(lost, 0) / count - n / total) <= error
    rates = dict(zip(KEYS, law.bind(KEYS).rates, strict=True))
    for key, share in Rates.from_log(drawn, KEYS).rates.items():
        assert abs(share - rates[key]) <= 6.0 * (rates[key] * (1.0 - rates[key]) / count) ** 0.5 + 1e-12


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=12))
def test_a_table_of_a_log_counts_its_rows(rows):
    counted = Empirical.from_log(rows, ["a", "b", "c"]).missing
    again = [[key not in lost for key in "abc"] for lost, n in counted.items() for _ in range(n)]
    assert sorted(again) == sorted(rows)


def test_rates_of_independent_sensors():
    rates = {"depth": 0.05, "force": 0.3, "proprio": 0.0, "rgb": 0.12}
    for every in ("step", "outage"):
        drawn = masks_of(Dropout(Independent(rates), every, outage_steps=5), range(300), 99)
        effective = 30_000 / (1 if every == "step" else 9)  # rows of an outage say the same
        for key, share in Rates.from_log(drawn, KEYS).rates.items():
            assert abs(share - rates[key]) <= 4.0 * (rates[key] * (1.0 - rates[key]) / effective) ** 0.5


def test_chains_are_found_again():
    fail, recover = {"rgb": 0.05, "force": 0.02}, {"rgb": 0.2, "force": 0.1}
    drawn = masks_of(Dropout(Markov(fail, recover)), range(300), 200)
    law = Markov.fit(drawn, KEYS)
    counts = (drawn[:-1].double().sum((0, 1)), (1.0 - drawn[:-1].double()).sum((0, 1)))
    for key in ("rgb", "force"):
        delivering, missing = (float(x[KEYS.index(key)]) for x in counts)
        assert abs(law.fail[key] - fail[key]) < 4.0 * (fail[key] / delivering) ** 0.5
        assert abs(law.recover[key] - recover[key]) < 4.0 * (recover[key] / missing) ** 0.5
    assert law.fail["depth"] == law.fail["proprio"] == 0.0


def test_no_step_leads_from_one_episode_to_the_next():
    drawn = masks_of(Dropout(Markov({"rgb": 0.05}, {"rgb": 0.05})), range(8000), 3)
    log, starts = drawn.transpose(0, 1).reshape(-1, 4), torch.arange(32_000) % 4 == 0
    law, careless = Markov.fit(log, KEYS, starts), Markov.fit(log, KEYS)
    assert abs(law.fail["rgb"] - 0.05) < 0.01 and abs(law.recover["rgb"] - 0.05) < 0.01
    assert careless.recover["rgb"] > 0.1


def test_groups_of_a_chain():
    law = Markov(0.1, 0.3, (("depth", "rgb"),))
    drawn = masks_of(Dropout(law), range(200), 100)
    fitted = Markov.fit(drawn, KEYS, groups=(("depth", "rgb"),))
    assert fitted.groups == law.groups and fitted.fail["rgb"] == fitted.fail["depth"]
    assert abs(fitted.fail["rgb"] - 0.1) < 0.01 and abs(fitted.recover["rgb"] - 0.3) < 0.03
    again = masks_of(Dropout(fitted), range(20), 50)
    assert torch.equal(again[..., 0], again[..., 3])
    with pytest.raises(ValueError, match="depth, force are a group, but in .*% of the log"):
        Markov.fit(drawn, KEYS, groups=(("depth", "force"),))


GOOD = [[1, 1], [0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_log([], ["a"]), "a row at least"),
        (lambda: as_log(GOOD, ["a"]), r"\(T, 1\).*got \(3, 2\)"),
        (lambda: as_log(GOOD, ["a", "a"]), "each once"),
        (lambda: as_log(GOOD, "ab"), "names of the log"),
        (lambda: as_log([[1, 0.5]], ["a", "b"]), "0 and 1 alone"),
        (lambda: as_log([[1, np.nan]], ["a", "b"]), "0 and 1 alone"),
        (lambda: as_log([["1", "0"]], ["a", "b"]), "0 and 1"),
        (lambda: as_log([[1, 0], [1]], ["a", "b"]), "equally long"),
        (lambda: as_log(GOOD, ["a", "b"], [True]), "a value per row"),
        (lambda: Markov.fit(GOOD, ["a", "b"], [1, 1, 1]), "two steps"),
        (lambda: Markov.fit([[1, 1], [1, 0]], ["a", "b"]), "b never came back"),
        (lambda: Markov.fit([[1, 0], [1, 0]], ["a", "b"]), "b never delivered"),
        (lambda: Markov.fit(GOOD, ["a", "b"], groups=(("a", "c"),)), "'c' in groups; sensors: a, b"),
        (lambda: Rates.from_log(GOOD, ["a"]), "must have shape"),
        (lambda: Empirical.from_log([[2, 1]], ["a", "b"]), "0 and 1 alone"),
    ],
)
def test_bad_logs(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_episodes_of_a_file(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("episode,rgb,step,force\n7,1,0,1\n7,0,1,1\n9,1,0,0\n")
    log = read_log(file)
    assert log.keys == ("rgb", "force") and log.starts[:, 0].tolist() == [True, False, True]
    assert log.available[:, 0].tolist() == [[True, True], [False, True], [True, False]]
    np.savez(tmp_path / "log.npz", available=np.ones((3, 2, 2)), keys=["a", "b"], starts=np.eye(3)[:, :2])
    assert read_log(tmp_path / "log.npz").starts.tolist() == [[True, True], [False, True], [False, False]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a line of sensors"),
        ("rgb,force\n", "a line of sensors"),
        ("rgb,force\n1,1\n1\n", "line 3 has 1 values"),
        ("rgb,force\n1,on\n", "line 2 holds 1,on"),
        ("rgb,rgb\n1,1\n", "each once"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=f"cannot read the log .*log.csv: .*{message}"):
        read_log(tmp_path / "log.csv")
    (tmp_path / "log.npz").write_text(text or "nothing")
    with pytest.raises(ValueError, match="cannot read the log .*log.npz"):
        read_log(tmp_path / "log.npz")
