"""The Dockerfile asks for what there is; nobody builds it in the tests."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "scripts" / "Dockerfile").read_text()


def test_extras_versions_and_libraries_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"/robofuse\[([\w,-]+)\]", DOCKERFILE)
    assert set(asked.split(",")) <= set(extras)
    (torch,) = re.findall(r"torch==\S+", DOCKERFILE)
    assert torch in (ROOT / "constraints.txt").read_text().splitlines()
    script = (ROOT / "scripts" / "environment.sh").read_text()
    wanted = set(re.findall(r"\blib[a-z]+[\d.-]+\w*", script)) - {"libegl-mesa0"}  # where there is no libosmesa6
    assert {"libgl1", "libosmesa6"} < wanted <= set(re.findall(r"\blib\S+", DOCKERFILE))


def test_commands_in_its_head_are_commands():
    from robofuse.cli import COMMANDS

    told = re.findall(r"robofuse (demo|replay)\b", DOCKERFILE)
    assert set(told) == {"demo", "replay"} <= set(COMMANDS)
