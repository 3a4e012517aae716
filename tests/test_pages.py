"""The snippets of the README and the how-tos run as they stand, and their links lead somewhere.

The snippets of a page are run one after the other, in one folder and with the same names. Those under `<!-- slow -->`
are left to slow tests; those under `<!-- not run: REASON -->` are not run, but the options of their commands are read.
"""

import importlib.util
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from robofuse import cli, plugins

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]}
FENCE = re.compile(r"^(?:<!-- (.+?) -->\n)?```([\w{}-]*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
SITE = ("{toctree}", "{eval-rst}")  # what Sphinx reads
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


class Snippet(NamedTuple):
    mark: str  # slow, or not run: why
    language: str
    code: str
    line: int


def snippets(text):
    return [
        Snippet(found[1] or "", found[2], found[3], text[: found.start(3)].count("\n"))
        for found in FENCE.finditer(text)
    ]


def commands(code):
    """The commands of a shell snippet, each a list of words."""
    parts = (part for line in code.replace("\\\n", " ").splitlines() for part in line.split("&&"))
    return [words for part in parts if (words := shlex.split(part, comments=True))]


@pytest.fixture
def alone(nothing_stays, tmp_path, monkeypatch):
    """A folder of its own that looks like the repository."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)


RUN = [(page, {""}) for page in PAGES if snippets(PAGES[page])]
RUN += [pytest.param(page, {"", "slow"}, marks=pytest.mark.slow) for page in PAGES if "<!-- slow -->" in PAGES[page]]


@pytest.mark.parametrize(("page", "marks"), RUN)
def test_snippets_run(page, marks, alone, monkeypatch, needs_gl):
    if 'load("grasp' in PAGES[page]:
        needs_gl()  # the policy that comes along was trained on its pictures
    names = {"__name__": "page"}
    for snippet in snippets(PAGES[page]):
        if snippet.mark not in marks or snippet.language in SITE:
            continue
        if snippet.language == "python":  # the empty lines make tracebacks point at the page
            exec(compile("\n" * snippet.line + snippet.code, ROOT / page, "exec"), names)
            continue
        for program, *words in commands(snippet.code):
            if program == "python":
                monkeypatch.setattr(sys, "argv", words)
                runpy.run_path(words[0], run_name="__main__")
            else:
                assert program == "robofuse" and cli.main(words) == 0


class Parsed(Exception):
    """The options of a command exist; it is not run."""


def check(words, monkeypatch):
    """Whether a command that is not run exists, and takes these options."""
    program, *words = words
    if program == "torchrun":  # torchrun … -m robofuse COMMAND …
        program, *words = words[words.index("-m") + 1 :]
    if program == "robofuse":
        arguments = plugins.import_requested(words)
        parse = cli.parse

        def only_parse(*options, **more):
            parse(*options, **more)
            raise Parsed

        with monkeypatch.context() as patch, pytest.raises(Parsed):
            patch.setattr(cli, "parse", only_parse)
            cli.main(arguments)
    elif program == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1].partition(".")[0]), words
    elif program in ("bash", "python"):
        assert (ROOT / words[0]).exists(), words
        source = (ROOT / words[0]).read_text()
        assert all(word in source for word in words[1:] if word.startswith("-")), words
    else:
        assert program == "pip" and words[0] == "install"
        assert all(extra in EXTRAS for word in words for extra in re.findall(r"robofuse\[(\w+)\]", word))


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- not run" in PAGES[page]])
def test_options_of_what_is_not_run(page, alone, monkeypatch):
    for snippet in snippets(PAGES[page]):
        if snippet.mark not in ("", "slow"):
            assert re.fullmatch(r"not run: .{10,}", snippet.mark) and snippet.language == "sh"
            for words in commands(snippet.code):
                check(words, monkeypatch)


def test_options_that_do_not_exist_are_found(alone, monkeypatch):
    check(["robofuse", "evaluate", "grasp", "--episodes", "3"], monkeypatch)
    with pytest.raises(SystemExit):
        check(["robofuse", "evaluate", "grasp", "--episode-number", "3"], monkeypatch)
    with pytest.raises(AssertionError):
        check(["python", "scripts/examples/fetch.py", "--paces", "3"], monkeypatch)


@pytest.mark.parametrize("page", PAGES)
def test_files_and_links_exist(page):
    text = PAGES[page]
    assert len(FENCE.findall(text)) * 2 == text.count("```")
    assert {snippet.language for snippet in snippets(text)} <= {"python", "sh", *SITE}
    for path in re.findall(r"`((?:robofuse|scripts|tests|docs)/[^`:* ]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            path = ((ROOT / page).parent / file).resolve() if file else ROOT / page
            assert path.exists(), target
            if anchor:
                titles = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
                assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target
    for extra in re.findall(r"pip install 'robofuse\[(\w+)\]'", text):
        assert extra in EXTRAS


INDEX = "docs/index.md"
OF_THE_SITE = {"README.md", INDEX, "docs/reference.md"}  # reached from the site's contents


def test_readme_is_short_and_names_every_page():
    assert len(PAGES["README.md"].splitlines()) <= 300
    assert all(f"]({page})" in PAGES["README.md"] for page in PAGES if page not in OF_THE_SITE)
    assert len(PAGES) > 7 and sum(len(snippets(text)) for text in PAGES.values()) > 25


def test_every_page_is_in_the_contents_of_the_site():
    contents = {line for fence in snippets(PAGES[INDEX]) for line in fence.code.splitlines()}
    assert {Path(page).stem for page in PAGES.keys() - {"README.md", INDEX}} <= contents
