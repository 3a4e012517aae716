"""The README's snippets run as they stand."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet(number, capsys, needs_gl):
    if 'load("' in SNIPPETS[number]:
        needs_gl()  # the policy that comes along was trained on its pictures
    exec(compile(SNIPPETS[number], f"README.md, snippet {number}", "exec"), {"__name__": "readme"})


def test_there_are_snippets_and_their_files_exist():
    assert len(SNIPPETS) >= 3
    for path in re.findall(r"\]\((docs/[^)]+)\)|`((?:robofuse|scripts|tests)/[^`:]+\.\w+)", TEXT):
        assert (Path(__file__).parents[1] / "".join(path)).exists(), path
