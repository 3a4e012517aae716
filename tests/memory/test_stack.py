"""Stacks of delivered readings, and that nothing hidden is ever remembered."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robofuse.memory import Stack, single_sensors, stacked_sensors
from robofuse.sensors import FADES, Sensor

KEYS = ("depth", "image", "state")
SHAPES = {"depth": ((3, 4, 1), np.uint16), "image": ((3, 8, 8), np.uint8), "state": ((2,), np.float32)}


def reading(rng, n):
    found = {k: (rng.random((n, *shape)) * 50 + 1).astype(dtype) for k, (shape, dtype) in SHAPES.items()}
    return {k: torch.from_numpy(x) for k, x in found.items()}


def expected(history, key, frames):
    """Readings and ages by the definition: the last delivered ones, oldest first; history is [(reading, live)]."""
    got = [(x[key], len(history) - 1 - t) for t, (x, live) in enumerate(history) if live[key]][-frames:]
    shape, dtype = SHAPES[key]
    missing = [(torch.zeros(shape, dtype=torch.from_numpy(np.zeros(1, dtype)).dtype), None)] * (frames - len(got))
    parts = missing + got
    axis = 0 if key == "image" else -1
    return (
        np.concatenate([x.numpy() for x, _ in parts], axis),
        [0.0 if age is None else math.exp(-age / FADES) for _, age in parts],
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**30))
def test_a_stack_holds_the_last_delivered_readings_of_each_episode(frames, num, seed):
    rng = np.random.default_rng(seed)
    stack = Stack(KEYS, KEYS, num, frames)
    histories = [[] for _ in range(num)]
    for _ in range(12):
        begins = np.flatnonzero(rng.random(num) < 0.2)
        stack.start(torch.from_numpy(begins))
        for i in begins:
            histories[i] = []
        rows = np.sort(rng.permutation(num)[: rng.integers(1, num + 1)]) if rng.random() < 0.3 else np.arange(num)
        given_ = reading(rng, len(rows))
        live = torch.from_numpy((rng.random((len(rows), 3)) < 0.6).astype(np.int8))
        before = {k: x.clone() for k, x in given_.items()}
        found = stack.push(given_ | {"available": live}, torch.from_numpy(rows))
        assert all(torch.equal(given_[k].view(torch.uint8), before[k].view(torch.uint8)) for k in given_)
        for n, i in enumerate(rows):
            histories[i].append(({k: x[n] for k, x in given_.items()}, dict(zip(KEYS, live[n].tolist(), strict=True))))
            wanted = [expected(histories[i], key, frames) for key in KEYS]
            for key, (stacked, _) in zip(KEYS, wanted, strict=True):
                np.testing.assert_array_equal(found[key][n].numpy(), stacked)
            np.testing.assert_allclose(found["freshness"][n], sum((ages for _, ages in wanted), []), rtol=1e-6)
            ever = [int(ages[-1] > 0) for _, ages in wanted]
            assert found["available"][n].tolist() == [ever[0], 1, ever[1], ever[2]]  # depth, freshness, image, state


def test_what_a_stack_gives_is_never_changed_later():
    stack, rng = Stack(KEYS, KEYS, 2, 2), np.random.default_rng(0)
    first = stack.push(reading(rng, 2))
    kept = {k: x.clone() for k, x in first.items()}
    stack.start(torch.tensor([0]))
    stack.push(reading(rng, 2))
    stack.push(reading(rng, 1), torch.tensor([1]))
    assert all(torch.equal(first[k].float(), kept[k].float()) for k in kept)


def test_a_hidden_reading_is_never_remembered():
    stack, rng = Stack(KEYS, KEYS, 2, 2), np.random.default_rng(0)
    other = Stack(KEYS, KEYS, 2, 2)
    for step in range(6):
        given_, live = reading(rng, 2), torch.tensor([[step == 0, 1, 0], [1, step % 2, 0]], dtype=torch.int8)
        noise = {k: torch.where(live[:, m].view(-1, *[1] * (x.ndim - 1)) > 0, x.float(), 77.0).to(x.dtype)
                 for m, (k, x) in enumerate(given_.items())}  # fmt: skip
        a, b = stack.push(given_ | {"available": live}), other.push(noise | {"available": live})
        assert all(torch.equal(a[k].float(), b[k].float()) for k in a)


def test_sensors_of_a_stack_and_back():
    sensors = (
        Sensor("depth", "depth", (8, 8, 1), "uint16", "mm", 1000.0, 20.0),
        Sensor("proprio", "vector", (3,), "float32", "rad", (1.0, 2.0, 3.0), 20.0),
    )
    several = stacked_sensors(sensors, 2)
    assert [s.key for s in several] == ["depth", "freshness", "proprio"]
    assert [s.shape for s in several] == [(8, 8, 2), (4,), (6,)]
    assert several[2].scale == (1.0, 2.0, 3.0) * 2
    assert single_sensors(several, 2) == sensors


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_available_is_0_or_1(value):
    given_ = reading(np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match="must hold 0 and 1 alone"):
        Stack(KEYS, KEYS, 1, 2).push(given_ | {"available": torch.tensor([[1.0, value, 1.0]])})
