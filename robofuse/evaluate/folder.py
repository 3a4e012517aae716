"""The folder of an evaluation: what was asked, every episode, every condition; complete or to be gone on with."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robofuse.errors import InputError
from robofuse.evaluate.rollout import Job, Result
from robofuse.evaluate.summary import Row
from robofuse.files import write_atomic

RECORD, EPISODES, CONDITIONS, HEATMAP = "evaluation.json", "episodes.csv", "conditions.csv", "heatmap.png"
# What must be equal for episodes of two calls to belong together.
IDENTITY = ("policy", "world", "seed", "reference", "monitor", "versions")


def read_finished(folder: Path, record: Mapping[str, Any], jobs: Sequence[Job]) -> tuple[list[Result], float]:
    """The episodes that an earlier call has finished, and the seconds it took.

    Args:
        folder: of the evaluation; may not exist.
        record: what this call would write as `evaluation.json`.
        jobs: what this call is to play.

    Raises:
        ValueError: the folder holds something else; says what differs.
    """
    if not (folder / RECORD).exists():
        if (folder / EPISODES).exists():
            raise InputError(f"{folder} has an {EPISODES} but no {RECORD}; give another --out")
        return [], 0.0
    try:
        old = json.loads((folder / RECORD).read_text())
    except ValueError:
        old = None
    if not isinstance(old, dict):
        raise InputError(f"{folder / RECORD} is not an evaluation; give another --out")
    new = json.loads(json.dumps(record))  # as it would be read
    differing = [what for what in IDENTITY if old.get(what) != new[what]]
    if differing:
        raise InputError(f"{folder} holds another evaluation: {_differences(old, new, differing)}; give another --out")
    results = list(_read_episodes(folder / EPISODES))
    asked = {(job.condition.name, job.episode) for job in jobs}
    stray = [result for result in results if (result.condition, result.episode) not in asked]
    if stray:
        raise InputError(
            f"{folder} holds episode {stray[0].episode} under {stray[0].condition}, which is not asked for now; "
            "ask for at least the conditions and episodes that are there, or give another --out"
        )
    return results, float(old.get("seconds", 0.0))


def write_all(folder: Path, record: Mapping[str, Any], rows: Sequence[Row], results: Iterable[Result]) -> None:
    """Write everything but the heat map, each file at once."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = [row.to_dict() for row in rows]
    write_atomic(folder / RECORD, json.dumps({**record, "conditions": plain}, indent=1, allow_nan=False) + "\n")
    rank = {row.condition.name: index for index, row in enumerate(rows)}
    ordered = sorted(results, key=lambda result: (rank[result.condition], result.episode))
    episodes = [{**result._asdict(), "success": int(result.success)} for result in ordered]
    write_atomic(folder / EPISODES, _table(Result._fields, episodes))
    for row in plain:
        row["live"] = "+".join(row["live"])
        row["dead_from"] = " ".join(f"{key}@{step}" for key, step in row["dead_from"].items())
        row["announced"] = None if row["announced"] is None else int(row["announced"])
    write_atomic(folder / CONDITIONS, _table(tuple(plain[0]), plain))


def _table(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read_episodes(path: Path) -> Iterable[Result]:
    if not path.exists():
        return
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if set(row) != set(Result._fields):
                raise InputError(f"{path} has the columns {', '.join(map(str, row))}; give another --out")
            yield Result(
                row["condition"],
                int(row["episode"]),
                row["success"] == "1",
                int(row["steps"]),
                float(row["reward"]),
                row["error"],
                float(row["jerk"]) if row["jerk"] else None,
                int(row["detected"]) if row["detected"] else None,
                int(row["alarms"]),
                int(row["watched"]),
            )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], names: Iterable[str]) -> str:
    """What differs, down to the entries of dictionaries."""
    told = []
    for name in names:
        before, now = old.get(name), new[name]
        if isinstance(before, dict) and isinstance(now, dict):
            parts = [part for part in {**before, **now} if before.get(part) != now.get(part)]
            told += [f"{name}.{part} {_short(before.get(part))}, now {_short(now.get(part))}" for part in parts]
        else:
            told.append(f"{name} {_short(before)}, now {_short(now)}")
    return "; ".join(told)


def _short(value: Any) -> str:  # noqa: ANN401
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
