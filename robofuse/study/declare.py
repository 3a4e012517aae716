"""Declarations of studies as plain data, their jobs, and in what two declarations differ."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.study.registry import Options, find_trial

STUDY = "study.json"
FORMAT = 1
Axis = Mapping[str, Options]
_ONE: Axis = {"": {}}  # an axis that nobody asked for
_AXES = ("methods", "tasks", "budgets")
_COSTS = ("parameters", "seconds")  # metrics of which less is better in every study


@dataclass(frozen=True)
class Job:
    """One cell of the grid: a trial with these options and this seed.

    Attributes:
        method: its label in the study.
        task: likewise; empty where a study has no tasks.
        budget: likewise.
        seed: of the trial.
        options: of the trial.
    """

    method: str
    task: str
    budget: str
    seed: int
    options: Options = field(hash=False)

    @property
    def name(self) -> str:
        """Of its folder: labels and seed."""
        labels = [in_files(label) for label in (self.method, self.task, self.budget) if label]
        return "_".join((*labels, f"seed{self.seed}"))


@dataclass(frozen=True)
class Study:
    """A question, and the grid of jobs that answers it: methods × tasks × budgets × seeds.

    Options are plain JSON. A job's are those of `base`, overridden by those of its task, its budget and its method.

    Attributes:
        name: on the command line, and of the folder.
        title: a few words, for the page.
        question: in one sentence.
        trial: the kind of trial that every job is, a name in `TRIALS`.
        methods: label → options; what is compared.
        base: options of all jobs.
        tasks: label → options.
        budgets: label → options, such as steps; the fewest first.
        seeds: of the jobs; methods are compared seed by seed.
        score: the main metric.
        baseline: the label of the method that the others are compared with; by default the first.
        lower_is_better: metrics, or what comes before the / in their names, of which less is better; `parameters` and
            `seconds` always.
        space: what `--search` may vary: option → ("float" or "int", low, high, whether by its logarithm), or ("choice",
            [values]).

    Raises:
        InputError: something is not as it should be; says what would be right.
    """

    name: str
    title: str
    question: str
    trial: str
    methods: Axis
    base: Options = field(default_factory=dict)
    tasks: Axis = field(default_factory=lambda: _ONE)
    budgets: Axis = field(default_factory=lambda: _ONE)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    score: str = "success/all"
    baseline: str = ""
    lower_is_better: tuple[str, ...] = ("error", "loss", "seconds")
    space: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise InputError(f"the name of a study is of letters, digits, _ and -, got {self.name!r}")
        for axis in (*_AXES, "base", "space"):
            object.__setattr__(self, axis, self._plain(axis))
        for axis in _AXES:
            options = getattr(self, axis)
            if not options or not all(isinstance(one, dict) for one in options.values()):
                raise InputError(f"study {self.name}: {axis} must be label → options, and at least one, got {options}")
            names = dict[str, str]()
            for label in options:
                if (other := names.setdefault(in_files(label), label)) != label:
                    raise InputError(
                        f"study {self.name}: the {axis} {other!r} and {label!r} would have the same file names; they "
                        "must differ in letters, digits or +-=%., within the first 60"
                    )
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        object.__setattr__(self, "baseline", self.baseline or next(iter(self.methods)))
        self._one_of("baseline", [self.baseline], self.methods)
        for option, choice in self.space.items():
            _check_space(option, choice)

    def _plain(self, axis: str) -> Any:  # noqa: ANN401
        """The options as they are read back from a file: lists for tuples, names for keys."""
        try:
            return json.loads(json.dumps(getattr(self, axis), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError(f"study {self.name}: {axis} must be plain JSON: {error}") from None

    def _one_of(self, what: str, asked: Iterable[str], known: Iterable[str]) -> None:
        if unknown := [name for name in asked if name not in known]:
            raise InputError(f"study {self.name}: unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")

    def is_lower_better(self, metric: str) -> bool:
        """Whether less of this metric is better."""
        return not {metric, metric.partition("/")[0]}.isdisjoint((*self.lower_is_better, *_COSTS))

    def jobs(self, methods: Sequence[str] = (), tasks: Sequence[str] = (), budgets: Sequence[str] = ()) -> list[Job]:
        """All jobs, or those of these methods, tasks and budgets: seed after seed, so that all methods grow together.

        Raises:
            InputError: there is no such method, task or budget; lists what there is.
        """
        asked = dict(zip(_AXES, (methods, tasks, budgets), strict=True))
        for axis, labels in asked.items():
            self._one_of(axis[:-1], labels, getattr(self, axis))
        return [
            Job(method, task, budget, seed, {**self.base, **self.tasks[task], **self.budgets[budget], **options})
            for seed in self.seeds
            for budget in asked["budgets"] or self.budgets
            for task in asked["tasks"] or self.tasks
            for method, options in self.methods.items()
            if not methods or method in methods
        ]

    def shared_name(self, task: str) -> str:
        """Of the folder of what the jobs of a task share."""
        return in_files(task) if task else "shared"

    def shared_options(self, task: str) -> Options:
        """With which it is prepared."""
        return {**self.base, **self.tasks[task]}

    def mistakes(self, job: Job) -> str:
        """What its trial does not take of the options of a job, in words; empty if it takes them all."""
        known = find_trial(self.trial).options
        unknown = [option for option in job.options if option not in known] if known else []
        return (
            f"unknown option {', '.join(unknown)}; the trial {self.trial} takes {', '.join(known)}" if unknown else ""
        )

    def digest(self) -> str:
        """A hash of all that the results of its jobs depend on, but for the seeds."""
        told = {key: getattr(self, key) for key in ("trial", "base", *_AXES)}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def check_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """The seeds, if they are at least one, each once, from 0 to 2**63 − 1; InputError otherwise."""
    found = tuple(whole(seed, "a seed", 0, 2**63 - 1) for seed in seeds)
    if not found or len(set(found)) < len(found):
        raise InputError(f"seeds must be at least one, and each once, got {', '.join(map(str, found)) or 'none'}")
    return found


def differences(old: Study, new: Study) -> list[str]:
    """In what the jobs of two declarations differ, in words; further methods, tasks, budgets and seeds are none."""
    told = [] if old.trial == new.trial else [f"trial {old.trial}, now {new.trial}"]
    told += _changes("base", old.base, new.base)
    for axis in _AXES:
        before, now = getattr(old, axis), getattr(new, axis)
        for label, options in before.items():
            if label not in now:
                told.append(f"{axis} has no {label or 'single one'} any more")
            else:
                told += _changes(f"{axis}.{label}" if label else axis, options, now[label])
    return told


def _changes(where: str, before: Options, now: Options) -> list[str]:
    return [
        f"{where}.{option} {_short(before.get(option))}, now {_short(now.get(option))}"
        for option in {**before, **now}
        if (option in before, before.get(option)) != (option in now, now.get(option))
    ]


def write_study(folder: Path, study: Study) -> Study:
    """Write the declaration into the folder of a study, and return it, with all seeds that were ever asked for.

    Raises:
        InputError: the folder holds the jobs of another declaration; says what differs.
    """
    from robofuse.files import write_atomic

    if (folder / STUDY).exists():
        old = read_study(folder)
        if told := differences(old, study):
            other = f"with another declaration: {'; '.join(told)}" if old.name == study.name else f"not {study.name}"
            raise InputError(f"{folder} holds the study {old.name}, {other}; give another --out")
        seeds = (*old.seeds, *(seed for seed in study.seeds if seed not in old.seeds))
        study = replace(study, seeds=seeds)
    elif (folder / "jobs").exists():
        raise InputError(f"{folder} has jobs but no {STUDY}; give another --out")
    told = {"format": FORMAT, "digest": study.digest(), **asdict(study)}
    write_atomic(folder / STUDY, json.dumps(told, indent=1) + "\n")
    return study


def read_study(folder: Path) -> Study:
    """The declaration in the folder of a study; InputError if there is none, or it is damaged."""
    path = folder / STUDY
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("format") != FORMAT:
            raise InputError(f"{path} is of another robofuse; run the study again into another --out")
        digest = told.pop("digest")
        study = msgspec.convert(told, Study)
    except OSError as error:
        raise InputError(f"no study in {folder}: {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not the declaration of a study: {error}") from None
    if digest != study.digest():
        raise InputError(f"{path} was changed by hand, or is damaged: its digest is that of another declaration")
    return study


def _check_space(option: str, choice: Sequence[Any]) -> None:
    kind = choice[0] if choice else None
    if kind in ("float", "int") and len(choice) == 4:
        low, high, log = choice[1:]
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        if numbers and low < high and isinstance(log, bool) and (low > 0 or not log):
            return
    elif kind == "choice" and len(choice) == 2 and isinstance(choice[1], list) and choice[1]:
        return
    raise InputError(
        f'space: {option} must be ("float" or "int", low, high, whether by its logarithm) or ("choice", [values]), '
        f"got {choice}"
    )


def in_files(label: str) -> str:
    """A label as part of a file's name, in letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9.+=%-]+", "-", label)[:60].strip("-.") or "x"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
