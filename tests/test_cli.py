import json
import subprocess
import sys

import pytest

from robofuse import __version__, cli
from robofuse.errors import InputError

HEAVY = {"torch", "mujoco", "warp", "stable_baselines3"}


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "robofuse.cli", *arguments], capture_output=True, text=True)


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"robofuse {__version__}\n"


def test_help_names_every_command_and_loads_none():
    code = f"""
import sys
from robofuse import cli
from robofuse.errors import InputError
try:
    cli.main(["--help"])
except SystemExit as end:
    print(end.code, [name for name in {sorted(HEAVY)} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    for name in cli.COMMANDS:
        assert name.split()[0] in done.stdout
    assert "--version" in done.stdout


def test_no_arguments_is_help(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    assert "doctor" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*name.split(), "--help"])
    assert end.value.code == 0
    assert f"robofuse {name}" in capsys.readouterr().out


def test_unknown_command_is_named():
    done = run("lst")
    assert done.returncode == 2
    assert "lst" in done.stderr and "Traceback" not in done.stderr


def test_list_shows_every_name(capsys):
    from robofuse import registration, sensors
    from robofuse.policies import ENCODERS, FUSIONS
    from robofuse.policies.regularisers import REGULARISERS

    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    for table in (registration.TASKS, registration.ROBOTS, registration.CAMERAS, registration.RENDERERS):
        assert all(name in shown for name in table)
    assert all(str(row[0]) in shown for row in sensors.describe())
    assert all(f"\n{name} " in shown for name in (*FUSIONS, *ENCODERS, *REGULARISERS))


@pytest.fixture
def run_instead(monkeypatch):
    """Runs a function of this file as `robofuse list`."""

    def main(command):
        monkeypatch.setitem(cli.COMMANDS, "list", cli.Command("Fail.", lambda *_: command()))
        return cli.main(["list"])

    return main


def test_mistake_of_the_user_is_one_line(run_instead, capsys):
    def command() -> None:
        raise InputError(
            """no camera "bak";
            there are front, wrist"""
        )

    assert run_instead(command) == 2
    assert capsys.readouterr().err == 'error: no camera "bak"; there are front, wrist\n'


def test_ctrl_c_is_one_line(run_instead, capsys):
    def command() -> None:
        raise KeyboardInterrupt

    assert run_instead(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_mistake_of_the_code_keeps_its_traceback(run_instead):
    def command() -> None:
        int("not a number")

    with pytest.raises(ValueError, match="invalid literal"):
        run_instead(command)


def test_mistake_of_a_library_keeps_its_traceback(run_instead):
    def command() -> None:
        json.loads("not JSON")

    with pytest.raises(ValueError, match="Expecting value"):
        run_instead(command)


def test_a_package_that_is_too_old_is_named_where_an_import_fails(run_instead, capsys, monkeypatch):
    def command() -> None:
        raise ImportError("cannot import name 'batch' from 'mujoco'")

    with pytest.raises(ImportError):  # everything is as required, so it is a mistake of the code
        run_instead(command)
    problem = "mujoco 3.2.0 is installed, but robofuse needs mujoco>=4.0"
    monkeypatch.setattr("robofuse.machine.unmet_requirements", lambda: [problem])
    assert run_instead(command) == 2
    assert capsys.readouterr().err == f"error: {problem}\n"
