"""Small networks beside the extractor: a recurrent memory, heads for the auxiliary losses, a running norm."""

import torch
from torch import Tensor, nn

from robofuse.policies.extractor import Fused

MEMORY = "_memory"  # the key under which the recurrent state travels in the observation


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) over the fused features.

    Encoding images costs most and does not depend on the state, so all steps of a rollout are encoded together, and
    only this small unit goes through time step by step.
    """

    def __init__(self, features: int, size: int) -> None:
        """Reads `features` numbers; its state has `size`."""
        super().__init__()
        self.size = size
        self.inputs = nn.Linear(features, 3 * size)
        self.state = nn.Linear(size, 3 * size)
        for gate in self.state.weight.detach().split(size):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.state.bias)

    def forward(self, features: Tensor, state: Tensor, starts: Tensor | None = None) -> Tensor:
        """The state after every step.

        Args:
            features: (T · E, F), T steps of E environments, all of the first step first.
            state: (E, H), before the first step.
            starts: bool (T, E), where an episode begins and the state is set to zero; by default nowhere.

        Returns:
            (T · E, H). A step is computed in the same way alone and in a rollout, so PPO's first ratio is 1 (to 1e-6:
            the number of rows changes how a matrix product is rounded).
        """
        num_envs, states = len(state), []
        for t, given in enumerate(self.inputs(features).split(num_envs)):
            if starts is not None:
                state = state.masked_fill(starts[t][:, None], 0.0)
            reset, update, new = given.chunk(3, dim=1)
            old_reset, old_update, old_new = self.state(state).chunk(3, dim=1)
            update = torch.sigmoid(update + old_update)
            new = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
            state = new + update * (state - new)
            states.append(state)
        return torch.cat(states)


class TruthHeads(nn.Module):
    """Predicts the normalised privileged vector from every sensor's token and from the features.

    This gives every encoder a dense, supervised signal (where is the object?) long before the reward says anything,
    and no encoder stays untrained because another sensor is enough. The heads are not used at deployment.
    """

    def __init__(self, sensors: int, token_dim: int, features: int, truth: int) -> None:
        """One small network per sensor and one for the features."""
        super().__init__()
        self.tokens = nn.ModuleList(nn.Linear(token_dim, truth) for _ in range(sensors))
        self.features = nn.Sequential(nn.Linear(features, 64), nn.ELU(), nn.Linear(64, truth))

    def forward(self, fused: Fused, truth: Tensor) -> Tensor:
        """Huber losses (M + 1,): per sensor over the rows that it encoded (0 if there is none), then of the features.

        Huber and not squared: speeds at a contact have heavy tails, which would dominate a squared loss.

        Args:
            fused: of a batch of B rows.
            truth: (B, K), normalised.
        """
        losses, (tokens, encoded) = [], fused.own_tokens()
        for m, head in enumerate(self.tokens):
            live = encoded[:, m].float()
            errors = _huber(head(tokens[:, m]), truth).mean(1)
            losses.append((errors * live).sum() / live.sum().clamp(min=1.0))
        losses.append(_huber(self.features(fused.features), truth).mean())
        return torch.stack(losses)


def _huber(prediction: Tensor, truth: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(prediction, truth, reduction="none")


class RunningNorm(nn.Module):
    """Normalises vectors by the mean and standard deviation of all that `update` has seen.

    Batches are merged by Chan, Golub and LeVeque's parallel formula (1983). The statistics are saved with the weights.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        """Starts with mean 0 and variance 1."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def update(self, batch: Tensor, memory: float = 1e6) -> None:
        """Adds a batch (n, size); at most `memory` earlier rows count, so that old ones fade."""
        n, mean, var = float(len(batch)), batch.float().mean(0), batch.float().var(0, unbiased=False)
        old = self.count.clamp(max=memory)
        total, delta = old + n, mean - self.mean
        self.var.copy_((self.var * old + var * n + delta.square() * old * n / total) / total)
        self.mean.add_(delta * n / total)
        self.count.copy_(total)

    @property
    def std(self) -> Tensor:
        """(size,), at least 1e-4."""
        return self.var.sqrt().clamp(min=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised and clipped to ±5."""
        return ((x - self.mean) / self.std).clamp(-5.0, 5.0)

    def inverse(self, x: Tensor) -> Tensor:
        """Back to the original scale."""
        return x * self.std + self.mean
