"""The folder of an evaluation, written and read again.

`evaluation.json` says what was asked and what came out, `episodes.csv` how every episode went; these two are read, and
checked: folders come from strangers. `conditions.csv` is for other programs.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from robofuse.errors import InputError
from robofuse.evaluate.results import FORMAT, ConditionResult, Episode, Evaluation, Record, summarise
from robofuse.files import write_atomic

RECORD, EPISODES, CONDITIONS, HEATMAP = "evaluation.json", "episodes.csv", "conditions.csv", "heatmap.png"
# What must be equal for episodes of two calls to belong together.
IDENTITY = ("policy", "world", "seed", "reference", "monitor", "versions")

T = TypeVar("T")


def read_evaluation(folder: Path) -> Evaluation:
    """Reads an evaluation with at least one scene that is finished under every condition.

    Raises:
        InputError: a file is missing or says something wrong; names it, and what is wrong.
    """
    record, path = _read_record(folder), folder / EPISODES
    if not record.conditions:
        raise InputError(f"{folder / RECORD} has no conditions")
    episodes = read_episodes(folder)
    names = {row.condition: row for row in record.conditions}
    if len(names) < len(record.conditions):
        raise InputError(f"{folder / RECORD} has a condition twice")
    if stray := sorted({episode.condition for episode in episodes} - set(names)):
        raise InputError(f"{path} has conditions that {RECORD} lacks: {', '.join(stray)}")
    rows = summarise(record.conditions, episodes)
    if not rows[0].n:
        raise InputError(f"{folder}: no scene is finished under every condition yet; let `robofuse evaluate` go on")
    for claimed, row in zip(record.conditions, rows, strict=True):
        if (claimed.n, claimed.successes) != (row.n, row.successes):
            raise InputError(
                f"{folder / RECORD}: {row.condition} has {claimed.successes} successes of {claimed.n}, but "
                f"{row.successes} of {row.n} in {EPISODES}; if it is being written just now, try again"
            )
    played = dict.fromkeys(names, 0)
    for episode in episodes:
        played[episode.condition] += 1
    return Evaluation(folder, record, {row.condition: row for row in rows}, played, record.policy.name)


def read_evaluations(folders: Sequence[Path]) -> list[Evaluation]:
    """Reads the evaluations in these folders, or in their sub-folders; all of the same scenes, each with its own label.

    Raises:
        InputError: no evaluation there, a file that says something wrong, or evaluations of different scenes.
    """
    found: dict[Path, Evaluation] = {}
    for folder in folders:
        inside = [folder] if (folder / RECORD).is_file() else []
        inside = inside or sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
        if not inside:
            raise InputError(
                f"no evaluation: {folder / RECORD} does not exist; `robofuse evaluate` writes such folders"
            )
        found |= {one: read_evaluation(one) for one in inside if one not in found}
    first, *others = found.values()
    for other in others:
        for what, before, now in (
            ("seed", first.record.seed, other.record.seed),
            *((key, first.record.world.get(key), other.record.world.get(key)) for key in ("task", "robot")),
        ):
            if before != now:
                raise InputError(
                    f"{other.folder} has the {what} {now}, {first.folder} has {before}: policies are put side by side "
                    "on the same scenes only; evaluate both with the same seed, task and robot, or report them apart"
                )
    names = [one.label for one in found.values()]
    return [
        replace(one, label=f"{one.label} ({one.folder.name})") if names.count(one.label) > 1 else one
        for one in found.values()
    ]


def read_finished(folder: Path, record: Record, asked: Iterable[tuple[str, int]]) -> tuple[list[Episode], float]:
    """The episodes that an earlier call has finished, and the seconds it took.

    `record` is of this call, `asked` has condition and number of every episode that it is to play.

    Raises:
        InputError: the folder holds something else; says what differs.
    """
    if not (folder / RECORD).exists():
        if (folder / EPISODES).exists():
            raise InputError(f"{folder} has an {EPISODES} but no {RECORD}; give another --out")
        return [], 0.0
    try:
        old = _read_record(folder)
        if told := _differences(old, record):
            raise InputError(f"{folder} holds another evaluation: {told}")
        episodes = read_episodes(folder) if (folder / EPISODES).exists() else []
    except InputError as error:
        raise InputError(f"{error}; give another --out") from None
    known = set(asked)
    stray = [episode for episode in episodes if (episode.condition, episode.episode) not in known]
    if stray:
        raise InputError(
            f"{folder} holds episode {stray[0].episode} under {stray[0].condition}, which is not asked for now; "
            "ask for at least the conditions and episodes that are there, or give another --out"
        )
    return episodes, old.seconds


def write_results(folder: Path, record: Record, rows: Sequence[ConditionResult], episodes: Iterable[Episode]) -> None:
    """Writes everything but the heat map."""
    plain = [row.to_dict() for row in rows]
    told = _json(record) | {"conditions": plain}
    write_atomic(folder / RECORD, json.dumps(told, indent=1, allow_nan=False) + "\n")
    rank = {row.condition: index for index, row in enumerate(rows)}
    ordered = sorted(episodes, key=lambda episode: (rank[episode.condition], episode.episode))
    names = Episode.__struct_fields__
    table = [[_cell(getattr(episode, name)) for name in names] for episode in ordered]
    write_atomic(folder / EPISODES, csv_text(names, table))
    write_atomic(folder / CONDITIONS, csv_text(plain[0], [map(_cell, row.values()) for row in plain]))


def csv_text(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """What a cell of a CSV file says: 0 and 1 for truth, sensors joined by +, `rgb@10` for what is missing."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, tuple):
        return "+".join(value)
    return " ".join(f"{key}@{step}" for key, step in value.items()) if isinstance(value, dict) else value


def _read_record(folder: Path) -> Record:
    path = folder / RECORD
    try:
        data = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not an evaluation: {error}") from None
    found = data.get("format") if isinstance(data, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise InputError(f"{path} has format {found}, this robofuse reads {FORMAT}; evaluate again")
    return _checked(data, Record, f"{path} is not an evaluation")


def read_episodes(folder: Path) -> list[Episode]:
    """Every episode in the folder, in the order of the file. InputError for a file that says something wrong."""
    path, names = folder / EPISODES, Episode.__struct_fields__
    found: dict[tuple[str, int], Episode] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines, restkey="")
            if sorted(reader.fieldnames or ()) != sorted(names):
                found_names = ", ".join(reader.fieldnames or ["none"])
                raise InputError(f"{path} must have the columns {', '.join(names)}; it has {found_names}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                given = {name: cell for name, cell in row.items() if cell not in (None, "")}
                episode = _checked(given, Episode, where, strict=False)
                if "" in row:
                    raise InputError(f"{where}: more cells than columns")
                if (episode.condition, episode.episode) in found:
                    raise InputError(f"{where}: episode {episode.episode} under {episode.condition} is there twice")
                found[episode.condition, episode.episode] = episode
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    return list(found.values())


def _checked(data: object, kind: type[T], where: str, strict: bool = True) -> T:
    """Data as this type; InputError that says where it does not fit."""
    try:
        return msgspec.convert(data, kind, strict=strict)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        at = f"{place.strip('.`')}: " if place else ""
        raise InputError(f"{where}: {at}{what[0].lower()}{what[1:]}") from None


def _differences(old: Record, new: Record) -> str:
    """In which parts of `IDENTITY` they differ, down to the entries of dictionaries."""
    told = []
    before, now = (json.loads(json.dumps(_json(one))) for one in (old, new))  # as both would be read
    for name in IDENTITY:
        a, b = before[name], now[name]
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            parts = [part for part in {**a, **b} if a.get(part) != b.get(part)]
            told += [f"{name}.{part} {_short(a.get(part))}, now {_short(b.get(part))}" for part in parts]
        else:
            told.append(f"{name} {_short(a)}, now {_short(b)}")
    return "; ".join(told)


def _json(record: Record) -> dict[str, Any]:
    plain = {name: getattr(record, name) for name in record.__struct_fields__ if name != "conditions"}
    return plain | {"policy": msgspec.structs.asdict(record.policy)}


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
