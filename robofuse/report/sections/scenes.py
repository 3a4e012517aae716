"""The scenes that fail first, with videos if they were asked for."""

import base64
import shlex
from collections.abc import Mapping, Sequence

from robofuse.report.evaluation import Evaluation
from robofuse.report.films import options
from robofuse.report.findings import Hard, hardest
from robofuse.report.markup import Html, Section, csv_file, file_name, join, percent, table, tag

_LISTED = 10
Films = Mapping[tuple[str, int], tuple[bytes, bool] | str]


def scenes(evaluations: Sequence[Evaluation], films: Films) -> Section | None:
    """Of every policy; `films` has (label, scene) → a film and whether it succeeded, or why there is none."""
    body: list[Html] = []
    files: dict[str, bytes] = {}
    for index, one in enumerate(evaluations, start=1):
        worst = hardest(one, _LISTED)
        if not worst:
            continue
        if len(evaluations) > 1:
            body.append(tag("h3", one.label))
        others = len(one.conditions) - 1
        rows = [
            (
                f"scene {hard.scene}",
                f"{len(hard.failed)} of {others}",
                f"{hard.failed[0].name} ({percent(hard.failed[0].success, 0)})",
                tag("code", _command(one, hard)),
            )
            for hard in worst
        ]
        text = (
            "Scenes that succeed with all sensors and fail under most conditions. The least expected failure is the "
            "one under the condition that succeeds in most other scenes, in brackets its success."
        )
        head = ("", "conditions that fail", "least expected", "to watch it")
        body.append(table(text, head, rows, "wrap"))
        name = file_name("scenes", str(index), one.label)
        plain = [(hard.scene, len(hard.failed), " ".join(c.name for c in hard.failed)) for hard in worst]
        files[f"{name}.csv"] = csv_file(("scene", "failed", "conditions"), plain)
        body += [_film(one, hard, films[one.label, hard.scene]) for hard in worst if (one.label, hard.scene) in films]
        for hard in worst:
            if isinstance(film := films.get((one.label, hard.scene)), tuple):
                files[f"{name}-{hard.scene}.mp4"] = film[0]
    return Section("scenes", "Scenes that fail first", join(body), files) if body else None


def _film(evaluation: Evaluation, hard: Hard, film: tuple[bytes, bool] | str) -> Html:
    where = f"Scene {hard.scene} under {hard.failed[0].name}"
    if isinstance(film, str):
        return tag("p", f"{where}: no video: {film}")
    content, succeeded = film
    said = "filmed: it fails." if not succeeded else "filmed anew: this time it succeeds, as rounding differs."
    if evaluation.record.get("monitor"):
        said += " No monitor looks on here."
    data = base64.b64encode(content).decode()
    video = tag("video", controls="", preload="metadata", src=f"data:video/mp4;base64,{data}", aria_label=where)
    return tag("figure", video, tag("figcaption", f"{where}, {said}"))


def _command(evaluation: Evaluation, hard: Hard) -> str:
    disable, faults = options(hard.failed[0])
    words = ["robofuse", "replay", evaluation.policy, "--seed", str(evaluation.record["seed"])]
    words += ["--episode", str(hard.scene), "--episodes", "1"]
    words += ["--disable", disable] if disable else ["--faults", faults]
    return shlex.join(words)
