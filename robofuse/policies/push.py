"""`robofuse push`: a policy to a hub of Hugging Face."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from robofuse.errors import InputError, StateError
from robofuse.policies.hub import FILE, HUB, find_hub, one_line
from robofuse.policies.saving import load, locate

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
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise InputError(f"a repository is USER/NAME, got {repo!r}")
    hub, path = find_hub(), locate(policy)
    found = load(path, device="cpu")  # nothing is uploaded that cannot be loaded
    with tempfile.TemporaryDirectory() as draft:
        folder = Path(draft)
        shutil.copy(path, folder / FILE)
        if path.with_suffix(".monitor").is_file():
            shutil.copy(path.with_suffix(".monitor"), folder / Path(FILE).with_suffix(".monitor"))
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
                f"{repo} cannot be written to (have you logged in, `hf auth login`?): {one_line(error)}"
            ) from None
    return address


def run_push(config: Push) -> int:
    """`robofuse push`; raises as `push`."""
    print(f"uploaded: {push(config.policy, config.repo, private=config.private)}")
    print(f"to load it: robofuse evaluate {HUB}{config.repo}")
    return 0


def _card(repo: str, keys: tuple[str, ...], world: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} {world[name]}" for name in ("task", "robot") if name in world)
    about = f"A policy of robofuse that reads {', '.join(keys)}; {told or 'of a foreign world'}."
    return f"# {repo.partition('/')[2]}\n\n{about}\n"
