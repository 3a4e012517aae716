"""What masked sensors look like in an observation."""

import numpy as np
import pytest
import torch
from masks import KEYS

from robofuse.dropout import mask_arrays, mask_sensors


def test_masking_leaves_everything_else_untouched():
    observation = {
        "depth": torch.randint(0, 60000, (6, 4, 4, 1)).to(torch.uint16),
        "force": torch.randn(6, 3, 8),
        "proprio": torch.full((6, 5), torch.nan),
        "rgb": torch.randint(0, 255, (6, 4, 4, 3), dtype=torch.uint8),
        "privileged": torch.randn(6, 7),
    }
    before = {key: value.clone() for key, value in observation.items()}
    available = torch.ones(6, 4, dtype=torch.int8)
    available[1, 0] = available[4, 1] = available[[0, 5], 2] = 0
    out = mask_sensors(observation, available, KEYS)
    assert torch.equal(out["available"], available) and out["available"] is not available
    for key in ("rgb", "privileged"):
        assert out[key] is observation[key]
    for column, key in enumerate(KEYS):
        shown = available[:, column].bool()
        as_bytes = {"a": out[key], "b": before[key], "c": observation[key]}
        a, b, c = (value.contiguous().view(torch.uint8).flatten(1) for value in as_bytes.values())
        assert torch.equal(b, c) and torch.equal(a[shown], b[shown]) and not a[~shown].any()
        arrays = mask_arrays({k: v.numpy() for k, v in observation.items()}, available.numpy(), KEYS)
        assert arrays[key].tobytes() == out[key].numpy().tobytes()


def test_masking_respects_what_was_missing_already():
    own, mask = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[0, 1], [1, 1]], dtype=torch.int8)
    observation = {"a": torch.ones(2, 3), "b": torch.ones(2, 3), "available": own}
    out = mask_sensors(observation, mask, ("a", "b"))
    assert out["available"].tolist() == [[0, 0], [1, 1]] and out["available"].dtype == torch.int8
    assert out["b"].all()  # not dropout's to fill
    with pytest.raises(ValueError, match=r"\(N, 1\)"):
        mask_sensors(observation, mask, ("a",))
    with pytest.raises(ValueError, match="own available|observation's available"):
        mask_sensors(observation | {"available": own[:, :1]}, mask, ("a", "b"))


@pytest.mark.parametrize("value", [0.5, 2, -1, float("nan")])
def test_a_mask_is_0_or_1(value):
    observation = {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}
    fine, odd = torch.ones(2, 2), torch.tensor([[1.0, value], [1.0, 1.0]])
    with pytest.raises(ValueError, match="available must hold 0 and 1 alone"):
        mask_sensors(observation, odd, ("a", "b"))
    with pytest.raises(ValueError, match="observation's available"):
        mask_sensors(observation | {"available": odd}, fine, ("a", "b"))
    arrays = {"a": np.ones((2, 3)), "b": np.ones((2, 3)), "available": odd.numpy()}
    with pytest.raises(ValueError, match="observation's available"):
        mask_arrays(arrays, fine.numpy(), ("a", "b"))
