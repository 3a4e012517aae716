"""What a study promises: nothing is lost or done twice, and the numbers depend on neither workers nor interruptions."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from robofuse.study import STUDIES
from robofuse.study.run import RunStudy, run_study
from robofuse.study.search import search
from robofuse.study.workers import Processes

OWN = Path(__file__).parent / "own.py"


def own(name, out, **options):
    """Run a study of `own.py`; its exit status."""
    return run_study(RunStudy(file=f"{OWN}:{name}", out=out, **{"workers": 2} | options))


def attempts(out):
    return {path.parent.name: len(path.read_text()) for path in sorted(out.glob("jobs/*/attempts"))}


def table(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The folder of a finished study."""
    folder = tmp_path_factory.mktemp("studies") / "example"
    assert run_study(RunStudy("example", out=folder, seeds=(0, 1, 2), workers=2)) == 0
    return folder


@pytest.mark.slow
def test_the_results_do_not_depend_on_the_number_of_workers(example, tmp_path):
    assert run_study(RunStudy("example", out=tmp_path, seeds=(0, 1, 2), workers=1)) == 0
    for name in ("runs.csv", "summary.csv"):
        assert (tmp_path / name).read_text() == (example / name).read_text()


@pytest.mark.slow
def test_nor_on_whether_ray_runs_them(example, tmp_path):
    command = [sys.executable, "-m", "robofuse", "study", "example", "--out", str(tmp_path), "--ray", "local"]
    done = subprocess.run([*command, "--seeds", "0", "1", "2"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs.csv").read_text() == (example / "runs.csv").read_text()


@pytest.mark.slow
def test_ray_runs_a_job_again_whose_process_died(tmp_path):
    command = [sys.executable, "-m", "robofuse", "study", "--file", f"{OWN}:dies", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--ray", "local"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert attempts(tmp_path)["dies_seed0"] == 2


def test_a_job_whose_worker_is_killed_is_run_again(tmp_path):
    assert own("dies", tmp_path, seeds=(0, 1)) == 0
    assert attempts(tmp_path) == {
        f"{method}_seed{seed}": count for method, count in (("steady", 1), ("dies", 2), ("fails", 3)) for seed in (0, 1)
    }
    log = (tmp_path / "jobs/dies_seed0/log.txt").read_text()
    assert log.splitlines() == ["--- attempt 1", "about to die", "--- attempt 2"]
    assert "ZeroDivisionError: of this attempt" in (tmp_path / "jobs/fails_seed1/log.txt").read_text()
    runs = {(row["method"], row["seed"]): float(row["success/all"]) for row in table(tmp_path / "runs.csv")}
    assert runs["dies", "1"] == 0.5 and len(runs) == 6


@pytest.mark.slow
def test_what_cannot_run_is_given_up_and_the_rest_goes_on(tmp_path, capsys):
    assert own("lost", tmp_path, retries=1) == 1
    assert "6 of 9 jobs failed" in capsys.readouterr().out
    found = attempts(tmp_path)
    assert found["impossible_seed0"] == 1 and found["mortal_seed0"] == 2  # an InputError would come again
    assert {row["method"] for row in table(tmp_path / "runs.csv")} == {"steady"}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "there is no such sensor" in page and "about to die" in page
    assert own("lost", tmp_path, retries=0, methods=("mortal",)) == 1
    assert attempts(tmp_path)["mortal_seed0"] == 3 and attempts(tmp_path)["steady_seed0"] == 1


@pytest.mark.slow
def test_further_seeds_and_methods_are_added(tmp_path):
    assert own("dies", tmp_path, methods=("steady",), seeds=(0, 1)) == 0
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("jobs/*/result.json")}
    assert len(times) == 2
    assert own("dies", tmp_path, methods=("steady", "dies"), seeds=(1, 5)) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    runs = {(row["method"], row["seed"]) for row in table(tmp_path / "runs.csv")}
    assert runs == {("steady", "0"), ("steady", "1"), ("steady", "5"), ("dies", "1"), ("dies", "5")}


@pytest.mark.slow
def test_what_jobs_share_is_made_once(tmp_path):
    assert own("shares", tmp_path, seeds=(0,)) == 0 and own("shares", tmp_path, seeds=(7,)) == 0
    assert (tmp_path / "prepared/shared/attempts").read_text() == "x"


@pytest.mark.slow
def test_jobs_whose_share_cannot_be_made_fail_and_the_others_run(tmp_path):
    assert own("spoiled", tmp_path) == 1
    assert attempts(tmp_path) == {"one_good_seed0": 1}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_interrupted_it_goes_on_where_it_stopped(number, status, tmp_path):
    command = [sys.executable, "-m", "robofuse", "study", "--file", f"{OWN}:slow", "--out", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 60
    while not (tmp_path / "jobs/quick_seed0/result.json").exists() or "slow_seed0" not in attempts(tmp_path):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    if number != signal.SIGKILL:
        assert "jobs are left; the same command goes on from there" in said
    before = attempts(tmp_path)
    finished = {path.parent.name for path in tmp_path.glob("jobs/*/result.json")}
    assert "quick_seed0" in finished and len(finished) < 6
    time.sleep(2.0)  # longer than a job's nap: the jobs have died with the runner
    assert {path.parent.name for path in tmp_path.glob("jobs/*/result.json")} == finished
    assert own("slow", tmp_path) == 0
    assert all(attempts(tmp_path)[name] == before[name] for name in finished)
    assert len(table(tmp_path / "runs.csv")) == 6


@pytest.mark.slow
def test_a_folder_holds_one_study(example, tmp_path):
    with pytest.raises(ValueError, match="holds the study example, not dies; give another --out"):
        own("dies", example)
    with pytest.raises(ValueError, match="holds the study example, not dropout"):
        run_study(RunStudy("dropout", out=example, report=True))
    with pytest.raises(ValueError, match="no study in"):
        run_study(RunStudy("example", out=tmp_path, report=True))
    with pytest.raises(ValueError, match="unknown study smell; studies: dropout"):
        run_study(RunStudy("smell", out=tmp_path))
    with pytest.raises(ValueError, match="unknown method 80 %; there are no dropout, 10 %"):
        run_study(RunStudy("example", out=tmp_path, methods=("80 %",)))


def test_another_declaration_of_the_same_study_is_refused(example):
    changed = json.loads((example / "study.json").read_text())
    before = json.dumps(changed, indent=1) + "\n"
    changed["methods"]["10 %"]["dropout"] = 0.2
    (example / "study.json").write_text(json.dumps(changed))
    try:
        with pytest.raises(ValueError, match="changed by hand"):
            run_study(RunStudy(out=example, report=True))
    finally:
        (example / "study.json").write_text(before)


def test_the_page_says_what_was_measured_and_on_what(example):
    result = json.loads((example / "jobs/10-%_seed0/result.json").read_text())
    assert run_study(RunStudy(out=example, report=True)) == 0
    for name in ("report.html", "report.md"):
        text = (example / name).read_text(encoding="utf-8")
        assert "12 jobs of the kind example, with the seeds 0, 1, 2" in text
        assert f"{result['machine']['cpu']}, {result['machine']['cores']} cores (12 jobs)" in text
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in example.glob("figures/*"))
    assert len(list(example.glob("figures/*"))) == 2
    assert "src=" not in page_without_data(example / "report.html")  # it loads nothing


def page_without_data(path):
    return path.read_text(encoding="utf-8").replace('src="data:', "")


@pytest.mark.slow
def test_results_of_before_there_was_a_machine_in_them_are_read(tmp_path):
    assert own("dies", tmp_path, methods=("steady",)) == 0
    path = tmp_path / "jobs/steady_seed0/result.json"
    path.write_text(json.dumps({"metrics": json.loads(path.read_text())["metrics"]}))
    assert own("dies", tmp_path, methods=("steady",)) == 0
    assert "not noted (1 jobs)" in (tmp_path / "report.md").read_text(encoding="utf-8")
    path.write_text('{"metrics": {"success/all"')
    with pytest.raises(ValueError, match="steady_seed0/result.json is damaged"):
        own("dies", tmp_path, methods=("steady",))


def test_the_summary_is_of_the_runs(example):
    runs, summary = table(example / "runs.csv"), table(example / "summary.csv")
    of = {method: [] for method in STUDIES["example"].methods}
    for row in runs:
        of[row["method"]].append(float(row["error/-camera"]))
    line = next(row for row in summary if (row["method"], row["metric"]) == ("30 %", "error/-camera"))
    assert float(line["iqm"]) == pytest.approx(np.mean(of["30 %"]))  # of three nothing is cut off
    assert float(line["difference"]) == pytest.approx(np.mean(np.subtract(of["30 %"], of["no dropout"])))
    assert float(line["iqm_low"]) <= float(line["iqm"]) <= float(line["iqm_high"])
    assert float(line["improvement"]) == 1.0  # a smaller error is better


def searched(out, count):
    """A search of `example`, and what was tried."""
    workers = Processes(2)
    try:
        few = replace(STUDIES["example"], seeds=(0, 1))
        best, status = search(few, "no dropout", out, workers, count, console=Console(quiet=True))
    finally:
        workers.stop()
    assert status == 0
    return best, table(out / "search/no-dropout/trials.csv")


@pytest.mark.slow
def test_a_search_tries_the_same_whether_it_is_interrupted_or_not(tmp_path):
    best, tried = searched(tmp_path / "once", 10)
    searched(tmp_path / "twice", 3)
    again, rows = searched(tmp_path / "twice", 10)
    assert tried == rows and best == again and len(tried) == 10
    scores = [float(row["error/-camera"]) for row in tried]
    assert best.score == min(scores) and best.options["dropout"] > 0.3  # the camera is lost: more dropout is better
    assert len({row["dropout"] for row in tried}) == 10


def test_a_search_needs_a_space(tmp_path):
    with pytest.raises(ValueError, match="declares no space to search"):
        run_study(RunStudy("dropout", out=tmp_path, search=4))


@pytest.mark.parametrize(
    ("option", "module", "extra"), [({"ray": "local"}, "ray", "ray"), ({"search": 4}, "optuna", "search")]
)
def test_what_is_not_installed_is_named_with_its_extra(option, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeError, match=rf"pip install 'robofuse\[{extra}\]'"):
        run_study(RunStudy("example", out=tmp_path, **option))
    assert not list(tmp_path.glob("jobs/*"))
