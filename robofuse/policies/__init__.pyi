from .actor_critic import FusionActorCriticPolicy
from .cloning import clone
from .distillation import RemaskCallback
from .encoders import ENCODERS
from .extractor import FusionExtractor
from .further_encoders import Backbone
from .fusion import FUSIONS
from .policy import Policy
from .ppo import FusionPPO
from .registry import register_encoder, register_fusion
from .saving import load, save

__all__ = [
    "ENCODERS",
    "FUSIONS",
    "Backbone",
    "FusionActorCriticPolicy",
    "FusionExtractor",
    "FusionPPO",
    "Policy",
    "RemaskCallback",
    "clone",
    "load",
    "register_encoder",
    "register_fusion",
    "save",
]
