"""Every option of a training, and named sets of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.sensors import TRUTH
from robofuse.train.groups import Hiding, Imitation, Learning, Network, Records, Scenes


@dataclass(frozen=True)
class Train:
    """What to train, and how.

    Attributes:
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        steps: Control steps of training, all worlds together.
        seed: Of scenes, masks and network; below 1000, as higher ones are for validation and evaluation.
        preset: A named set of options: default; long, of the policy grasp; quick, for a demonstration; alone,
            without a teacher; teacher, to be one. Options given beside it win.
        out: Folder of the run, by default runs/TASK-ROBOT-TIME.
        resume: Folder of a run to go on with; its options are taken from there.
        device: Of the network: auto, cpu or cuda.
        threads: For network, physics and pictures; by default one per core.
    """

    task: Annotated[str, tyro.conf.Positional] = "Grasp"
    robot: str = "arm"
    steps: int = 1_400_000
    seed: int = 0
    preset: str = "default"
    out: Path | None = None
    resume: Path | None = None
    device: str = "auto"
    threads: int | None = None
    scenes: Scenes = field(default_factory=Scenes)
    hiding: Hiding = field(default_factory=Hiding)
    network: Network = field(default_factory=Network)
    learning: Learning = field(default_factory=Learning)
    imitation: Imitation = field(default_factory=Imitation)
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        """Folders may be given as text."""
        for name in ("out", "resume"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))

    def replace(self, **options: Any) -> Self:  # noqa: ANN401
        """A copy with other values; options of every group by their plain names, such as `lr`."""
        unknown = [name for name in options if name not in dict(self.items())]
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}; options: {', '.join(name for name, _ in self.items())}")
        return _but(self, options)

    def items(self) -> Iterator[tuple[str, Any]]:
        """All options of all groups, (name, value)."""
        for part in fields(self):
            value = getattr(self, part.name)
            if is_dataclass(value):
                yield from ((inner.name, getattr(value, inner.name)) for inner in fields(value))
            else:
                yield part.name, value

    def to_dict(self) -> dict[str, Any]:
        """As JSON, by group."""
        return {name: str(x) if isinstance(x, Path) else x for name, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """From what `plain` gave and JSON made of it; options that are missing have their defaults."""
        flat: dict[str, Any] = {"ent_final": 1.0}  # what trainings did before they could be told
        for name, value in plain.items():
            flat |= value if isinstance(value, Mapping) else {name: value}
        tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in flat.items()}
        paths = {name: Path(str(tuples[name])) for name in ("out", "resume") if tuples.get(name)}
        return cls().replace(**tuples | paths)

    def check(self) -> None:
        """What nobody further down would say; ValueError."""
        if self.preset not in PRESETS:
            raise InputError(f"unknown preset {self.preset!r}; presets: {', '.join(PRESETS)}")
        whole(self.seed, "--seed", 0, 999)
        for name in ("steps", "num_envs", "n_steps", "epochs", "checkpoint_every", "validation_episodes", "token_dim",
                     "teacher_steps", "demo_epochs", "frames", "memory_size"):  # fmt: skip
            whole(dict(self.items())[name], f"--{name.replace('_', '-')}", 1)
        whole(self.learning.batch_size, "--batch-size", 2)
        whole(self.scenes.num_envs * self.learning.n_steps, "--num-envs times --n-steps", 2)
        whole(self.records.validate_every, "--validate-every", 0)
        if self.threads is not None:
            whole(self.threads, "--threads", 1)
        for width in self.network.hidden:
            whole(width, "--hidden", 1)
        for name, value in self.items():
            if name in _RANGES and value is not None:
                low, high, bracket = _RANGES[name]
                if not (low <= value <= high and (value > low or bracket == "[")):  # false for NaN, too
                    option = f"--{name.replace('_', '-')}"
                    raise InputError(f"{option} must lie in {bracket}{low:g}, {high:g}], got {value}")


_SHARE, _WEIGHT = (0.0, 1.0, "["), (0.0, 1e9, "[")
_RANGES = {
    **dict.fromkeys(("lr", "lr_final", "clip_final", "ent_final", "gamma", "gae_lambda"), _SHARE),
    **dict.fromkeys(("p", "full", "warmup", "until", "fault_share"), _SHARE),
    **dict.fromkeys(("ent_coef", "aux_coef", "vf_coef", "teacher_coef", "max_grad_norm"), _WEIGHT),
    "clip": (0.0, 10.0, "["),
    "teacher_until": (0.0, 1.0, "("),
    "target_kl": (0.0, 1e9, "("),
    "outage_steps": (1.0, 1e9, "["),
    "log_std_init": (-20.0, 2.0, "["),
}
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "teacher": {
        "steps": 600_000,
        "sensors": (TRUTH,),
        "dropout": "none",
        "lr": 1e-3,
        "epochs": 6,
        "ent_coef": 0.01,
        "ent_final": 1.0,
        "log_std_init": -0.7,
        "aux_coef": 0.0,
        "teacher": "none",
    },
    # of the policy that comes along; advice that fades so early needs that many steps
    "long": {
        "steps": 2_400_000,
        "lr": 5e-4,
        "ent_coef": 0.003,
        "ent_final": 0.3,
        "log_std_init": -1.0,
        "teacher_until": 0.45,
        "dropout": "rates",
        "rates": ("rgb=0.4", "depth=0.3", "proprio=0.25", "force=0.25"),
        "faults": ("standard",),
        "fault_share": 0.5,
        "validate_every": 200_000,
    },
    "alone": {"teacher": "none", "log_std_init": -0.7, "ent_coef": 0.003, "ent_final": 1.0},
    "quick": {
        "robot": "gripper",
        "steps": 300_000,
        "teacher_steps": 200_000,
        "validation_episodes": 16,
        # less is hidden than by default: there is no time to learn everything
        "p": 0.2,
        "full": 0.4,
    },
}
"""Presets by name: the options in which each differs from the defaults."""


def preset(name: str) -> Train:
    """The options of a preset."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; presets: {', '.join(PRESETS)}")
    return Train(preset=name).replace(**PRESETS[name])


def spoken(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option among unparsed arguments, if it is there."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _but(part: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    changes = {}
    for inner in fields(part):
        value = getattr(part, inner.name)
        if is_dataclass(value):
            changes[inner.name] = _but(value, options)
        elif inner.name in options:
            changes[inner.name] = options[inner.name]
    return replace(part, **changes)
