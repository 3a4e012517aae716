import csv

from robofuse.evaluate.conditions import singles
from robofuse.sensors import MODALITIES
from robofuse.train.display import CsvTable, draw_curve, read_rows


def test_tables_grow_and_are_cut_back(tmp_path):
    table = CsvTable(tmp_path / "t.csv", 0)
    table.add({"step": 1, "a": 0.5})
    table.add({"step": 2, "a": None, "b": "x,y"})
    table.add({"step": 3})
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert rows == [
        {"step": "1", "a": "0.5", "b": ""},
        {"step": "2", "a": "", "b": "x,y"},
        {"step": "3", "a": "", "b": ""},
    ]
    table = CsvTable(tmp_path / "t.csv", 2)
    table.add({"step": 5, "a": 1})
    assert [row["step"] for row in read_rows(tmp_path / "t.csv")] == ["1", "2", "5"]


def test_curves_are_drawn(tmp_path):
    assert draw_curve(tmp_path, singles(MODALITIES)).stat().st_size > 1000  # nothing to show yet
    assert draw_curve(tmp_path, singles(["rgb"])).read_bytes()[:4] == b"\x89PNG"
