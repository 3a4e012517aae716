from .actor_critic import FusionActorCriticPolicy
from .encoders import ENCODERS
from .extractor import FusionExtractor
from .files import Policy, load
from .fusion import FUSIONS
from .ppo import FusionPPO
from .registry import register_encoder, register_fusion

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "FusionActorCriticPolicy",
    "FusionExtractor",
    "FusionPPO",
    "Policy",
    "load",
    "register_encoder",
    "register_fusion",
]
