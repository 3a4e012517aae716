"""Several processes that train one policy: worlds of their own, gradients averaged (started by torch's `torchrun`)."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from robofuse.errors import StateError

Value = TypeVar("Value")
_EPISODES = 1 << 40  # between the first episodes of two ranks: no two of them play the same scene


class Ranks:
    """This process among those that train together; alone, all of it does nothing.

    Every rank must call the same methods in the same order: each waits for all the others, and raises StateError if one
    of them has stopped.

    Attributes:
        rank: number of this process, from 0.
        count: of the processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        """`Ranks()` is a process alone."""
        self.rank, self.count = rank, count

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    @property
    def first_episode(self) -> int:
        """Number of the first episode that worlds of this rank play."""
        return self.rank * _EPISODES

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the ranks, in one message."""
        if self.count == 1:
            return
        wanted = [x for x in parameters if x.requires_grad]
        for x in wanted:
            if x.grad is None:  # a message has the same length everywhere
                x.grad = torch.zeros_like(x)
        grads = [x.grad for x in wanted if x.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        with _together():
            distributed.all_reduce(flat)
        flat /= self.count
        for grad, mean in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the ranks, of a tensor of the same shape in all of them."""
        if self.count == 1:
            return value
        total = value.clone()
        with _together():
            distributed.all_reduce(total)
        return total / self.count

    def gather(self, batch: Tensor) -> Tensor:
        """The batches (n, …) of all ranks, (count · n, …), in the order of the ranks."""
        if self.count == 1:
            return batch
        parts = [torch.empty_like(batch) for _ in range(self.count)]
        with _together():
            distributed.all_gather(parts, batch.contiguous())
        return torch.cat(parts)

    def same(self, module: nn.Module) -> None:
        """Gives the parameters and buffers of the first rank to all."""
        if self.count > 1:
            with _together():
                for x in (*module.parameters(), *module.buffers()):
                    distributed.broadcast(x.data, 0)

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.count == 1:
            return number
        numbers = [0] * self.count
        with _together():
            distributed.all_gather_object(numbers, number)
        return max(numbers)

    def any(self, flag: bool) -> bool:
        """Whether the flag of any rank is set."""
        return bool(self.largest(int(flag)))

    def tell(self, value: Value) -> Value:
        """The first rank's value."""
        if self.count == 1:
            return value
        values: list[Any] = [value]
        with _together():
            distributed.broadcast_object_list(values, 0)
        return values[0]

    def first_then_others(self, call: Callable[[], Value]) -> Value:
        """What a function returns, which the other ranks call after the first has."""
        if not self.first:
            self.wait()
        value = call()
        if self.first:
            self.wait()
        return value

    def wait(self) -> None:
        """Until all ranks are here."""
        self.largest(0)


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of the connection
        raise StateError("another process of this training has stopped; its own message says why") from error


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """Meets the other processes that `torchrun` has started; without it, this process is alone.

    Args:
        device: as the options say; on GPUs the messages go through NCCL.

    Raises:
        StateError: the environment names several processes, but not how to meet them.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(own_gpu())
    try:
        distributed.init_process_group("nccl" if on_gpus else "gloo")
    except ValueError as error:
        raise StateError(
            f"WORLD_SIZE={count} asks for several processes, which torchrun starts: torchrun --standalone "
            f"--nproc-per-node {count} -m robofuse train …; or unset WORLD_SIZE ({error})"
        ) from None
    try:
        yield Ranks(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def on_this_machine() -> int:
    """How many of the processes share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_gpu() -> int:
    """Number of the GPU of this process, among those of this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))
