"""What a policy remembers by itself: a gated recurrent unit over the fused features."""

import torch
from torch import Tensor, nn

MEMORY = "_memory"  # where the state travels in the observation; no sensor of anybody is called so


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) whose encoders see all steps of a rollout at once.

    Pictures cost most, and do not depend on what is remembered: they are encoded for all rows together, and only this
    small unit goes through time.
    """

    def __init__(self, features: int, size: int) -> None:
        """Reads `features` numbers, remembers `size`."""
        super().__init__()
        self.size = size
        self.inputs = nn.Linear(features, 3 * size)
        self.state = nn.Linear(size, 3 * size)
        for gate in self.state.weight.detach().split(size):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.state.bias)

    def forward(self, features: Tensor, state: Tensor, starts: Tensor | None = None) -> Tensor:
        """What is remembered after every step.

        Args:
            features: (T · E, F), T steps of E environments, all of the first step first.
            state: (E, H), remembered before the first step.
            starts: bool (T, E), where an episode begins, before which there is nothing; by default nowhere.

        Returns:
            (T · E, H); that of a step is made in the same way whether it comes alone or in a rollout, so PPO's first
            ratio is 1.
        """
        many, found = len(state), []
        for t, given in enumerate(self.inputs(features).split(many)):
            if starts is not None:
                state = state.masked_fill(starts[t][:, None], 0.0)
            reset, update, new = given.chunk(3, dim=1)
            old_reset, old_update, old_new = self.state(state).chunk(3, dim=1)
            update = torch.sigmoid(update + old_update)
            new = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
            state = new + update * (state - new)
            found.append(state)
        return torch.cat(found)
