"""The documentation site: every public name has a docstring that tells of its arguments, and an entry on the site."""

import ast
import inspect
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
PAGES = re.findall(r"^\.\. automodule:: (\S+)$", REFERENCE, flags=re.M)


def public_names(name):
    module = import_module(name)
    return [key for key in module.__all__ if not key.startswith("_")]


def public_packages():
    """Packages that offer names: by a stub, or by `__all__`."""
    for path in (ROOT / "robofuse").rglob("__init__.py*"):
        tree = ast.parse(path.read_text())
        names = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
                 if isinstance(target, ast.Name)}  # fmt: skip
        if "__all__" in names and path.parent.parent == ROOT / "robofuse":
            yield ".".join(path.parent.relative_to(ROOT).parts)


def test_every_package_with_public_names_has_a_page():
    missing = {name for name in public_packages() if public_names(name)} - set(PAGES)
    assert not missing, f"add to docs/reference.md: {sorted(missing)}"
    assert len(PAGES) == len(set(PAGES)) > 10


@pytest.mark.parametrize("name", PAGES)
def test_docstrings_name_every_argument(name):
    module = import_module(name)
    assert module.__doc__
    for key in public_names(name):
        value = getattr(module, key)
        if inspect.isclass(value):
            assert value.__doc__ and not value.__doc__.startswith(f"{key}("), key  # dataclasses make one up
        elif inspect.isroutine(value):
            signature, told = inspect.signature(value), inspect.getdoc(value) or ""
            assert told, key
            if len(signature.parameters) > 1:  # of one, the first sentence tells
                missing = [name for name in signature.parameters if not re.search(rf"\b{name}\b", told)]
                assert not missing, f"{key} says nothing of {', '.join(missing)}"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_has_every_public_name(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path / "site"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "site" / "reference.html").read_text()
    for name in PAGES:
        for key in public_names(name):
            value = getattr(import_module(name), key)
            if inspect.isclass(value) or inspect.isroutine(value):
                assert f'id="{name}.{key}"' in html, f"{name}.{key}"
    assert str(ROOT) not in html
    for page in (ROOT / "docs").glob("*.md"):
        assert (tmp_path / "site" / f"{page.stem}.html").exists()
