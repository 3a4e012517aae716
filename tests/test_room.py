"""Too many worlds are told with how many there is room for, whoever ran out of memory; other errors pass."""

import pytest
import torch

from robofuse import room
from robofuse.envs import World
from robofuse.errors import StateError
from robofuse.room import Room

GIB = 1 << 30


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"Failed to allocate {6 * GIB} bytes on device 'cuda:0'"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 6.00 GiB. GPU 0 has a total capacity of 8 GiB."),
        MemoryError("Unable to allocate 6. GiB for an array with shape (1000, 6) and data type float64"),
    ],
)
def test_how_many_worlds_fit(error, monkeypatch):
    """Of 8 GiB 6 were taken when 6 more were asked for: two thirds of the worlds fit."""
    free = iter([8 * GIB, 2 * GIB])
    monkeypatch.setattr(room, "free_bytes", lambda _: next(free))
    with pytest.raises(StateError, match=r"^900 worlds do not.*8.0 GiB were free.*12.0 GiB or more. At most 600 fit"):
        with Room(900, "cpu").told():
            raise error


def test_what_does_not_say_how_much_still_names_fewer():
    with pytest.raises(StateError, match="At most 3 fit"):
        with Room(4, "cpu").told():
            raise MemoryError


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="^the cable is loose$") as told:
        with Room(4, "cpu").told():
            raise RuntimeError("the cable is loose")
    assert not isinstance(told.value, StateError)


@pytest.mark.parametrize("physics", ["mujoco", "warp"])
def test_worlds_beyond_the_memory_of_this_machine(physics):
    with pytest.raises(StateError, match=r"20,000,000,000,000 worlds do not fit.*memory of cpu.*At most [\d,]+ fit"):
        World("Reach", 20 * 10**12, robot="gripper", sensors=("proprio", "force"), physics=physics)
