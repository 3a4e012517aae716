import contextlib
import io
import json
import re
from importlib import metadata

import pytest

from robofuse import __version__, cli, machine


@pytest.fixture(scope="module")
def report():
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert cli.main(["doctor", "--json"]) == 0
    return json.loads(told.getvalue())


@pytest.mark.slow
def test_doctor_finds_a_renderer_that_works(report):
    assert any(outcome["works"] and outcome["ms_per_frame"] > 0 for outcome in report["renderers"])


@pytest.mark.slow
def test_doctor_explains_what_does_not_work(report):
    assert report["renderers"]
    for outcome in report["renderers"]:
        assert outcome["works"] or (outcome["reason"] and outcome["advice"])


@pytest.mark.slow
def test_doctor_reports_the_machine(report):
    assert report["robofuse"] == __version__
    assert report["cores"] >= 1 and report["memory_gib"] > 0
    assert report["packages"]["torch"] and report["packages"]["mujoco"]


def probe(code, monkeypatch, timeout_s=20.0):
    """Runs a probe whose process runs `code` instead of a renderer."""
    monkeypatch.setattr(machine, "PROBE", ("-c", code))
    return machine.run_probe(machine.Probe("gl", "fake", {}, "buy a new one", timeout_s))


def test_probe_survives_an_abort(monkeypatch):
    outcome = probe("import os; os.abort()", monkeypatch)
    assert not outcome["works"]
    assert "SIGABRT" in outcome["reason"]
    assert outcome["advice"] == "buy a new one"


def test_probe_survives_a_hang(monkeypatch):
    outcome = probe("import time; time.sleep(60)", monkeypatch, timeout_s=0.5)
    assert outcome["reason"] == "no answer within 0.5 s"


def test_probe_reports_the_last_line_of_an_error(monkeypatch):
    outcome = probe("raise RuntimeError('no such device')", monkeypatch)
    assert outcome["reason"] == "RuntimeError: no such device"


def test_probe_reads_the_speed_after_a_banner(monkeypatch):
    outcome = probe("""print('Warp 1.2 initialized'); print('{"ms_per_frame": 0.5}')""", monkeypatch)
    assert outcome["works"] and outcome["ms_per_frame"] == 0.5 and not outcome["advice"]


@pytest.mark.slow
def test_everything_required_is_installed(report):
    assert report["unmet"] == []


def test_doctor_names_packages_that_are_too_old_or_missing(monkeypatch, capsys):
    version = metadata.version

    def old(package):
        if package == "scipy":
            raise metadata.PackageNotFoundError
        return {"mujoco": "3.2.7", "onnxruntime": "1.0"}.get(package) or version(package)

    monkeypatch.setattr(metadata, "version", old)
    unmet = machine.unmet_requirements()
    assert [line.partition(",")[0] for line in unmet] == [
        "mujoco 3.2.7 is installed",
        "scipy is missing",
        "onnxruntime 1.0 is installed",  # of an extra, but what is installed does not serve
    ]
    assert "robofuse needs mujoco>=3.3" in unmet[0]
    monkeypatch.setattr(machine, "probes", lambda: [])
    nothing = {"devices": [], "torch": None, "driver": None, "warp": None, "advice": ""}
    monkeypatch.setattr(machine, "examine_cuda", lambda: nothing)
    assert machine.run_doctor() == 1 and unmet[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("torch", "driver", "devices", "advice"),
    [
        ("12.8", "12.8", ["H100"], ""),
        ("12.8", "12.4", ["H100"], ""),
        ("12.8", "12.2", ["H100"], "graphs need 12.4"),
        ("13.0", "12.8", [], "the driver runs CUDA up to 12.8, torch needs 13.0"),
        ("12.8", "13.0", [], "CUDA_VISIBLE_DEVICES"),
        (None, "12.8", [], "built without CUDA; install one for CUDA up to 12.8"),
        ("12.8", None, [], "no NVIDIA driver was found"),
        (None, None, [], "no NVIDIA driver was found.*built without CUDA"),
    ],
)
def test_what_to_do_for_a_gpu(torch, driver, devices, advice):
    said = machine.cuda_advice({"torch": torch, "driver": driver, "devices": devices})
    assert re.search(advice, said) and bool(said) == bool(advice)
