"""The loss that makes estimates of a sensor's token what the token is."""

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.extractor import Fused, FusionExtractor


class Alignment(nn.Module):
    """Mean squared error of every sensor's estimate of another's token, over the rows where both are live (U2A).

    Both directions of a pair are added, and the mean over the pairs is taken. `relative` is the error over the variance
    of the tokens: at 1, the estimates are no better than the token's mean. `relative/depth>rgb` is that of what depth
    says of rgb.
    """

    def __init__(self, extractor: FusionExtractor) -> None:
        """No weights.

        Raises:
            InputError: the extractor estimates nothing, or has one sensor.
        """
        super().__init__()
        if extractor.masked_as != "estimate" or len(extractor.sensors) < 2:
            raise InputError('alignment needs estimates: masked_as="estimate", and two sensors at least')

    def forward(self, extractor: FusionExtractor, fused: Fused, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the module."""
        said, live = fused.estimates, fused.available
        assert said is not None
        losses, found = [], dict[str, Tensor]()
        for s, t in permutations(range(len(extractor.sensors)), 2):
            both = (live[:, s] & live[:, t]).to(said.dtype)
            count = both.sum().clamp(min=1.0)
            token = said[:, t, t]
            loss = ((said[:, s, t] - token).square().mean(1) * both).sum() / count
            losses.append(loss)
            with torch.no_grad():
                mean = (token * both[:, None]).sum(0) / count
                variance = ((token - mean).square().mean(1) * both).sum() / count
                pair = f"{extractor.sensors[s].key}>{extractor.sensors[t].key}"
                found[f"relative/{pair}"] = loss / variance.clamp(min=1e-6)
        found = {name: x.detach() for name, x in found.items()}
        return {"loss": 2.0 * torch.stack(losses).mean(), "relative": torch.stack([*found.values()]).mean(), **found}
