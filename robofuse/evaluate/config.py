"""What `robofuse evaluate` can be asked."""

import shlex
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import tyro

from robofuse.errors import InputError

SEED = 1_000_000
TRAINING_SEEDS = 1000  # seeds below are for training


@dataclass(frozen=True)
class Evaluate:
    """What to evaluate, and how.

    Attributes:
        policy: Name of a policy that comes with robofuse, or the path of one.
        episodes: Episodes of each condition; they have the same scenes under every condition.
        conditions: Groups (everything, subsets, standard, midway) or single conditions such as all, no-rgb, only-force,
            no-depth+rgb, no-rgb@20 (from control step 20 on).
        faults: What else breaks: plans such as rgb:freeze@15 or depth:noise(0.5)+force:drift, or YAML files with such,
            each a condition of its own; standard for every fault of every sensor at four severities. `robofuse list`
            shows the faults.
        die_at: Control step at which sensors die in the group midway, and at which the faults of standard set in.
        monitor: What hides sensors that look broken: none; auto for the policy's own monitor, which is calibrated
            first if it has none; or the path of one.
        compare: Other policies, to play the same; the folder then has one for each of them.
        seed: Of the scenes. Trainings use seeds below 1000; keep away from those.
        worlds: Episodes simulated at a time.
        out: Folder for the results, by default evaluation/POLICY. If it holds a part of the same evaluation, that part
            is kept and the rest is done.
        device: Of the network: auto, cpu or cuda.
        renderer: Other renderer than the one that the policy was trained on; needs --allow-mismatch.
        allow_mismatch: Let the renderer differ.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    episodes: int = 200
    conditions: tuple[str, ...] = ("everything",)
    faults: tuple[str, ...] = ()
    die_at: int = 10
    monitor: str = "none"
    compare: tuple[str, ...] = ()
    seed: int = SEED
    num_envs: int = 64
    out: Path | None = None
    device: str = "auto"
    renderer: str | None = None
    allow_mismatch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    @property
    def name(self) -> str:
        """A short name of the policy: its own, or the last two parts of its path."""
        path = Path(self.policy)
        stem = path.stem if path.suffix in (".zip", ".pt", ".safetensors", ".onnx") else path.name
        return f"{path.parent.name}-{stem}" if path.is_file() and path.parent.name else stem

    @property
    def folder(self) -> Path:
        """Where the results go."""
        names = [self.name, *(replace(self, policy=policy).name for policy in self.compare)]
        return self.out or Path("evaluation", "-".join(names))

    def each(self) -> "list[Evaluate]":
        """One for each policy of `compare`, with folders of their own in `folder`."""
        folder, found = self.folder, list[Evaluate]()
        for policy in (self.policy, *self.compare):
            one = replace(self, policy=policy, compare=())
            taken = sum(other.name == one.name for other in found)
            if taken:
                raise InputError(f"two policies are called {one.name}; give the paths of files, or rename a folder")
            found.append(replace(one, out=folder / one.name))
        return found

    @property
    def command(self) -> str:
        """The command line that asks for this, without what is default."""
        words = ["robofuse", "evaluate", self.policy]
        for option in fields(self):
            value = getattr(self, option.name)
            if option.default is MISSING or value == option.default:
                continue
            words.append("--" + option.name.replace("_", "-"))
            if not isinstance(value, bool):
                words += map(str, value if isinstance(value, tuple) else [value])
        return shlex.join(words)
