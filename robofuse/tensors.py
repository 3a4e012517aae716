"""Helpers for tensors of N worlds."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import torch
from torch import Tensor

from robofuse.errors import InputError

# Some of N worlds: their numbers, int64 (n,); or None, which is all; or a mask, bool (N,), where counting them would
# make the CPU wait for a GPU. What is computed for a mask has N rows, and only the chosen ones count.
Worlds = Tensor | None


def find_device(device: str | torch.device) -> torch.device:
    """A device that torch can use here, a GPU with its number; `auto` is a GPU if there is one.

    Raises:
        InputError: there is no such device; the message says what there is.
    """
    with warnings.catch_warnings():  # of a driver that is too old
        warnings.simplefilter("ignore")
        there = torch.cuda.is_available()
    if str(device) == "auto":
        device = "cuda" if there else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"unknown device {str(device)!r}; devices: auto, cpu, cuda, cuda:0, …")
    if chosen.type == "cpu":
        return chosen
    if not there:
        raise InputError(
            f"torch sees no CUDA device here ({_why_no_cuda()}); use device cpu or auto. robofuse doctor says what to "
            "install"
        )
    chosen = torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)
    if chosen.index >= torch.cuda.device_count():
        raise InputError(f"there is no device {chosen}; torch sees cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    return chosen


def _why_no_cuda() -> str:
    """Torch's own reason, its first sentence."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # not built for CUDA, no driver, or an old one
        return str(error).partition(". ")[0].partition("\n")[0].rstrip(".")
    return "CUDA_VISIBLE_DEVICES?"


def on_cpu(x: Tensor) -> bool:
    """Whether looking at the numbers costs no waiting: a GPU is behind, and would have to catch up first."""
    return x.device.type == "cpu"


class Constants:
    """Numbers that are wanted on several devices, and sent to each once."""

    def __init__(self, numbers: Tensor) -> None:
        """They lie on their own device first."""
        self._on = {numbers.device: numbers}

    def on(self, device: torch.device) -> Tensor:
        """The numbers there; not to be written to."""
        if device not in self._on:
            self._on[device] = next(iter(self._on.values())).to(device)
        return self._on[device]


def by_number(worlds: Worlds) -> Tensor | None:
    """The worlds if they are told by number; None if what is computed for them has a row for every world."""
    return None if worlds is None or worlds.dtype == torch.bool else worlds


def numbers_of(mask: Tensor) -> Tensor:
    """Where a mask, bool (N,), is True, int64 (n,) ascending; numbers stay as they are. A GPU is waited for."""
    return mask.nonzero()[:, 0] if mask.dtype == torch.bool else mask


def chosen(x: Tensor, worlds: Worlds) -> Tensor:
    """The rows of `x` (N, …) that are computed for these worlds: a view, or a fresh tensor."""
    numbers = by_number(worlds)
    return x if numbers is None else take(x, numbers)


def write(target: Tensor, worlds: Worlds, values: Tensor | float) -> None:
    """`target[worlds] = values` in place: one number, or the rows that `chosen` gives; no other row changes."""
    if worlds is None:
        target[:] = values
    elif worlds.dtype != torch.bool:
        target[worlds] = values
    elif isinstance(values, Tensor):
        target.copy_(_where(worlds, values, target))
    else:
        target.masked_fill_(worlds.view(-1, *[1] * (target.dim() - 1)), values)


def replaced(x: Tensor, worlds: Tensor, values: Tensor) -> Tensor:
    """A fresh tensor like `x` with rows `values`, as `write` has them."""
    if worlds.dtype == torch.bool:
        return _where(worlds, values, x)
    x = x.clone()
    put(x, worlds, values)
    return x


def _where(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Rows of `a` where the mask bool (N,) says so, else of `b`; as `put`."""
    if b.dtype == torch.uint16:
        return _where(mask, a.view(torch.int16), b.view(torch.int16)).view(torch.uint16)
    return torch.where(mask.view(-1, *[1] * (b.dim() - 1)), a, b)


def put(target: Tensor, rows: Tensor | int, values: Tensor) -> None:
    """`target[rows] = values` along the first axis; torch cannot index into uint16, but into the same bits as int16."""
    if target.dtype == torch.uint16:
        target, values = target.view(torch.int16), values.view(torch.int16)
    if isinstance(rows, int):
        target[rows] = values
    else:
        target.index_copy_(0, rows, values)  # a copy of whole rows, which indexing is not


def take(x: Tensor, rows: Tensor) -> Tensor:
    """`x[rows]`, rows int64 (n,), a fresh tensor."""
    if x.dtype == torch.uint16:
        return x.view(torch.int16).index_select(0, rows).view(torch.uint16)
    return x.index_select(0, rows)


def split_channels(images: Tensor) -> list[Tensor]:
    """(n, H, W, C) to C of (n, H, W)."""
    if not len(images) or not _for_opencv(images):
        return list(images.unbind(-1))
    array = images.contiguous().numpy()
    planes = cv2.split(array.reshape(-1, *array.shape[2:]))  # torch takes ten times as long to pick every third byte
    return [torch.from_numpy(plane).view(images.shape[:3]) for plane in planes]


def merge_channels(planes: Sequence[Tensor]) -> Tensor:
    """C of (n, H, W) to (n, H, W, C)."""
    first = planes[0]
    if not len(first) or not all(_for_opencv(plane) for plane in planes):
        return torch.stack(list(planes), -1)
    merged = cv2.merge([plane.reshape(-1, plane.shape[-1]).numpy() for plane in planes])
    return torch.from_numpy(merged).view(*first.shape, len(planes))


def _for_opencv(x: Tensor) -> bool:
    known = x.dtype in (torch.uint8, torch.float32) and on_cpu(x)
    return known and not x.requires_grad and not torch.compiler.is_compiling()


def integers(values: Tensor | Sequence[int], what: str, stop: int) -> Tensor:
    """Integers from 0 to `stop` − 1 as int64 (n,); InputError, naming `what`, if they are anything else."""
    try:
        numbers = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.zeros(())
    if numbers.shape == (0,):  # an empty list has no type
        return numbers.long()
    real = numbers.dtype == torch.bool or numbers.is_floating_point() or numbers.is_complex()
    whole = numbers.long()  # torch cannot compare uint16 and its like; what is too large for int64 becomes negative
    if real or numbers.dim() != 1 or not ((whole >= 0) & (whole < stop)).all():
        raise InputError(f"{what} must be a list of integers from 0 to {stop - 1}, got {values!r}")
    return whole


def span(ids: list[int]) -> slice | list[int]:
    """The ids as a slice if they are consecutive: a view costs a tenth of an index."""
    first, count = ids[0], len(ids)
    return slice(first, first + count) if ids == list(range(first, first + count)) else ids


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Use one torch thread within the block: for small tensors, waiting for threads costs more than the work.

    The number of threads belongs to the whole process; it is put back at the end.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
