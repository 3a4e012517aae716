"""What an installed robofuse holds; `scripts/smoke.sh` tries it where nothing else is."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def smoke():
    spec = importlib.util.spec_from_file_location("smoke_package", SCRIPTS / "smoke_package.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_and_public_name_is_there(smoke):
    assert smoke.names().endswith("behind an extra: no module")  # all extras are installed for tests


def test_a_name_that_leads_nowhere_is_found(smoke, monkeypatch):
    from robofuse import stats

    monkeypatch.setattr(stats, "__all__", [*stats.__all__, "nonsense"])
    with pytest.raises(AttributeError, match="nonsense"):
        smoke.names()


def test_a_refusal_must_name_the_extra(smoke):
    def wrong():
        raise RuntimeError("no module named onnx")

    smoke.refused("export", lambda: (2, "pip install 'robofuse[export]'"))
    for call in (wrong, lambda: (0, "pip install 'robofuse[export]'"), lambda: None):
        with pytest.raises(AssertionError):
            smoke.refused("export", call)


@pytest.mark.slow
def test_the_wheel_in_an_empty_environment():
    done = subprocess.run(["bash", SCRIPTS / "smoke.sh"], capture_output=True, text=True)
    assert done.returncode == 0 and "Everything is there" in done.stdout, done.stdout + done.stderr
