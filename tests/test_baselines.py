import csv
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "baselines.py"


def run(folder, *more):
    options = "--steps 1600 --episodes 2 --specialists force+proprio".split()
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *options, *more], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_script_compares_what_it_trains_and_goes_on_where_it_stopped(tmp_path):
    first = run(tmp_path)
    assert first.returncode == 0, first.stderr
    with (tmp_path / "comparison.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    by_policy = {name: [row["condition"] for row in rows if row["policy"] == name] for name in ("ours", "specialist")}
    assert len(rows) == 4 * 19 + 1
    assert len(by_policy["ours"]) == 19
    assert by_policy["specialist"] == ["no-depth+rgb"]
    before = (tmp_path / "comparison.csv").read_bytes()
    again = run(tmp_path)
    assert again.returncode == 0 and "is finished" in again.stdout
    assert (tmp_path / "comparison.csv").read_bytes() == before


def test_unknown_variants_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path), "--only", "magic"])
    with pytest.raises(SystemExit, match="zero-filling.*got magic"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert not list(tmp_path.iterdir())
