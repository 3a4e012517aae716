"""Put a trained policy into the package: the weights that acting needs, and a card that says where they come from.

python scripts/ship.py runs/arm grasp --evaluation evaluation/arm
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from robofuse.evaluate.run import BESIDE, MONITOR
from robofuse.monitor import Monitor
from robofuse.play import fingerprint
from robofuse.policies.saving import ZOO, load, save

_TABLE = "| condition | success | 95 % interval | episodes |\n|---|---|---|---|\n"


@dataclass(frozen=True)
class Ship:
    """What to ship.

    Attributes:
        policy: Policy file or run folder.
        name: What `robofuse replay NAME` will know it by.
        evaluation: Folder that `robofuse evaluate` wrote for exactly this policy; if it was done with a health monitor,
            that goes along.
    """

    policy: tyro.conf.Positional[str]
    name: tyro.conf.Positional[str]
    evaluation: Path


def _line(row: dict[str, Any]) -> str:
    interval = f"{row['success_low']:.1%} to {row['success_high']:.1%}"
    return f"| {row['condition']} | {row['success']:.1%} | {interval} | {row['n']} |\n"


def _without_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the training without the folders of the machine it ran on."""
    kept = {name: value for name, value in options.items() if name not in ("out", "resume")}
    learning = kept.get("learning", {})
    return {**kept, "learning": {**learning, "teacher": Path(str(learning.get("teacher", "none"))).name}}


if __name__ == "__main__":
    ship = tyro.cli(Ship)
    policy, record = load(ship.policy, "cpu"), json.loads((ship.evaluation / "evaluation.json").read_text())
    if record["policy"]["weights"] != fingerprint(policy) or not record["complete"]:
        raise SystemExit(f"error: {ship.evaluation} is incomplete, or of another policy")
    table = _TABLE + "".join(_line(row) for row in record["conditions"])
    card = {**policy.card, "options": _without_paths(policy.card.get("options", {}))}
    how = {
        key: card.get(key)
        for key in ("date", "steps", "seconds", "validation_seconds", "teacher", "machine", "versions", "options")
    }
    what = f"{policy.world['task']} with the {policy.world['robot']}, sensors {', '.join(policy.keys)}"
    head = f"# {ship.name}\n\n{what}.\n\n"
    scenes = f"{record['scenes']} scenes of seed {record['seed']}, the same in every row, deterministic actions:"
    made = json.dumps({"world": policy.world, **how}, indent=1)
    ZOO.mkdir(exist_ok=True)
    save(policy.network, ZOO / f"{ship.name}.safetensors", policy.world, card, strip_critic=True)
    (ZOO / f"{ship.name}.md").write_text(f"{head}{scenes}\n\n{table}\nHow it was made:\n\n```json\n{made}\n```\n")
    if (ship.evaluation / MONITOR).exists():
        Monitor.load(ship.evaluation / MONITOR).save((ZOO / ship.name).with_suffix(BESIDE))
    print(f"wrote {ZOO / ship.name}.*")
