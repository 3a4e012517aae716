"""Tries a robofuse that was installed without extras: names, commands, data, and what it says of missing extras.

`scripts/smoke.sh` runs it, in an environment and a folder that know nothing of the checkout.
"""

import contextlib
import importlib
import importlib.util
import io
import pkgutil
from collections.abc import Callable
from pathlib import Path

import robofuse
from robofuse import cli
from robofuse.demos import read
from robofuse.deploy import model
from robofuse.envs import World
from robofuse.faults import Plan
from robofuse.monitor import Monitor
from robofuse.policies import load, saving
from robofuse.registration import ROBOTS

EXTRAS = {"onnx", "onnxruntime", "pyarrow", "yaml", "rl_zoo3", "sb3_contrib", "gymnasium_robotics"}


def names() -> str:
    """Imports every module and fetches all that it calls public; only `robofuse.export` may need an extra to load."""
    count, behind = 0, set()
    for module in pkgutil.walk_packages(robofuse.__path__, "robofuse."):
        if module.name == "robofuse.__main__":
            continue
        try:
            found = importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS or not module.name.startswith("robofuse.export."):
                raise
            behind.add(module.name)
            continue
        public = {*getattr(found, "__all__", ()), *getattr(found, "_HOME", ())}
        count += sum(getattr(found, name) is not None for name in public)
    return f"{count} public names; behind an extra: {', '.join(sorted(behind)) or 'no module'}"


def command(*arguments: str) -> tuple[int, str]:
    """What a command returns, and all that it says."""
    with io.StringIO() as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = cli.main(arguments)
        except SystemExit as end:  # as help does
            status = int(end.code or 0)
        return status, said.getvalue()


def commands() -> str:
    """Help of every command."""
    every = [[name] for name in cli.COMMANDS]
    for words in every:
        status, said = command(*words, "--help")
        assert status == 0 and f"usage: robofuse {' '.join(words)}" in said, (words, status, said)
    return f"help of {len(every)} commands"


def data() -> str:
    """Trained policies, their monitors and the robots' bodies came along."""
    shipped = [load(name).keys for name in saving.zoo()]
    watching = [Monitor.load(path) for path in saving.ZOO.glob("*.monitor")]
    assert shipped and watching, saving.ZOO
    for robot in ROBOTS:
        world = World("Reach", 1, robot=robot, image_size=16)
        assert (world.reset()["rgb"] > 0).any()
        world.close()
    return f"{len(shipped)} policies, {len(watching)} monitor, {len(ROBOTS)} robots with pictures"


def refused(extra: str, call: Callable[[], object]) -> None:
    """The call ends in a sentence that names the extra."""
    try:
        outcome = call()
    except (RuntimeError, ValueError) as error:
        outcome = 2, str(error)
    assert isinstance(outcome, tuple) and outcome[0] == 2, (extra, outcome)
    assert f"pip install 'robofuse[{extra}]'" in outcome[1], (extra, outcome)


def extras() -> str:
    """Whatever needs an extra says which."""
    there = {name for name in EXTRAS if importlib.util.find_spec(name)}
    assert not there, f"this environment is not without extras: {there}"
    Path("plan.yaml").write_text("[]")
    refused("yaml", lambda: Plan.from_yaml("[]", []))
    refused("yaml", lambda: command("replay", "grasp", "--faults", "plan.yaml", "--show", "no"))
    refused("export", lambda: command("export", "grasp"))
    refused("deploy", lambda: model._session(b"", 1, "it"))  # a whole file would be needed to come here otherwise
    refused("lerobot", lambda: read("."))
    refused("lerobot", lambda: command("record", "grasp"))
    refused("lerobot", lambda: command("train", "Reach", "--demos", ".", "--teacher", "none"))
    return "eight refusals name their extra"


if __name__ == "__main__":
    for part in (names, commands, data, extras):
        print(part())
