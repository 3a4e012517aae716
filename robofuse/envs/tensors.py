"""What torch lacks: writing rows of uint16, the type of depth."""

import torch
from torch import Tensor


def put(target: Tensor, rows: Tensor | int, values: Tensor) -> None:
    """`target[rows] = values` along the first axis; torch cannot index into uint16, but into the same bits as int16."""
    if target.dtype == torch.uint16:
        target, values = target.view(torch.int16), values.view(torch.int16)
    target[rows] = values
