"""The `robofuse` command.

Building a tyro parser needs the types of a command's options, and those live in
modules that import torch. So only the command that was asked for is loaded; of
the others the parser gets a name and a line of help. That keeps `--help` quick.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import tyro

from robofuse import __version__
from robofuse.errors import RobofuseError
from robofuse.plugins import import_requested

Run = Callable[..., int | None]


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        summary: what `--help` says of it.
        load: imports what it needs and returns the function that runs it, or several by name.
        reads: whether `load` takes the arguments, because defaults depend on them.
    """

    summary: str
    load: Callable[..., Run | dict[str, Run]]
    reads: bool = False


def _load_list() -> Run:
    from robofuse.listing import print_listing

    def run() -> None:
        print_listing()

    return run


def _load_doctor() -> Run:
    from robofuse.doctor import run_doctor

    def run(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
        """Examines this machine.

        Args:
            json: Print one JSON object instead of tables.

        Returns:
            Exit status.
        """
        return run_doctor(as_json=json)

    return run


def _load_evaluate() -> Run:
    from robofuse.evaluate import Evaluate, run_evaluate

    def run(config: tyro.conf.OmitArgPrefixes[Evaluate]) -> int:
        """Measures how well a policy does without each set of sensors, on the same scenes."""
        return run_evaluate(config)

    return run


def _load_report() -> Run:
    from robofuse.report import Report, run_report

    def run(config: tyro.conf.OmitArgPrefixes[Report]) -> int:
        """Makes one page of what evaluations found: verdict, curves, tables, the worst scenes."""
        return run_report(config)

    return run


def _load_replay() -> Run:
    from robofuse.replay.command import Replay, run_replay

    def run(config: tyro.conf.OmitArgPrefixes[Replay]) -> None:
        """Shows a policy at work, in a video and a window, with sensors disabled."""
        run_replay(config)

    return run


def _load_export() -> Run:
    from robofuse.export import Export, run_export

    def run(config: tyro.conf.OmitArgPrefixes[Export]) -> int:
        """Writes a policy as ONNX, for robots without torch."""
        return run_export(config)

    return run


def _load_record() -> Run:
    from robofuse.demos import Record, run_record

    def run(config: tyro.conf.OmitArgPrefixes[Record]) -> int:
        """Records demonstrations of a script or a policy, in LeRobot's layout."""
        return run_record(config)

    return run


def _load_train(arguments: Sequence[str]) -> Run:
    from robofuse.train import Train, defaults_for, run_train

    def run(config: tyro.conf.OmitArgPrefixes[Train] = defaults_for(arguments)) -> int:  # noqa: B008
        """Trains a policy that keeps working when sensors fail."""
        return run_train(config)

    return run


COMMANDS = {
    "list": Command("Show the tasks, robots, sensors, cameras and renderers there are.", _load_list),
    "doctor": Command("Show what this machine can do: packages, devices, and which renderers work.", _load_doctor),
    "train": Command("Train a policy that keeps working when sensors fail.", _load_train, reads=True),
    "evaluate": Command("Measure how well a policy does without each set of sensors.", _load_evaluate),
    "report": Command("Make one page of what `robofuse evaluate` found.", _load_report),
    "replay": Command("Watch a policy work, with sensors disabled, in a video and a window.", _load_replay),
    "export": Command("Write a policy as ONNX, for robots without torch.", _load_export),
    "record": Command("Record demonstrations of a script or a policy, in LeRobot's layout.", _load_record),
}

DESCRIPTION = """Train robot policies that keep working when sensors fail.

Options of a command: robofuse COMMAND --help. Version: robofuse --version. With any command, --import FILE.py (or a
module) makes known what is yours: tasks, robots, encoders, fusions, faults."""


def _placeholder(summary: str) -> Run:
    """Returns a command that stands in the help for one that is not loaded."""

    def unloaded() -> None:
        raise AssertionError("the command was asked for but not loaded")

    unloaded.__doc__ = summary
    return unloaded


def _run(arguments: Sequence[str]) -> int:
    choose = tyro.extras.subcommand_cli_from_dict
    if not arguments or arguments[0] not in COMMANDS:
        overview = {name: _placeholder(command.summary) for name, command in COMMANDS.items()}
        # Prints help or says what is wrong with the arguments, and exits either way.
        return choose(overview, prog="robofuse", description=DESCRIPTION, args=arguments or ["--help"]) or 0
    name, *rest = arguments
    command = COMMANDS[name]
    loaded = command.load(rest) if command.reads else command.load()
    prog = f"robofuse {name}"
    if isinstance(loaded, dict):
        return choose(loaded, prog=prog, description=command.summary, args=rest or ["--help"]) or 0
    return tyro.cli(loaded, prog=prog, description=command.summary, args=rest) or 0


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
        return _run(import_requested(arguments))
    except RobofuseError as error:
        text = str(error)
        if not text.endswith("^"):  # which points at a place in the line above
            text = " ".join(text.split())
        print(f"error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
