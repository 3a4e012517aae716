"""Files on disk: atomic writing, one writer per folder, and tensors with plain JSON, which never hold code."""

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open

from robofuse.errors import InputError

if TYPE_CHECKING:  # torch takes a second to import, and plain files do without
    from torch import Tensor

FORMAT = 1  # raised when older readers could not make sense of a new file
_JSON, _DIGEST = "robofuse", "sha256"
_DRAFT, LOCK = ".draft", ".lock"
_EXPORTED = b"robofuse"  # the producer, which the first bytes of an exported policy name


class UnreadableHere(InputError):
    """A file that may well be whole, but cannot be read now, by this program."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file: it takes the place of `path` when the block has ended well, and is deleted otherwise.

    Raises:
        InputError: the disk is full, the folder is read-only, or `path` is a folder; names the cause.
    """
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_drafts(path)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            draft.unlink()


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a file so that, whatever happens, `path` holds its old content or the new one; folders are made.

    Raises:
        InputError: the disk is full, the folder is read-only, or `path` is a folder; names the cause.
    """
    with replacing(Path(path)) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def append(path: Path, text: str) -> None:
    """Add text to the end of a file; if the process is killed meanwhile, a part of it may be there.

    Raises:
        InputError: the disk is full, or the file cannot be written; names the cause.
    """
    try:
        with path.open("a", newline="") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def draft_of(path: Path) -> Path:
    """A hidden path beside `path`, with the same suffix, to write to before it takes the place of `path`."""
    return path.with_name(f".{path.stem}.{os.getpid()}{_DRAFT}{path.suffix}")


def is_draft(path: Path) -> bool:
    """Whether a file is a draft of this or another process, see `draft_of`."""
    return path.name.startswith(".") and _DRAFT in path.name


def remove_stale_drafts(path: Path) -> None:
    """Delete the drafts of this file whose processes were killed."""
    for draft in path.parent.glob(f".{glob.escape(path.stem)}.*{_DRAFT}{glob.escape(path.suffix)}"):
        writer = draft.name.removesuffix(_DRAFT + path.suffix).rpartition(".")[2]
        if writer.isdecimal() and not _is_running(int(writer)):
            with suppress(OSError):
                draft.unlink()


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere asking may end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def lock(folder: str | Path, activity: str) -> Iterator[None]:
    """Make a folder, keep other processes from writing into it, and delete the drafts of killed ones.

    Args:
        folder: deleted again in the end if it is empty.
        activity: such as `training`, for the message.

    Raises:
        InputError: another process is at work there, or the folder cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK)
        held.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another {activity} is at work in {folder}; stop it, or give another --out") from None
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; give another --out") from None
    try:
        for draft in folder.glob(f".*{_DRAFT}*"):
            draft.unlink(missing_ok=True)
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)  # while held: who has it open by then sees that it is gone
        held.release()
        with suppress(OSError):
            folder.rmdir()


def write_tensors(path: str | Path, tensors: Mapping[str, "Tensor"], meta: Mapping[str, Any]) -> Path:
    """Write tensors, on any device, and plain JSON as safetensors with a checksum, by `write_atomic`.

    Raises:
        InputError: the meta data is not JSON, or holds NaN or Inf; or the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    path = Path(path)
    try:
        text = json.dumps({"format": FORMAT, **meta}, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path.name}: what goes with the tensors must be plain JSON: {error}") from None
    # copies: tensors that share memory cannot be stored
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return write_atomic(path, save(plain, {_JSON: text, _DIGEST: _digest(text, plain)}))


def read_tensors(path: str | Path) -> tuple[dict[str, "Tensor"], dict[str, Any]]:
    """Read the tensors, on the CPU, and the meta data of a file that `write_tensors` made.

    Raises:
        InputError: no such file, or it is cut off, damaged or of another program.
        UnreadableHere: it is of a newer robofuse, or cannot be read now.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # copies: the file is only mapped into memory, and somebody may replace it
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UnreadableHere(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} {_what_else(head, str(error))}") from None
    try:
        meta = json.loads(header[_JSON])
        number = int(meta["format"])
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError):
        raise InputError(f"{path} holds tensors, but robofuse did not write it") from None
    if number > FORMAT:
        raise UnreadableHere(f"{path} has format {number}, this robofuse reads up to {FORMAT}; update robofuse")
    if header.get(_DIGEST) != _digest(header[_JSON], tensors):
        raise InputError(f"{path} is damaged: its contents do not match its checksum; fetch it again")
    return tensors, meta


def _digest(text: str, tensors: Mapping[str, "Tensor"]) -> str:
    import torch

    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _what_else(head: bytes, cause: str) -> str:
    """What a file is that safetensors cannot read, from its first 16 bytes, as the rest of a sentence."""
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length < 100_000_000:  # first: the length of a header may begin like a pickle
        return f"is cut off or damaged ({cause}); fetch it again"
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return (
            "is a pickle or a zip of pickles (torch.save, Stable-Baselines3), whatever its name; loading one can run "
            "code hidden in it, so it was not opened. Policy files are .safetensors"
        )
    if _EXPORTED in head:
        return (
            "is an exported policy: `robofuse evaluate` and `replay` take it, robofuse.deploy.Policy runs it; here the "
            ".safetensors that it was made of is wanted"
        )
    return f"is no policy file ({cause})"
