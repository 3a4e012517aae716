"""`robofuse report`: evaluations as one page."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from robofuse import __version__
from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.report.evaluation import Evaluation


@dataclass(frozen=True)
class Report:
    """What to report.

    Attributes:
        folders: Of evaluations, or with evaluations in them; the first policy is the one that others are compared with.
        out: The page; its pictures and tables go to a folder beside it, NAME_files.
        videos: Film that many of the scenes that fail first, per policy; takes a minute each.
        policy: To film, one per evaluation, where they are no longer where they were evaluated.
    """

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER [FOLDER ...]")]
    out: Path = Path("report.html")
    videos: int = 0
    policy: tuple[str, ...] = ()


def run_report(config: Report) -> int:
    """Read the evaluations, write the page and what belongs to it.

    Args:
        config: what to report.

    Returns:
        Exit status, 0.

    Raises:
        ValueError: no evaluation, or one that cannot be read or compared; says what would be right.
    """
    from robofuse.report.page import build
    from robofuse.report.read import read_all

    whole(config.videos, "videos", 0)
    if not config.folders:
        raise InputError("name at least one folder that `robofuse evaluate` has written")
    if config.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the page must end in .html, got {config.out}")
    evaluations = read_all(config.folders)
    if config.policy and len(config.policy) != len(evaluations):
        raise InputError(f"one --policy per evaluation: {len(evaluations)} evaluations, {len(config.policy)} policies")
    console = Console(highlight=False, soft_wrap=True)
    films = films_of(config, evaluations)
    beside = config.out.with_name(f"{config.out.stem}_files")
    made = f"Written by robofuse {__version__} on {datetime.now(UTC):%Y-%m-%d}."
    page = build(evaluations, films, made, beside.name)
    try:
        beside.mkdir(parents=True, exist_ok=True)
        for name, content in page.files.items():
            (beside / name).write_bytes(content)
        config.out.write_text(page.html, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {error.filename or config.out}: {error.strerror}; give another --out") from None
    size = len(page.html.encode()) / 1e6
    console.print(f"wrote {config.out} ({size:.1f} MB) and {beside}/ ({len(page.files)} files)", markup=False)
    return 0


def films_of(config: Report, evaluations: list[Evaluation]) -> dict[tuple[str, int], tuple[bytes, bool] | str]:
    """What `sections.scenes` shows, by policy and scene: a film and whether it succeeded, or why there is none."""
    if not config.videos:
        return {}
    from robofuse.report.films import film
    from robofuse.report.findings import hardest

    console = Console(highlight=False, soft_wrap=True)
    found: dict[tuple[str, int], tuple[bytes, bool] | str] = {}
    names = config.policy or [one.policy for one in evaluations]
    for one, name in zip(evaluations, names, strict=True):
        for hard in hardest(one, config.videos):
            console.print(f"{one.label}: filming scene {hard.scene} under {hard.failed[0].name}", markup=False)
            try:
                found[one.label, hard.scene] = film(one, name, hard)
            except (ValueError, RuntimeError) as error:  # the rest of the report is good without it
                found[one.label, hard.scene] = str(error)
                console.print(f"no video: {error}", markup=False, style="yellow")
    return found
