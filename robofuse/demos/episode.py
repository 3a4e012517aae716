"""One demonstrated episode, as tensors."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Episode:
    """T control steps: what was sensed, what was done about it, and what came of it.

    Attributes:
        observation: key → (T, …), what each action was chosen by, in the sensors' own types; with `available`, int8
            (T, M), and `privileged`, float32 (T, K), if it was recorded.
        action: float32 (T, A), what the demonstrator chose.
        reward: float32 (T,), of each action.
        success: bool (T,), whether the task was done after it.
        scene: number of the episode in its World, which with the seed tells the scene.
        executed: float32 (T, A), what was done where that was not what was chosen: with noise; None elsewhere.
    """

    observation: dict[str, Tensor]
    action: Tensor
    reward: Tensor
    success: Tensor
    scene: int = 0
    executed: Tensor | None = None

    def __len__(self) -> int:
        """T."""
        return len(self.action)

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return bool(self.success[-1])
