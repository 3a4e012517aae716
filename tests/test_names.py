"""The names at the top of the package: what they are, that they are typed, and that looking costs nothing."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import robofuse

STUB = Path(robofuse.__file__).with_suffix(".pyi")


def test_every_name_is_the_one_of_its_package():
    names = {name: home for name, home in robofuse._HOMES.items()}
    for name, home in names.items():
        assert getattr(robofuse, name) is getattr(import_module(f"robofuse.{home}"), name), name
        assert name in dir(robofuse) and name in robofuse.__all__
    with pytest.raises(AttributeError, match="no attribute 'Grasp'"):
        robofuse.Grasp  # noqa: B018
    with pytest.raises(ImportError):
        exec("from robofuse import Grasp")


def test_the_stub_has_the_same_names_from_the_same_places():
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == robofuse._HOMES
    listed = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(ast.literal_eval(listed)) == sorted(robofuse.__all__)


def test_packages_of_the_same_kind_of_name_stay_packages():
    from robofuse import evaluate, export, replay, train

    assert all(hasattr(module, "__path__") for module in (evaluate, export, replay, train))


def test_importing_and_listing_the_package_brings_nothing_heavy():
    code = "import sys, robofuse; dir(robofuse); sys.exit(any(m in sys.modules for m in ('torch', 'mujoco', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
