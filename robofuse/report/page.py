"""The page: one HTML file that loads nothing, and the files beside it."""

from collections.abc import Sequence
from typing import NamedTuple

from robofuse.report.evaluation import Evaluation
from robofuse.report.gaps import missing
from robofuse.report.markup import Html, join, tag
from robofuse.report.sections.beside import beside
from robofuse.report.sections.dead import dead
from robofuse.report.sections.faults import faults
from robofuse.report.sections.known import known
from robofuse.report.sections.method import method, missing_section
from robofuse.report.sections.monitor import monitor
from robofuse.report.sections.scenes import Films, scenes
from robofuse.report.sections.short import short
from robofuse.report.style import STYLE


class Page(NamedTuple):
    """What to write.

    Attributes:
        html: the page.
        files: name → content of its pictures and tables, to be kept beside it.
    """

    html: str
    files: dict[str, bytes]


def build(evaluations: Sequence[Evaluation], films: Films, made: str, beside_folder: str) -> Page:
    """The page.

    Args:
        evaluations: of the same scenes.
        films: see `sections.scenes`.
        made: by what and when, for the last line.
        beside_folder: name of the folder that gets the files.
    """
    gaps = [missing(one) for one in evaluations]
    parts = [
        short(evaluations, sum(map(len, gaps))),
        dead(evaluations),
        faults(evaluations),
        known(evaluations),
        beside(evaluations),
        monitor(evaluations),
        scenes(evaluations, films),
        missing_section(evaluations, gaps),
        method(evaluations),
    ]
    there = [part for part in parts if part is not None]
    names = " and ".join(one.label for one in evaluations)
    title = f"When sensors fail: {names}"
    contents = tag("ul", *(tag("li", tag("a", part.title, href=f"#{part.anchor}")) for part in there))
    body = [
        tag("h1", title),
        tag("nav", contents, aria_label="Contents"),
        *(tag("section", tag("h2", part.title), "\n", part.body, id=part.anchor) for part in there),
        tag("footer", f"{made} Pictures and tables of this page as files: {beside_folder}/"),
    ]
    head = [
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Html(STYLE)),
    ]
    text = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{join(head)}\n</head>\n<body>\n{join(body)}\n</body>\n</html>\n'
    files = {name: content for part in there for name, content in part.files.items()}
    return Page(text, files)
