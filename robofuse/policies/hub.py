"""Policies from a hub of Hugging Face; `push.py` is the way there.

Only safetensors are read, in which no code can hide.
"""

import re
from pathlib import Path
from types import ModuleType

from robofuse.errors import InputError, StateError

HUB = "hf://"
FILE = "policy.safetensors"  # of a repository that `push` made
_NAME = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")


def download(name: str) -> Path:
    """The file of `hf://USER/NAME`, `hf://USER/NAME/FILE.safetensors` or either with `@REVISION`, in the hub's cache.

    A monitor beside it, with the same name, comes along.

    Raises:
        InputError: another form of name; nothing there under this name, or not for this user.
        StateError: no network, or the hub does not answer; or huggingface_hub is not installed.
    """
    parts = _NAME.fullmatch(name)
    file = (parts and parts["file"]) or FILE
    if not parts or not file.endswith(".safetensors"):
        raise InputError(
            f"a policy on the hub is {HUB}USER/NAME, {HUB}USER/NAME/FILE.safetensors, or one of them with @REVISION; "
            f"got {name!r}"
        )
    hub = find_hub()
    errors, where = hub.errors, {"repo_id": parts["repo"], "revision": parts["revision"]}
    try:
        path = Path(hub.hf_hub_download(filename=file, **where))
    except errors.LocalEntryNotFoundError as error:  # first, as it is a kind of EntryNotFoundError, too
        raise StateError(f"{name} is not in the cache, and the hub cannot be reached: {one_line(error)}") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise InputError(
            f"{name}: the hub has no file {file} there, or not for you (`hf auth login`): {one_line(error)}"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise StateError(f"{name} cannot be fetched: {one_line(error)}") from None
    try:
        hub.hf_hub_download(filename=str(Path(file).with_suffix(".monitor")), **where)
    except (errors.EntryNotFoundError, errors.HfHubHTTPError, OSError):
        pass  # most policies have none
    return path


def find_hub() -> ModuleType:
    """huggingface_hub; StateError if it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise StateError("policies on a hub need huggingface_hub: pip install 'robofuse[hub]'") from None
    return huggingface_hub


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:300]
