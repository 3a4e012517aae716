"""What the robot thinks with: encoders, fusion and the networks that learn to act when sensors are hidden.

Everything here is torch on batches of observations. It knows sensors (`robofuse.sensors`), never simulators: nothing
in this package imports `robofuse.envs`, so a policy runs on any source of the same observations.
"""

from typing import TYPE_CHECKING

from robofuse.lazy import lazy

if TYPE_CHECKING:
    from robofuse.policies.actor_critic import FusionActorCriticPolicy
    from robofuse.policies.encoders import ENCODERS
    from robofuse.policies.extractor import FusionExtractor
    from robofuse.policies.files import Policy, load
    from robofuse.policies.fusion import FUSIONS
    from robofuse.policies.own import register_encoder, register_fusion
    from robofuse.policies.ppo import FusionPPO

_HOME = {
    "ENCODERS": "encoders",
    "FUSIONS": "fusion",
    "FusionActorCriticPolicy": "actor_critic",
    "FusionExtractor": "extractor",
    "FusionPPO": "ppo",
    "Policy": "files",
    "load": "files",
    "register_encoder": "own",
    "register_fusion": "own",
}
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

__getattr__ = lazy(__name__, _HOME)
