"""How it was measured, and what was not."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robofuse.report.evaluation import Evaluation
from robofuse.report.markup import Html, Section, join, safe, table, tag

_CARD = ("steps", "seconds", "updates", "date", "validation_episodes", "algorithm")
_OPTIONS = ("task", "robot", "seed", "preset", "steps")


def method(evaluations: Sequence[Evaluation]) -> Section:
    """Command, scenes, machine, versions, what is known of the policy."""
    facts = [_facts(one) for one in evaluations]
    names = list(dict.fromkeys(name for some in facts for name in some))
    rows = [(name, *(some.get(name, "–") for some in facts)) for name in names]
    what = (
        "Every condition has the same scenes; scene k is the same for every policy. Actions are deterministic. A "
        "simulation that broke off counts as a failure. One training per policy: these figures are about its weights, "
        "not about the method that trained it."
    )
    body = [tag("p", what), table("", ["", *(one.label for one in evaluations)], rows, "wrap")]
    return Section("method", "How it was measured", join(body), {})


def missing_section(evaluations: Sequence[Evaluation], gaps: Sequence[Sequence[str]]) -> Section:
    """What was not measured, of every policy."""
    body: list[Html] = []
    for one, some in zip(evaluations, gaps, strict=True):
        if len(evaluations) > 1:
            body.append(tag("h3", one.label))
        items = [tag("li", what) for what in some]
        body.append(tag("ul", *items) if items else tag("p", "Nothing of the standard conditions."))
    if len(evaluations) == 1:
        body.append(tag("p", "There is one policy only, so nothing is put side by side."))
    return Section("missing", "What is missing", join(body), {})


def _facts(one: Evaluation) -> dict[str, Html]:
    record = one.record
    found = {
        "command": tag("code", record.get("command", "–")),
        "folder": tag("code", one.folder),
        "task and robot": safe(" with the ".join(str(record["world"].get(name, "?")) for name in ("task", "robot"))),
        "sensors": safe(", ".join(one.keys)),
        "world": safe(_plain({k: v for k, v in record["world"].items() if k not in ("task", "robot", "sensors")})),
        "seed of the scenes": safe(record["seed"]),
        "scenes": safe(
            f"{one.scenes} of {record.get('episodes', '?')} asked for, under {len(one.conditions)} conditions"
        ),
    }
    for name, key in (("note", "note"), ("device", "device"), ("written", "written")):
        if record.get(key):
            found[name] = safe(record[key])
    if isinstance(record.get("seconds"), int | float):
        found["took"] = safe(f"{record['seconds'] / 60:.1f} minutes")
    for name in ("machine", "versions", "monitor"):
        if isinstance(record.get(name), Mapping):
            found[name] = safe(_plain(record[name]))
    policy = record["policy"]
    found["weights"] = tag("code", str(policy.get("weights"))[:16])
    card = policy.get("card")
    if isinstance(card, Mapping):
        given = card.get("options")
        chosen = {f"option {k}": given[k] for k in _OPTIONS if k in given} if isinstance(given, Mapping) else {}
        for part in ("masking", "failures", "network"):
            if isinstance(given, Mapping) and isinstance(given.get(part), Mapping):
                chosen |= {f"{part}.{k}": v for k, v in given[part].items()}
        if isinstance(card.get("teacher"), Mapping):
            chosen |= {f"teacher.{k}": v for k, v in card["teacher"].items()}
        found["training, from its card"] = safe(_plain({k: card[k] for k in _CARD if k in card} | chosen) or "–")
    return found


def _plain(some: Mapping[str, Any]) -> str:
    """A dictionary as a line of text."""
    return "; ".join(f"{k} {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in some.items())
