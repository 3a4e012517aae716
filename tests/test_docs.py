"""The API reference: every public name has a docstring that tells of its arguments, and an entry that people find."""

import inspect
import os
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLIC = runpy.run_path(str(ROOT / "scripts" / "docs.py"))["public_modules"]()


def test_every_package_with_public_names_has_a_page():
    declaring = {path for path in (ROOT / "robofuse").rglob("__init__.py") if "__all__" in path.read_text()}
    names = {".".join(path.parent.relative_to(ROOT).parts) for path in declaring}
    assert names <= set(PUBLIC) and {"robofuse.guessing", "robofuse.sensors"} <= set(PUBLIC) and len(names) > 10
    assert all(set(import_module(name).__all__) == set(PUBLIC[name]) for name in names)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_tell_of_arguments_and_results(name):
    module = import_module(name)
    assert module.__doc__
    for key in PUBLIC[name]:
        value = getattr(module, key)
        if inspect.isclass(value):
            assert value.__doc__ and not value.__doc__.startswith(f"{key}("), key  # dataclasses make one up
        elif inspect.isroutine(value):
            signature, told = inspect.signature(value), inspect.getdoc(value) or ""
            assert told, key
            if len(signature.parameters) > 1:  # of one, the first sentence tells
                assert "\nArgs:\n" in told, key
            described = told.partition("\nArgs:\n")[2]
            if described:
                assert all(re.search(rf"^ {{4}}\**{name}: ", described, re.M) for name in signature.parameters), key
                assert "\nReturns:\n" in told or signature.return_annotation in (None, "None"), key


def test_without_pdoc_the_extra_is_named(tmp_path):
    (tmp_path / "pdoc.py").write_text("raise ModuleNotFoundError('no pdoc here', name='pdoc')")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, ROOT / "scripts" / "docs.py", "--out", tmp_path / "docs"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 2 and done.stderr == "error: pdoc is missing; pip install 'robofuse[docs]'\n"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Path in the reference → HTML, as the command writes it."""
    out = tmp_path_factory.mktemp("reference")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-W", "error", ROOT / "scripts" / "docs.py", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out / 'index.html'}\n" and not done.stderr
    assert "url=./robofuse.html" in (out / "index.html").read_text() and (out / "search.js").exists()
    return {path: path.read_text() for path in out.rglob("*.html") if path.name != "index.html"}


@pytest.mark.slow
def test_every_public_name_has_an_entry(pages):
    found = {path.name: text for path, text in pages.items()}
    assert len(found) == len(PUBLIC)
    for name, keys in PUBLIC.items():
        html = found[f"{name.rpartition('.')[2]}.html"]
        entries = dict(re.findall(r'<section id="([^"]+)">(.*?)</section>', html, flags=re.DOTALL))
        assert list(entries) == keys, name
        for key, entry in entries.items():
            told = re.search(r'<div class="docstring">(.*?)</div>', entry, flags=re.DOTALL)
            assert told and len(re.sub(r"<[^>]+>|\s", "", told[1])) > 10, f"{name}.{key}"
        assert not re.search(r"<p>(Args|Returns|Raises|Attributes):", html), name  # sections that were not understood


@pytest.mark.slow
def test_classes_tell_how_they_are_made(pages):
    found = {path.stem: text for path, text in pages.items()}
    for name in ("dropout.SensorDropout", "dropout.VecSensorDropout", "memory.SensorStack", "envs.World"):
        page, _, key = name.rpartition(".")
        assert f'id="{key}.__init__"' in found[page], name


@pytest.mark.slow
def test_links_lead_somewhere(pages):
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    crossing = 0
    for path, text in pages.items():
        for href in re.findall(r'href="([^"$]+)"', text):
            if not href.startswith(("http", "data:")):
                file, _, anchor = href.partition("#")
                target = (path.parent / file).resolve() if file else path
                assert target in anchors and (not anchor or anchor in anchors[target]), (path.name, href)
                crossing += bool(file and anchor)
        assert str(ROOT) not in text
    assert crossing > 100
