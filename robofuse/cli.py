"""The `robofuse` command: which function each subcommand runs, and what it exits with.

Building a tyro parser needs the types of a command's options, and those live in modules that import torch. So only
the command that was asked for is loaded; of the others the parser gets a name and a line of help: `--help` is quick.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tyro

from robofuse import __version__
from robofuse.errors import INTERRUPTED, RobofuseError
from robofuse.plugins import import_requested

Options = TypeVar("Options")


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: its line in `--help`.
        run: called with its name and arguments; imports what it needs, and returns the exit status.
    """

    summary: str
    run: Callable[[str, list[str]], int | None]


def parse(options: Callable[..., Options], name: str, arguments: list[str], default: Options | None = None) -> Options:
    """Parse the arguments of a command; prints help, or what is wrong with them, and exits in these cases.

    Args:
        options: a dataclass, or a function whose arguments are the options.
        name: of the command.
        arguments: of the command.
        default: the options that are not among the arguments; by default the dataclass's own defaults.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        options,
        prog=f"robofuse {name}",
        description=COMMANDS[name].summary,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
        **given,
    )


def _load(module: str, options: str, run: str) -> Callable[[str, list[str]], int]:
    """A command whose options are a dataclass, and the function that it is given to, both of a module."""

    def start(name: str, arguments: list[str]) -> int:
        found = importlib.import_module(module)
        status = getattr(found, run)(parse(getattr(found, options), name, arguments))
        return status if isinstance(status, int) else 0

    return start


def _list(name: str, arguments: list[str]) -> None:
    from robofuse.machine import print_listing

    parse(print_listing, name, arguments)


def _doctor(name: str, arguments: list[str]) -> int:
    from robofuse.machine import run_doctor

    return parse(run_doctor, name, arguments)


def _train(name: str, arguments: list[str]) -> int:
    from robofuse.train import Train, run_train, split_defaults

    if "--seeds" in arguments:
        return _sweep(name, arguments)
    defaults, rest = split_defaults(arguments)
    return run_train(parse(Train, name, rest, defaults))


def _sweep(name: str, arguments: list[str]) -> int:
    from robofuse.study.sweep import Sweep, run_sweep
    from robofuse.train import Train, split_defaults

    sweep, rest = tyro.cli(
        Sweep,
        prog=f"robofuse {name}",
        description=COMMANDS["sweep"].summary,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
        return_unknown_args=True,
    )
    defaults, rest = split_defaults(rest)
    return run_sweep(sweep, parse(Train, "train", rest, defaults))


COMMANDS = {
    "demo": Command(
        "See a policy that comes along lose its sensors: a film, in under a minute.",
        _load("robofuse.replay", "Demo", "run_demo"),
    ),
    "list": Command("Show the tasks, robots, sensors, cameras and renderers there are.", _list),
    "doctor": Command("Show what this machine can do: packages, devices, and which renderers work.", _doctor),
    "train": Command("Train a policy that keeps working when sensors fail.", _train),
    "evaluate": Command(
        "Measure how well a policy does without each set of sensors.",
        _load("robofuse.evaluate", "Evaluate", "run_evaluate"),
    ),
    "report": Command(
        "Make one page of what `robofuse evaluate` found.", _load("robofuse.evaluate", "Report", "run_report")
    ),
    "suite": Command(
        "Score policies of several tasks under one official set of failures.",
        _load("robofuse.evaluate", "Suite", "run_suite"),
    ),
    "budget": Command(
        "Find the sensors to read within a budget of milliseconds or watts.",
        _load("robofuse.evaluate", "Budget", "run_budget"),
    ),
    "replay": Command(
        "Watch a policy work, with sensors disabled, in a video and a window.",
        _load("robofuse.replay", "Replay", "run_replay"),
    ),
    "export": Command(
        "Write a policy as ONNX, for robots without torch.", _load("robofuse.export", "Export", "run_export")
    ),
    "push": Command(
        "Upload a policy to a hub, where load finds it under hf://USER/NAME.",
        _load("robofuse.policies.push", "Push", "run_push"),
    ),
    "pretrain": Command(
        "Pretrain an encoder per sensor on simulator data, without labels.",
        _load("robofuse.train.pretrain", "Pretrain", "run_pretrain"),
    ),
    "record": Command(
        "Record demonstrations of a script or a policy, in LeRobot's layout.",
        _load("robofuse.demos", "Record", "run_record"),
    ),
    "sweep": Command(
        "Train with several seeds, and with options varied, and compare them; see also train --help.", _sweep
    ),
    "study": Command(
        "Compare methods over seeds: a grid of jobs, on this machine or a cluster, and its page.",
        _load("robofuse.study", "RunStudy", "run_study"),
    ),
}

DESCRIPTION = """Train robot policies that keep working when sensors fail.

Options of a command: robofuse COMMAND --help. Version: robofuse --version. With any command, --import FILE.py (or a
module) makes known what is yours: tasks, robots, encoders, fusions, faults."""


def _overview(arguments: Sequence[str]) -> int:
    """Print the help, or what is wrong with the arguments, and exit."""

    def placeholder(summary: str) -> Callable[[], None]:
        def unloaded() -> None:
            raise AssertionError("the command was asked for but not loaded")

        unloaded.__doc__ = summary
        return unloaded

    commands = {name: placeholder(command.summary) for name, command in COMMANDS.items()}
    choose = tyro.extras.subcommand_cli_from_dict
    return choose(commands, prog="robofuse", description=DESCRIPTION, args=arguments or ["--help"]) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `robofuse` command.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        Exit status: 0 fine, 1 the command found something wrong, 2 a mistake of the caller, 130 ended by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"robofuse {__version__}")
        return 0
    try:
        arguments = import_requested(arguments)
        if not arguments or arguments[0] not in COMMANDS:
            return _overview(arguments)
        name, *rest = arguments
        return COMMANDS[name].run(name, rest) or 0
    except RobofuseError as error:
        text = str(error)
        if not text.endswith("^"):  # which points at a place in the line above
            text = " ".join(text.split())
        return _failed(text)
    except ImportError:
        from robofuse.machine import unmet_requirements

        unmet = unmet_requirements()
        if not unmet:
            raise
        return _failed("; ".join(unmet))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _failed(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
