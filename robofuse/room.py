"""Memory that runs out, told as how many worlds there is room for."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robofuse.errors import StateError

_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50}
# as Warp, torch and NumPy say it
_ASKED = re.compile(rf"allocate (\d+\.?\d*) ({'|'.join(_UNITS)})")


class Room:
    """The memory of a device, before worlds are made there."""

    def __init__(self, num_envs: int, device: torch.device | str) -> None:
        """For `num_envs` worlds."""
        self._num_envs, self._device = num_envs, torch.device(device)
        self._free = free_bytes(self._device)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Where memory runs out within, StateError says for how many worlds there is room at most.

        Memory grows in proportion to the number of worlds. What was asked for until then is all that is known of it, so
        the worlds may need still more.
        """
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            asked = _ASKED.search(str(error))
            if asked is None and not isinstance(error, MemoryError | torch.OutOfMemoryError):
                raise
            wanted = float(asked[1]) * _UNITS[asked[2]] if asked else 0.0
            wanted += max(0, self._free - free_bytes(self._device))
            fit = min(self._num_envs - 1, int(self._num_envs * self._free / max(wanted, 1.0)))
            raise StateError(
                f"{self._num_envs:,} worlds do not fit into the memory of {self._device}: {_gib(self._free)} were "
                f"free, and they need {_gib(wanted)} or more. At most {fit:,} fit; smaller pictures, fewer steps in a "
                "rollout and a smaller --replay-rows need less"
            ) from None


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take."""
    if device.type != "cuda":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for later
    return torch.cuda.mem_get_info(device)[0] + held


def _gib(count: float) -> str:
    return f"{count / _UNITS['GiB']:,.1f} GiB"
