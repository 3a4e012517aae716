"""Pieces of HTML. Whatever is not `Html` is escaped: names come from files."""

import base64
import csv
import html
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DASH = "–"


class Html(str):
    """Text that is HTML already."""


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        anchor: where links lead.
        title: its heading, plain text.
        body: what is below it.
        files: name → content, to be written beside the page.
    """

    anchor: str
    title: str
    body: Html
    files: dict[str, bytes]


def safe(value: object) -> Html:
    """As HTML."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "\n") -> Html:
    """One after the other; `between` is HTML."""
    return Html(between.join(safe(part) for part in parts))


def tag(name: str, *content: object, **attributes: str) -> Html:
    """An element; `class_` stands for class, `aria_label` for aria-label."""
    names = {key: key.rstrip("_").replace("_", "-") for key in attributes}
    given = "".join(f' {names[key]}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{join(content, '')}</{name}>")


def table(caption: object, head: Sequence[object], rows: Iterable[Sequence[object]], kind: str = "") -> Html:
    """A table in a box of its own that scrolls; the first cell of a line is its heading."""
    lines = [tag("tr", *(tag("th", cell, scope="col") for cell in head))]
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(c if is_cell(c) else tag("td", c) for c in row[1:])) for row in rows
    ]
    inner = join([tag("caption", caption), tag("thead", *lines), tag("tbody", join(body))])
    # whoever has no mouse must be able to scroll it, hence the tabindex
    return tag("div", tag("table", inner, class_=kind), class_="scroll", tabindex="0")


def is_cell(value: object) -> bool:
    """Whether this is a table's cell already."""
    return isinstance(value, Html) and value.startswith("<td")


def picture(png: bytes, alt: str, caption: object = "", kind: str = "") -> Html:
    """A figure whose picture is part of the page, at its natural width (drawn at 200 dots per inch)."""
    width = str(round(int.from_bytes(png[16:20], "big") * 96 / 200))
    image = Html(
        f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(alt)}" width="{width}">'
    )
    return tag("figure", image, *([tag("figcaption", caption)] if caption else []), class_=kind)


def details(summary: object, *content: object) -> Html:
    """What is shown on demand."""
    return tag("details", tag("summary", summary), *content)


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate in percent."""
    return DASH if rate is None else f"{100 * rate:.{digits}f}\N{NO-BREAK SPACE}%"


def span(low: float, high: float, digits: int = 1) -> str:
    """An interval of rates, in percent."""
    return f"{_signed(low, digits)} to {_signed(high, digits)}"


def points(value: float, digits: int = 1) -> str:
    """A difference of rates in percentage points, with its sign."""
    text = _signed(value, digits)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash."""
    return DASH if value is None else f"{value:.{digits}f}".replace("-", "−")


def csv_file(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode()


def file_name(*words: str) -> str:
    """A name without what file systems or shells stumble over."""
    return "-".join("".join(c if c.isascii() and c.isalnum() else "-" for c in word[:60]).strip("-") for word in words)


def _signed(value: float, digits: int) -> str:
    text = f"{100 * value:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")
