"""A fusion of your own: any torch module from the tokens of all sensors to one feature vector, under a name.

python scripts/examples/own_fusion.py
robofuse train Grasp --import scripts/examples/own_fusion.py --fusion strongest
"""

import torch
from torch import Tensor, nn

from robofuse.policies import FusionExtractor, register_fusion
from robofuse.sensors import Sensor, observation_space


@register_fusion("strongest")
class Strongest(nn.Module):
    """The largest value of each entry over the live tokens."""

    def __init__(self, sensors: int, token_dim: int) -> None:
        super().__init__()
        self.features = token_dim  # F, the length of what it returns

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:  # (B, M, D) and bool (B, M) to (B, F)
        live = available | ~available.any(dim=1, keepdim=True)  # the mask tokens, if nothing is left
        return tokens.masked_fill(~live[..., None], -torch.inf).amax(dim=1)


if __name__ == "__main__":
    sensors = [Sensor(key, "vector", (3,), "float32", "rad", 1.0, 20.0) for key in ("arm", "hand")]
    extractor = FusionExtractor(observation_space(sensors), sensors, fusion="strongest", token_dim=8)
    observation = {"arm": torch.ones(2, 3), "hand": torch.ones(2, 3), "available": torch.tensor([[1, 1], [1, 0]])}
    features = extractor(observation)
    print(f"features {tuple(features.shape)}: 2 observations, in the second the hand is hidden")
    observation["hand"][1] = torch.nan
    same = torch.equal(features, extractor(observation))
    print(f"what a hidden sensor reads cannot matter, not even to a fusion of yours: NaN there, same features: {same}")
