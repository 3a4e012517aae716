"""Evaluations from their folders, checked: whatever a file says wrongly is named, not guessed."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from robofuse.errors import InputError
from robofuse.report.evaluation import Condition, Episode, Evaluation

RECORD, EPISODES, CONDITIONS = "evaluation.json", "episodes.csv", "conditions.csv"
_NEEDED = "it must be JSON with policy (name, keys), world and seed"
GROUPS = ("all", "dead", "dying", "fault")
_STRIKE = re.compile(r"(?P<sensor>\w+):(?P<fault>\w+)(\((?P<severity>[\d.e-]+)\))?(@(?P<onset>\d+))?(?P<told>[!?])?")


def read_all(folders: Sequence[Path]) -> list[Evaluation]:
    """The evaluations in these folders, or in their sub-folders.

    Raises:
        ValueError: no evaluation there, a file that says something wrong, or evaluations of different scenes.
    """
    places = list(dict.fromkeys(place for folder in folders for place in _places(folder)))
    found = [_read(place) for place in places]
    names = [one.label for one in found]
    found = [
        replace(one, label=f"{one.label} ({one.folder.name})") if names.count(one.label) > 1 else one for one in found
    ]
    for other in found[1:]:
        for what, first, now in (
            ("seed", found[0].record["seed"], other.record["seed"]),
            *((key, found[0].record["world"].get(key), other.record["world"].get(key)) for key in ("task", "robot")),
        ):
            if first != now:
                raise InputError(
                    f"{other.folder} has the {what} {now}, {found[0].folder} has {first}: policies are put side by "
                    "side on the same scenes only; evaluate both with the same seed, task and robot, or report them "
                    "apart"
                )
    return found


def _places(folder: Path) -> list[Path]:
    if (folder / RECORD).is_file():
        return [folder]
    inside = sorted(path.parent for path in folder.glob(f"*/{RECORD}")) if folder.is_dir() else []
    if not inside:
        raise InputError(f"no evaluation: {folder / RECORD} does not exist; `robofuse evaluate` writes such folders")
    return inside


def _read(folder: Path) -> Evaluation:
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
        policy = record["policy"]
        fits = isinstance(policy["name"], str) and all(isinstance(key, str) for key in policy["keys"])
        fits = fits and isinstance(record["world"], dict) and isinstance(record["seed"], int)
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is not an evaluation: {_NEEDED}") from None
    if not fits:
        raise InputError(f"{path} is not an evaluation: {_NEEDED}")
    played: dict[str, dict[int, Episode]] = {}
    lines, of_episodes = _table(folder / EPISODES, ("condition", "episode", "success", "steps"))
    for line, row in lines:
        try:
            played.setdefault(row["condition"], {})[int(row["episode"])] = _episode(row)
        except ValueError as error:
            raise InputError(f"{folder / EPISODES}, line {line}: {error}") from None
    lines, of_conditions = _table(folder / CONDITIONS, ("condition", "live", "dead_from", "n", "successes"))
    rows = {row["condition"]: (line, row) for line, row in lines}
    if not rows or set(played) - set(rows):
        stray = ", ".join(sorted(set(played) - set(rows))) or "any"
        raise InputError(f"{folder / CONDITIONS} lacks the conditions of {EPISODES}: {stray}")
    scenes = 0
    while all(scenes in played.get(name, ()) for name in rows):
        scenes += 1
    if not scenes:
        raise InputError(f"{folder}: no scene is finished under every condition yet; let `robofuse evaluate` go on")
    conditions = {}
    for name, (line, row) in rows.items():
        try:
            conditions[name] = _condition(row, tuple(played[name][scene] for scene in range(scenes)))
        except ValueError as error:
            raise InputError(f"{folder / CONDITIONS}, line {line}: {error}") from None
    counts = {name: len(played[name]) for name in rows}
    return Evaluation(policy["name"], folder, record, conditions, counts, frozenset(of_episodes) | of_conditions)


def _table(path: Path, needed: Iterable[str]) -> tuple[list[tuple[int, dict[str, str]]], frozenset[str]]:
    """Line numbers and rows, and the columns."""
    try:
        with path.open(newline="") as lines:
            reader = csv.DictReader(lines)
            rows = [(reader.line_num, {key: value or "" for key, value in row.items() if key}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    columns = frozenset(reader.fieldnames or ())
    if missing := [name for name in needed if name not in columns]:
        raise InputError(f"{path} has no column {', '.join(missing)}; it has {', '.join(sorted(columns)) or 'none'}")
    return rows, columns


def _episode(row: Mapping[str, str]) -> Episode:
    if row["success"] not in ("0", "1"):
        raise InputError(f"success must be 0 or 1, got {row['success']!r}")
    whole = {key: int(row[key]) if row.get(key) else None for key in ("detected", "alarms", "watched")}
    jerk = float(row["jerk"]) if row.get("jerk") else None
    return Episode(row["success"] == "1", int(row["steps"]), row.get("error", ""), jerk, **whole)


def _condition(row: Mapping[str, str], episodes: tuple[Episode, ...]) -> Condition:
    name = row["condition"]
    dead = {key: int(step) for key, _, step in (part.rpartition("@") for part in row["dead_from"].split())}
    group = row.get("group") or _group(name, dead)
    if group not in GROUPS:
        raise InputError(f"unknown group {group!r}; groups: {', '.join(GROUPS)}")
    event, severity = _strike(row) if group == "fault" else (None, None)
    live = frozenset(filter(None, row["live"].split("+")))
    found = Condition(name, group, live, dead, event, severity, episodes)
    if (int(row["n"]), int(row["successes"])) != (found.n, found.won):
        raise InputError(
            f"{name} has {row['successes']} successes of {row['n']}, but {found.won} of {found.n} in {EPISODES}; "
            "if it is being written just now, try again"
        )
    return found


def _group(name: str, dead: Mapping[str, int]) -> str:
    """Of folders from before groups were written."""
    if name == "all":
        return "all"
    return "fault" if not dead else "dying" if any(dead.values()) else "dead"


def _strike(row: Mapping[str, str]) -> tuple[tuple[str, str, str, str] | None, float | None]:
    if "fault" in row:
        if not row["fault"]:
            return None, None
        told = {"true": "announced", "1": "announced"}.get(row.get("announced", "").lower(), "not announced")
        severity = float(row["severity"]) if row.get("severity") else None
        return (row["sensor"], row["fault"], row.get("onset", ""), told), severity
    match = _STRIKE.fullmatch(row["condition"])
    if match is None:
        return None, None
    told = {"!": "announced", "?": "not announced"}.get(match["told"] or "", "")
    return (match["sensor"], match["fault"], match["onset"] or "0", told), float(match["severity"] or 1.0)
