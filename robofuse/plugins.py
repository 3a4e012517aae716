"""Loads the files and modules of `--import` before a command: tasks, robots, encoders, fusions, faults."""

import importlib
import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType

from robofuse.errors import InputError

IMPORT = "--import"
_imported: list[str] = []  # as given


def import_plugin(what: str) -> ModuleType:
    """Import a file, by its path, or a module, by its dotted name; once.

    A file is imported under its own name, and may import the files beside it.

    Raises:
        InputError: no such file or module, or a file with the name of another module.
    """
    module = _file(what) if what.endswith(".py") or "/" in what else _module(what)
    if what not in _imported:
        _imported.append(what)
    return module


def import_options() -> str:
    """The `--import` options of this process, to add to a `robofuse` command that is printed; may be empty."""
    return "".join(f" {IMPORT} {shlex.quote(what)}" for what in _imported)


def import_requested(arguments: list[str]) -> list[str]:
    """Import WHAT of every `--import WHAT` and `--import=WHAT`, and return the other arguments.

    Raises:
        InputError: WHAT is missing, or cannot be found.
    """
    rest: list[str] = []
    wanted: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == IMPORT:
            what = next(left, "")
        elif argument.startswith(f"{IMPORT}="):
            what = argument.partition("=")[2]
        else:
            rest.append(argument)
            continue
        if not what or what.startswith("-"):
            raise InputError(f"{IMPORT} takes the path of a .py file or the name of a module, got {what or 'nothing'}")
        wanted.append(what)
    for what in wanted:
        import_plugin(what)
    return rest


def _file(what: str) -> ModuleType:
    path = Path(what).expanduser().resolve()
    if not path.is_file():
        beside = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        there = f"; {path.parent} has {', '.join(beside)}" if beside else ""
        raise InputError(f"{IMPORT} {what}: there is no such file{there}")
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None or name in sys.stdlib_module_names or not name.isidentifier():
        raise InputError(f"{IMPORT} {what}: {name!r} is no name for a module, or another one's; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{IMPORT} {what}: that is no Python file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last, so that it hides nothing
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(what: str) -> ModuleType:
    try:
        return importlib.import_module(what)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{what}.".startswith(f"{error.name}."):
            raise  # it is there, but imports something that is not
        hint = f"; for the file here say {IMPORT} {what}.py" if Path(f"{what}.py").is_file() else ""
        raise InputError(
            f"{IMPORT} {what}: Python finds no module of that name{hint or '; give the path of a .py file'}"
        ) from None
