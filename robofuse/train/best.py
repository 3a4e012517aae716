"""The best policy of a run: its file is never ahead of what the run goes on from."""

from pathlib import Path

from robofuse.files import UnreadableHere, read_tensors, write_atomic
from robofuse.train.checkpoint import set_aside

BEST, FINAL = "best.safetensors", "final.safetensors"
_BEFORE = ".best-before.safetensors"  # the best as of the last checkpoint, while a better one is newer than that


def recover_best(folder: Path, until: int) -> int | None:
    """Make the file agree with a run that goes on from a checkpoint.

    Args:
        folder: of the run.
        until: step of the checkpoint; policies of later steps are deleted, as they may not come again.

    Returns:
        The step that the best policy is of, None if there is none.
    """
    best, before = folder / BEST, folder / _BEFORE
    step = _step(best)
    if step is None or step > until:
        best.unlink(missing_ok=True)
        step = _step(before)
        if step is None or step > until:
            step = None
        else:
            write_atomic(best, before.read_bytes())
    forget_before(folder)
    return step


def keep_before(folder: Path) -> None:
    """Keep a copy of the best policy until the next checkpoint; a better one is about to replace it."""
    write_atomic(folder / _BEFORE, (folder / BEST).read_bytes())


def forget_before(folder: Path) -> None:
    """There is a checkpoint of the step that the best policy is of, or of a later one."""
    (folder / _BEFORE).unlink(missing_ok=True)


def _step(path: Path) -> int | None:
    if not path.exists():
        return None
    try:
        return int(read_tensors(path)[1]["card"]["steps"])
    except UnreadableHere:
        raise
    except (ValueError, KeyError, TypeError):
        set_aside(path)
        return None
