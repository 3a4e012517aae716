"""An encoder of your own: any torch module from the readings of one sensor to tokens, under a name.

python scripts/examples/own_encoder.py
robofuse train Grasp --import scripts/examples/own_encoder.py --encoders rgb=thumbnail
"""

import tempfile

from torch import Tensor, nn

from robofuse.envs import SB3VecEnv
from robofuse.policies import ENCODERS, FusionPPO, load, register_encoder
from robofuse.policies.files import save
from robofuse.sensors import Sensor


@register_encoder("thumbnail")
class Thumbnail(nn.Module):
    """A picture averaged down to 8 × 8 pixels, and one linear layer."""

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        super().__init__()
        self.scale, self.layer = sensor.scale, nn.Linear(8 * 8 * sensor.shape[-1], token_dim)

    def forward(self, x: Tensor) -> Tensor:  # (n, H, W, C), in the sensor's own type
        small = nn.functional.adaptive_avg_pool2d(x.float().permute(0, 3, 1, 2) / self.scale, 8)
        return self.layer(small.flatten(1))


if __name__ == "__main__":
    env = SB3VecEnv("Reach", 2, robot="gripper", sensors=("rgb", "proprio"), image_size=32, privileged=True, seed=0)
    kwargs = {"features_extractor_kwargs": {"sensors": env.world.sensors, "encoders": {"rgb": "thumbnail"}}}
    agent = FusionPPO("FusionPolicy", env, n_steps=8, batch_size=16, n_epochs=1, policy_kwargs=kwargs).learn(16)
    path = save(agent.policy, f"{tempfile.mkdtemp()}/policy.safetensors")
    encoders = load(path).network.features_extractor.encoders
    env.close()
    print("the policy that was loaded has", {key: type(encoder).__name__ for key, encoder in encoders.items()})
    ENCODERS.pop("thumbnail")  # as on a machine that does not know it
    try:
        load(path)
    except ValueError as error:
        print("without the name:", error)
