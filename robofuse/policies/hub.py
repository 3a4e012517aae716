"""Policies from and to a hub of Hugging Face. Only safetensors are read from there, in which no code can hide."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

import tyro

from robofuse.errors import InputError, StateError

HUB = "hf://"
_FILE = "policy.safetensors"  # of a repository that `push` made
_NAME = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")
_HEAD = """---
library_name: robofuse
pipeline_tag: robotics
tags: [robofuse, robotics, reinforcement-learning, mujoco, sensor-fusion]
---

"""


@dataclass(frozen=True)
class Push:
    """What to upload, and where to.

    Attributes:
        policy: Name of a policy of the package, or the path of one.
        repo: USER/NAME on the hub; made if it is not there.
        private: Make it for yourself alone.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    repo: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="USER/NAME")]
    private: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def download(name: str) -> Path:
    """The file of `hf://USER/NAME`, `hf://USER/NAME/FILE.safetensors` or either with `@REVISION`, in the hub's cache.

    A monitor beside it, with the same name, comes along.

    Raises:
        InputError: another form of name; nothing there under this name, or not for this user.
        StateError: no network, or the hub does not answer; or huggingface_hub is not installed.
    """
    parts = _NAME.fullmatch(name)
    file = (parts and parts["file"]) or _FILE
    if not parts or not file.endswith(".safetensors"):
        raise InputError(
            f"a policy on the hub is {HUB}USER/NAME, {HUB}USER/NAME/FILE.safetensors, or one of them with @REVISION; "
            f"got {name!r}"
        )
    hub = _hub()
    errors, where = hub.errors, {"repo_id": parts["repo"], "revision": parts["revision"]}
    try:
        path = Path(hub.hf_hub_download(filename=file, **where))
    except errors.LocalEntryNotFoundError as error:  # first, as it is a kind of EntryNotFoundError, too
        raise StateError(f"{name} is not in the cache, and the hub cannot be reached: {_line(error)}") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise InputError(
            f"{name}: the hub has no file {file} there, or not for you (`hf auth login`): {_line(error)}"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise StateError(f"{name} cannot be fetched: {_line(error)}") from None
    try:
        hub.hf_hub_download(filename=str(Path(file).with_suffix(".monitor")), **where)
    except (errors.EntryNotFoundError, errors.HfHubHTTPError, OSError):
        pass  # most policies have none
    return path


def push(policy: str, repo: str, *, private: bool = False) -> str:
    """Upload a policy, its card and its monitor, if it has one.

    Args:
        policy: as of `load`.
        repo: USER/NAME; made if it is not there.
        private: whether it is made for this user alone.

    Returns:
        Its address.

    Raises:
        InputError: no such policy, a file that is none, or another form of name.
        StateError: nobody has logged in, no network; or huggingface_hub is not installed.
    """
    from robofuse.policies.saving import load, locate

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"a repository is USER/NAME, got {repo!r}")
    hub, path = _hub(), locate(policy)
    found = load(path, device="cpu")  # nothing is uploaded that cannot be loaded
    with tempfile.TemporaryDirectory() as draft:
        folder = Path(draft)
        shutil.copy(path, folder / _FILE)
        if path.with_suffix(".monitor").is_file():
            shutil.copy(path.with_suffix(".monitor"), folder / Path(_FILE).with_suffix(".monitor"))
        card = path.with_suffix(".md")
        told = card.read_text(encoding="utf-8") if card.is_file() else _card(repo, found.keys, found.world)
        how = f'\n```python\nimport robofuse\n\npolicy = robofuse.load("{HUB}{repo}")\n```\n'
        (folder / "README.md").write_text(_HEAD + told.rstrip() + "\n" + how, encoding="utf-8")
        try:
            api = hub.HfApi()
            address = str(api.create_repo(repo, private=private, exist_ok=True))
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message="robofuse push")
        except (hub.errors.HfHubHTTPError, hub.errors.LocalTokenNotFoundError, OSError) as error:
            raise StateError(
                f"{repo} cannot be written to (have you logged in, `hf auth login`?): {_line(error)}"
            ) from None
    return address


def run_push(config: Push) -> int:
    """`robofuse push`; raises as `push`."""
    print(f"uploaded: {push(config.policy, config.repo, private=config.private)}")
    print(f"to load it: robofuse evaluate {HUB}{config.repo}")
    return 0


def _card(repo: str, keys: tuple[str, ...], world: dict) -> str:
    told = ", ".join(f"{name} {world[name]}" for name in ("task", "robot") if name in world)
    about = f"A policy of robofuse that reads {', '.join(keys)}; {told or 'of a foreign world'}."
    return f"# {repo.partition('/')[2]}\n\n{about}\n"


def _hub() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise StateError("policies on a hub need huggingface_hub: pip install 'robofuse[hub]'") from None
    return huggingface_hub


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
