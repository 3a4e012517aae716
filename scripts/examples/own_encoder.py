"""An encoder of your own: any torch module from the readings of one sensor to tokens, under a name.

python scripts/examples/own_encoder.py
robofuse train Grasp --import scripts/examples/own_encoder.py --encoders rgb=thumbnail
"""

import tempfile

import gymnasium as gym
import numpy as np
from torch import Tensor, nn

from robofuse.policies import ENCODERS, FusionActorCriticPolicy, load, register_encoder, save
from robofuse.sensors import Sensor, observation_space


@register_encoder("thumbnail")
class Thumbnail(nn.Module):
    """A picture averaged down to 8 × 8 pixels, and one linear layer."""

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(8 * 8 * sensor.shape[-1], token_dim)

    def forward(self, x: Tensor) -> Tensor:  # uint8 (n, H, W, C), under every algorithm
        small = nn.functional.adaptive_avg_pool2d(x.float().permute(0, 3, 1, 2) / 255.0, 8)
        return self.layer(small.flatten(1))


if __name__ == "__main__":
    sensors = [Sensor("rgb", "rgb", (64, 64, 3), "uint8", "sRGB", 255.0, 20.0)]
    space, action = observation_space(sensors), gym.spaces.Box(-1.0, 1.0, (5,), np.float32)
    kwargs = {"sensors": sensors, "encoders": {"rgb": "thumbnail"}}  # a sensor's key, or its kind
    policy = FusionActorCriticPolicy(space, action, lambda _: 1e-3, features_extractor_kwargs=kwargs)
    path = save(policy, f"{tempfile.mkdtemp()}/policy.safetensors")
    print(load(path).network.features_extractor.encoders)
    ENCODERS.pop("thumbnail")  # as on a machine where nobody has made the name known
    try:
        load(path)
    except ValueError as error:
        print("without it:", error)
