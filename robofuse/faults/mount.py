"""The fault of a camera's mount: it is the camera that changes, not its pictures."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robofuse.faults.fault import Fault, FaultContext


@dataclass(frozen=True)
class Knocked(Fault):
    """A knock has turned and shifted the camera, in a direction that is drawn per episode; it stays like that.

    The camera really moves, so it needs a World, and is given under `rgb` or `depth`; the other picture of the same
    camera shows it too.

    Attributes:
        degrees: of the turn at severity 1.
        metres: of the shift at severity 1 [m].
    """

    degrees: float = 15.0
    metres: float = 0.05

    name: ClassVar[str] = "knocked"
    kinds: ClassVar = ("rgb", "depth")
    moves_camera: ClassVar[bool] = True

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """The picture was taken by the camera where it is now."""
        return reading

    def offset(self, context: FaultContext) -> tuple[Tensor, Tensor]:
        """Shift [m] and turn [rad, about an axis of its length], (n, 3) each, in the camera's own frame."""
        drawn = context.normal(2, 3, fixed=True)
        drawn = drawn / drawn.norm(dim=2, keepdim=True).clamp(min=1e-6)
        return drawn[:, 0] * (self.severity * self.metres), drawn[:, 1] * math.radians(self.severity * self.degrees)
