"""Files of tensors: written whole or not at all, and read without running anything."""

import json
import pickle

import pytest
import torch

from robofuse.files import read_tensors as read
from robofuse.files import write_tensors as write


class Attack:
    def __reduce__(self):
        return open, ("pwned", "w")


@pytest.mark.parametrize("make_file", [lambda f: pickle.dump(Attack(), f), lambda f: torch.save(Attack(), f)])
def test_pickles_are_not_opened(tmp_path, monkeypatch, make_file):
    monkeypatch.chdir(tmp_path)
    with open("evil.safetensors", "wb") as file:
        make_file(file)
    with pytest.raises(ValueError, match="run code"):
        read("evil.safetensors")
    assert not (tmp_path / "pwned").exists()


def test_any_tensor_survives(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    tensors = {
        "a": shared,
        "b": shared.T,
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "bytes": torch.get_rng_state(),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }
    back, meta = read(write(tmp_path / "t.safetensors", tensors, {"kind": "test", "ü": [1, None, "x"]}))
    assert all(torch.equal(back[name], x) and back[name].dtype == x.dtype for name, x in tensors.items())
    assert json.dumps(meta) and meta["ü"] == [1, None, "x"]


def test_a_header_whose_length_begins_like_a_pickle(tmp_path):
    (tmp_path / "x.safetensors").write_bytes((0x80).to_bytes(8, "little") + b'{"a":{"dtype"')
    with pytest.raises(ValueError, match="damaged"):
        read(tmp_path / "x.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = write(tmp_path / "x.safetensors", {"a": torch.ones(3)}, {"kind": "test"})
    before = file.read_bytes()
    monkeypatch.setattr("robofuse.files.os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(file, {"a": torch.zeros(3)}, {"kind": "test"})
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]
    with pytest.raises(ValueError, match="plain JSON"):
        write(file, {}, {"x": float("nan")})
