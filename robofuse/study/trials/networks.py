"""Networks over sequences: the two in which aggressive dropout was studied first, and one with mask tokens.

All read vectors of every sensor over T steps and predict at the end. What is dropped is so for the whole sequence.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_GATED = 128  # width of the hidden layers of the memory fusion network


class EarlyFusion(nn.Module):
    """A bidirectional LSTM over all sensors' vectors side by side, zeros if dropped; both last states predict."""

    def __init__(self, sizes: Mapping[str, int], outputs: int, width: int = 64) -> None:
        """Sensor → length of its vector, and how many numbers to predict."""
        super().__init__()
        self.lstm = nn.LSTM(sum(sizes.values()), width, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ELU(), nn.Linear(width, outputs))

    def forward(self, x: Mapping[str, Tensor], kept: Tensor) -> Tensor:
        """Sensor → (B, T, …), and which are kept, bool (B, M), to (B, outputs)."""
        x = _zeroed(x, kept)
        _, (state, _) = self.lstm(torch.cat([*x.values()], dim=2))
        return self.head(torch.cat([state[0], state[1]], dim=1))


class MemoryFusion(nn.Module):
    """An LSTM per sensor, attention over how their memories change, and a memory of all (MFN, Zadeh et al. 2018).

    At every step the sensors' cells before and after it stand side by side; softmax weights pick what changed together;
    from that a proposal for the common memory is made, which gates keep or take. The sensors' states and the common
    memory predict at the end. Dropped sensors read zeros.
    """

    def __init__(self, sizes: Mapping[str, int], outputs: int, width: int = 32, memory: int = 64) -> None:
        """Sensor → length of its vector, and how many numbers to predict."""
        super().__init__()
        self.cells = nn.ModuleDict({key: nn.LSTMCell(size, width) for key, size in sizes.items()})
        pair, self.width, self.memory = 2 * width * len(sizes), width, memory

        def layers(size: int, out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(size, _GATED), nn.ReLU(), nn.Linear(_GATED, out))

        self.attention, self.proposal = layers(pair, pair), layers(pair, memory)
        self.keep, self.take = layers(pair + memory, memory), layers(pair + memory, memory)
        self.head = layers(width * len(sizes) + memory, outputs)

    def forward(self, x: Mapping[str, Tensor], kept: Tensor) -> Tensor:
        """Sensor → (B, T, …), and which are kept, bool (B, M), to (B, outputs)."""
        x = _zeroed(x, kept)
        first = next(iter(x.values()))
        state = {key: (first.new_zeros(len(first), self.width),) * 2 for key in self.cells}
        common = first.new_zeros(len(first), self.memory)
        for t in range(first.shape[1]):
            after = {key: cell(x[key][:, t], state[key]) for key, cell in self.cells.items()}
            pair = torch.cat([*(cell for _, cell in state.values()), *(cell for _, cell in after.values())], dim=1)
            attended = pair * self.attention(pair).softmax(dim=1)
            gates = torch.cat([attended, common], dim=1)
            kept = torch.sigmoid(self.keep(gates)) * common
            common = kept + torch.sigmoid(self.take(gates)) * torch.tanh(self.proposal(attended))
            state = after
        return self.head(torch.cat([*(hidden for hidden, _ in state.values()), common], dim=1))


class MaskTokens(nn.Module):
    """A token per sensor and step, a learned token where it is dropped, and a recurrent unit over all tokens."""

    def __init__(self, sizes: Mapping[str, int], outputs: int, token: int = 32, width: int = 96) -> None:
        """Sensor → length of its vector, and how many numbers to predict."""
        super().__init__()
        self.encoders = nn.ModuleDict(
            {key: nn.Sequential(nn.Linear(size, token), nn.ELU(), nn.LayerNorm(token)) for key, size in sizes.items()}
        )
        self.mask_tokens = nn.Parameter(0.5 * torch.randn(len(sizes), token))
        self.memory = nn.GRU(token * len(sizes), width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ELU(), nn.Linear(width, outputs))

    def forward(self, x: Mapping[str, Tensor], kept: Tensor) -> Tensor:
        """Sensor → (B, T, …), and which are kept, bool (B, M), to (B, outputs)."""
        tokens = torch.stack([encoder(x[key]) for key, encoder in self.encoders.items()], dim=2)
        tokens = torch.where(kept[:, None, :, None], tokens, self.mask_tokens)
        _, state = self.memory(tokens.flatten(2))
        return self.head(state[0])


def _zeroed(x: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    return {key: torch.where(kept[:, m, None, None], part, 0.0) for m, (key, part) in enumerate(x.items())}


NETWORKS = {"early-fusion": EarlyFusion, "memory-fusion": MemoryFusion, "mask-tokens": MaskTokens}
"""Networks over sequences by name."""
