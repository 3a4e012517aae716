"""`robofuse report`: evaluations as one page that loads nothing else, made from `templates/`."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from robofuse import __version__
from robofuse.checks import whole
from robofuse.errors import InputError, StateError
from robofuse.evaluate.findings import Hard, hardest, replay_options
from robofuse.evaluate.folder import read_evaluations
from robofuse.evaluate.results import Evaluation
from robofuse.evaluate.screen import change, number, percent, points, span
from robofuse.evaluate.sections import Films, sections_of
from robofuse.files import lock, write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment


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
    """Reads the evaluations and writes the page and its files; returns the exit status, 0.

    Raises:
        InputError: no evaluation, or one that cannot be read or compared; says what would be right.
    """
    whole(config.videos, "videos", 0)
    if not config.folders:
        raise InputError("name at least one folder that `robofuse evaluate` has written")
    if config.out.suffix.lower() not in (".html", ".htm") or config.out.is_dir():
        raise InputError(f"the page must be a file whose name ends in .html, got {config.out}")
    evaluations = read_evaluations(config.folders)
    if config.policy and len(config.policy) != len(evaluations):
        raise InputError(f"one --policy per evaluation: {len(evaluations)} evaluations, {len(config.policy)} policies")
    beside = config.out.with_name(f"{config.out.stem}_files")
    with lock(beside, "report"):  # fails before filming if the folder cannot be written
        made = f"Written by robofuse {__version__} on {datetime.now(UTC):%Y-%m-%d}."
        page, files = build(evaluations, films_of(config, evaluations), made, beside.name)
        for name, content in files.items():
            write_atomic(beside / name, content)
        write_atomic(config.out, page)
    told = f"wrote {config.out} ({len(page) / 1e6:.1f} MB) and {beside}/ ({len(files)} files)"
    Console(highlight=False, markup=False, soft_wrap=True).print(told)
    return 0


def build(
    evaluations: Sequence[Evaluation], films: Films, made: str, beside_folder: str
) -> tuple[bytes, dict[str, bytes]]:
    """The page, and the files beside it (in a folder of this name). The first evaluation is compared with the others.

    `made` is the last line: by what and when.
    """
    sections = sections_of(evaluations, films)
    html = (
        templates("robofuse.evaluate")
        .get_template("page.html")
        .render(sections=sections, labels=[one.label for one in evaluations], made=made, beside_folder=beside_folder)
    )
    files = {name: content for section in sections for name, content in section.files.items()}
    return html.encode("utf-8", "replace"), files


def templates(*packages: str) -> "Environment":
    """The templates of these packages, those of the first one first; what they are given is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,  # names come from files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"percent": percent, "span": span, "points": points, "number": number, "change": change}
    return pages


def films_of(config: Report, evaluations: Sequence[Evaluation]) -> Films:
    """Films of the hardest scenes, if they were asked for."""
    found: dict[tuple[str, int], tuple[bytes, bool] | str] = {}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    names = config.policy or [one.record.asked_policy for one in evaluations]
    for one, name in zip(evaluations, names, strict=True):
        for hard in hardest(one, config.videos):
            console.print(f"{one.label}: filming scene {hard.scene} under {hard.failed[0].condition}")
            try:
                found[one.label, hard.scene] = film(one, name, hard)
            except (ValueError, RuntimeError) as error:  # the rest of the report is good without it
                found[one.label, hard.scene] = str(error)
                console.print(f"no video: {error}", style="yellow")
    return found


def film(evaluation: Evaluation, policy: str, hard: Hard) -> tuple[bytes, bool]:
    """An MP4 of a scene under the first of its conditions, and whether it succeeded this time.

    `policy` is a name or path; it must have the weights that were evaluated.

    Raises:
        InputError: there is no such policy, or it is another one than was evaluated.
        StateError: this machine cannot draw or encode it.
    """
    from robofuse.play import fingerprint, load_trained
    from robofuse.replay.run import Replay, run_replay

    if fingerprint(load_trained(policy, device="cpu").policy) != evaluation.record.policy.weights:
        raise InputError(
            f"policy {policy} is not the one of {evaluation.folder}: its weights differ; name that one with --policy"
        )
    disable, faults = replay_options(hard.failed[0])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "scene.mp4")
        ends = run_replay(
            Replay(
                policy=policy,
                disable=disable,
                faults=faults,
                episodes=1,
                episode=hard.scene,
                seed=evaluation.record.seed,
                out=out,
                show="no",
            )
        )
        if not ends:
            raise StateError(f"the replay of scene {hard.scene} was stopped")
        return out.read_bytes(), bool(ends[0].success)
