"""The `robofuse` command: which function each subcommand runs, and what it exits with.

Building a tyro parser needs the types of a command's options, and those live in modules that import torch. So only
the command that was asked for is loaded; of the others the parser gets a name and a line of help: `--help` is quick.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import tyro

from robofuse import __version__
from robofuse.errors import INTERRUPTED, RobofuseError
from robofuse.plugins import import_requested

Options = TypeVar("Options")


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: what `--help` says of it.
        run: given its name and arguments, imports what it needs, runs it, and returns the exit status.
    """

    summary: str
    run: Callable[[str, list[str]], int | None]


def parse(options: Callable[..., Options], name: str, arguments: list[str], default: Options | None = None) -> Options:
    """Arguments to options; prints help or what is wrong with them, and exits, where that is what is to be done.

    Args:
        options: a dataclass, or a function whose arguments are the options.
        name: of the command.
        arguments: of the command.
        default: what the options are where the arguments say nothing; by default the dataclass's own defaults.
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


def _list(name: str, arguments: list[str]) -> None:
    from robofuse.machine import print_listing

    def run() -> None:
        print_listing()

    parse(run, name, arguments)


def _doctor(name: str, arguments: list[str]) -> int:
    from robofuse.machine import run_doctor

    def run(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
        """Examines this machine.

        Args:
            json: Print one JSON object instead of tables.

        Returns:
            Exit status.
        """
        return run_doctor(as_json=json)

    return parse(run, name, arguments)


def _train(name: str, arguments: list[str]) -> int:
    from robofuse.train import Train, run_train, split_defaults

    defaults, rest = split_defaults(arguments)
    return run_train(parse(Train, name, rest, defaults))


def _evaluate(name: str, arguments: list[str]) -> int:
    from robofuse.evaluate import Evaluate, run_evaluate

    return run_evaluate(parse(Evaluate, name, arguments))


def _report(name: str, arguments: list[str]) -> int:
    from robofuse.evaluate import Report, run_report

    return run_report(parse(Report, name, arguments))


def _replay(name: str, arguments: list[str]) -> None:
    from robofuse.replay.run import Replay, run_replay

    run_replay(parse(Replay, name, arguments))


def _export(name: str, arguments: list[str]) -> int:
    from robofuse.export import Export, run_export

    return run_export(parse(Export, name, arguments))


def _record(name: str, arguments: list[str]) -> int:
    from robofuse.demos import Record, run_record

    return run_record(parse(Record, name, arguments))


COMMANDS = {
    "list": Command("Show the tasks, robots, sensors, cameras and renderers there are.", _list),
    "doctor": Command("Show what this machine can do: packages, devices, and which renderers work.", _doctor),
    "train": Command("Train a policy that keeps working when sensors fail.", _train),
    "evaluate": Command("Measure how well a policy does without each set of sensors.", _evaluate),
    "report": Command("Make one page of what `robofuse evaluate` found.", _report),
    "replay": Command("Watch a policy work, with sensors disabled, in a video and a window.", _replay),
    "export": Command("Write a policy as ONNX, for robots without torch.", _export),
    "record": Command("Record demonstrations of a script or a policy, in LeRobot's layout.", _record),
}

DESCRIPTION = """Train robot policies that keep working when sensors fail.

Options of a command: robofuse COMMAND --help. Version: robofuse --version. With any command, --import FILE.py (or a
module) makes known what is yours: tasks, robots, encoders, fusions, faults."""


def _overview(arguments: Sequence[str]) -> int:
    """Prints the help, or what is wrong with the arguments, and exits either way."""

    def placeholder(summary: str) -> Callable[[], None]:
        def unloaded() -> None:
            raise AssertionError("the command was asked for but not loaded")

        unloaded.__doc__ = summary
        return unloaded

    commands = {name: placeholder(command.summary) for name, command in COMMANDS.items()}
    choose = tyro.extras.subcommand_cli_from_dict
    return choose(commands, prog="robofuse", description=DESCRIPTION, args=arguments or ["--help"]) or 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `robofuse` command.

    Args:
        argv: Arguments without the program's name; by default those of the process.

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
