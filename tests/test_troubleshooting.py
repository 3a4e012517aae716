"""The page of troubles quotes messages that exist: every quoted one is searched in the source that gives it."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
# a term of a definition list: the message in backquotes, then the package that gives it, if it is not ours
TERM = re.compile(r"^(`+) ?(.+?) ?\1(?:[^\n]*?\(([\w.]+)\))?[^\n]*\n: ", flags=re.MULTILINE)
MESSAGES = [(found[2], found[3] or "robofuse") for found in TERM.finditer(PAGE)]
GAP = "…"  # what differs from case to case


@cache
def texts(package):
    """Every text of a package's source but docstrings, with a gap for each value that is put into it."""
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    found = []
    for path in Path(folder).rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                found.append(node.value)
    return found


def is_given(message, package):
    """Whether a text of the source has the parts between the gaps, in this order."""
    parts = [part for part in message.split(GAP) if part.strip(" :;,.()'×")]
    pattern = re.compile(".*".join(map(re.escape, parts)), flags=re.DOTALL)
    return bool(parts) and any(pattern.search(text) for text in texts(package))


@pytest.mark.parametrize(("message", "package"), MESSAGES)
def test_quoted_messages_are_given(message, package):
    assert is_given(message, package), f"no text of {package} says this any more"


def test_messages_that_nobody_gives_are_found():
    assert is_given("unknown sensor …; sensors: …", "robofuse")
    assert not is_given("unknown sensors …; sensors: …", "robofuse")
    assert not is_given("sensors: … unknown sensor …", "robofuse")
    assert not is_given("…", "robofuse")


def test_every_message_of_the_page_is_looked_for():
    quoted = [line for line in PAGE.splitlines() if line.startswith("`")]
    assert len(quoted) == len(MESSAGES) > 40
