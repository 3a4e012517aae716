"""Losses on tokens against modality collapse: a policy that leans on one sensor and ignores the rest.

Each is a module, made for an extractor and called with what it fused:

    forward(extractor, fused, obs) -> {"loss": Tensor (), further names: Tensor ()}

`loss` is weighted and added to the others, the rest is logged. They are no part of acting, so PPO's ratio is left
alone. A sensor that is hidden in a row takes no part in that row.
"""

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor, nn

from robofuse.checks import check_name
from robofuse.dropout.apply import submasks
from robofuse.errors import InputError
from robofuse.policies.extractor import Fused, FusionExtractor
from robofuse.policies.planes import millimetres
from robofuse.policies.u2a.alignment import Alignment
from robofuse.tensors import Constants

_PROJECTED = 32  # width of the space in which tokens of different sensors are compared
_COARSE = 8  # pixels a side of the pictures that tokens must be able to tell
_HARD = 100.0  # the inverse temperature stays below it, as in CLIP


class Contrastive(nn.Module):
    """Symmetric InfoNCE: of all rows, a sensor's token must find the other sensor's token of the same step.

    Tokens are projected linearly and normalised, each pair of sensors is compared over the rows where both are live,
    and the temperature is learned (van den Oord et al. 2018; Radford et al. 2021). log(rows) − loss is a lower bound on
    the mutual information [nat] of the two tokens; `retrieved` is recall@1, the share of rows whose partner is found.
    """

    def __init__(self, extractor: FusionExtractor) -> None:
        """A projection per sensor.

        Raises:
            InputError: there is only one sensor.
        """
        super().__init__()
        count, size = extractor.mask_tokens.shape
        if count < 2:
            raise InputError("contrastive compares the tokens of two sensors at least")
        self.projections = nn.ModuleList(nn.Linear(size, _PROJECTED, bias=False) for _ in range(count))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1.0 / 0.07)))

    def forward(self, extractor: FusionExtractor, fused: Fused, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the module; the means over all pairs, and bound and recall of each, such as `bound/depth-rgb`."""
        pairs = zip(self.projections, fused.tokens.unbind(1), strict=True)
        unit = [nn.functional.normalize(project(token), dim=1) for project, token in pairs]
        scale = self.log_scale.clamp(max=math.log(_HARD)).exp()
        losses, found = [], dict[str, Tensor]()
        for a, b in combinations(range(len(unit)), 2):
            loss, rows, recall = _info_nce(scale * unit[a] @ unit[b].T, fused.available[:, a] & fused.available[:, b])
            losses.append(loss)
            pair = f"{extractor.sensors[a].key}-{extractor.sensors[b].key}"
            found |= {f"bound/{pair}": rows.clamp(min=1.0).log() - loss, f"recall/{pair}": recall}
        return {"loss": torch.stack(losses).mean(), **{name: part.detach() for name, part in found.items()}}


def _info_nce(logits: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of both directions, how many rows (), and recall@1, over the live ones of logits (B, B)."""
    rows, count = torch.arange(len(live), device=live.device), live.sum().float()
    least = torch.finfo(logits.dtype).min
    loss = recall = logits.new_zeros(())
    for direction in (logits, logits.T):
        among = direction.masked_fill(~live[None], least)
        wrong = nn.functional.cross_entropy(among, rows, reduction="none")
        loss = loss + 0.5 * torch.where(live, wrong, 0.0).sum() / count.clamp(min=1.0)
        recall = recall + 0.5 * ((among.argmax(1) == rows) & live).sum() / count.clamp(min=1.0)
    return loss, count, recall


class Reconstruction(nn.Module):
    """Every token must tell its own sensor's reading, pictures coarsely: M3L's idea (Sferrazza et al. 2024), undimmed.

    Targets are divided by the sensor's scale; pictures are averaged to 8 × 8. The loss is Huber's, the mean over the
    numbers of a reading and over the live rows.
    """

    def __init__(self, extractor: FusionExtractor) -> None:
        """A linear decoder per sensor."""
        super().__init__()
        size = extractor.mask_tokens.shape[1]
        self._targets = {key: Coarse(extractor, key) for key in extractor.readings.encoded}
        self.decoders = nn.ModuleDict({key: nn.Linear(size, x.numbers) for key, x in self._targets.items()})

    def forward(self, extractor: FusionExtractor, fused: Fused, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the module; the sum over the sensors, and the loss of each under its key."""
        found, (tokens, encoded) = {}, fused.own_tokens()
        for m, (key, decoder) in enumerate(self.decoders.items()):
            live = encoded[:, m]
            if key not in obs:  # hidden in every row
                found[key] = fused.tokens.new_zeros(())
                continue
            target = self._targets[key](extractor, obs, live)
            wrong = nn.functional.smooth_l1_loss(decoder(tokens[:, m]), target, reduction="none").mean(1)
            found[key] = torch.where(live, wrong, 0.0).sum() / live.sum().clamp(min=1)
        return {"loss": torch.stack([*found.values()]).sum(), **{key: part.detach() for key, part in found.items()}}


class Coarse:
    """A sensor's reading as a vector of K numbers in units of its scale; pictures averaged to 8 × 8."""

    def __init__(self, extractor: FusionExtractor, key: str) -> None:
        """The reading of sensor `key`, as its encoder reads it."""
        self.key, self.sensor = key, extractor.readings.encoded[key]
        self.picture = self.sensor.kind in ("rgb", "depth")
        shape = self.sensor.shape
        self.size = (min(_COARSE, shape[0]), min(_COARSE, shape[1])) if self.picture else (1, 1)
        self.numbers = max(math.prod(self.size) * shape[2] if self.picture else math.prod(shape), 1)
        scale = torch.as_tensor(self.sensor.scale, dtype=torch.float32)
        self._scale = Constants(scale if self.picture else scale.broadcast_to(shape).reshape(-1))

    def __call__(self, extractor: FusionExtractor, obs: Mapping[str, Tensor], live: Tensor) -> Tensor:
        """(B, K), 0 in rows that are not `live`, bool (B,)."""
        x = extractor.readings.for_encoder(self.key, extractor.readings.read(obs, self.key))
        x = millimetres(x) if self.sensor.kind == "depth" else x.float()
        x = torch.where(live.view(-1, *[1] * (x.ndim - 1)), x, 0.0)
        scale = self._scale.on(x.device)
        if self.picture:
            return nn.functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), self.size).flatten(1) / scale
        return 3.0 * torch.asinh(x.flatten(1) / scale / 3.0)


class Consistency(nn.Module):
    """Features under fewer sensors stay close to those under all live ones, which are held (cross-modal consistency).

    One mask per row, which keeps each live sensor with a probability of 0.6; squared distance of normalised features:
    else both would grow without end, as the target moves with the weights that it pulls. For actions there is
    `FusionPPO(remask=…, remask_self=…)`: the divergence of Gaussians with one deviation is their squared difference.
    """

    keep = 0.6

    def __init__(self, extractor: FusionExtractor) -> None:
        """No weights.

        Raises:
            InputError: `masked_as="zeros"`, which has no mask tokens to fuse again with.
        """
        super().__init__()
        if extractor.masked_as == "zeros":
            raise InputError('consistency needs mask tokens, which masked_as="zeros" does without')

    def forward(self, extractor: FusionExtractor, fused: Fused, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See the module."""
        again = extractor.fuse_again(fused, submasks(fused.available, self.keep)).features
        width = again.shape[1:]  # what a memory adds stands behind it
        target = nn.functional.layer_norm(fused.features[:, : width[0]].detach(), width)
        return {"loss": (nn.functional.layer_norm(again, width) - target).square().mean()}


Regulariser = Callable[[FusionExtractor], nn.Module]
"""What makes a regulariser: an extractor to a module, see above."""
REGULARISERS: dict[str, Regulariser] = {
    "alignment": Alignment,
    "consistency": Consistency,
    "contrastive": Contrastive,
    "reconstruction": Reconstruction,
}
"""Regularisers by name."""
R = TypeVar("R", bound=Regulariser)


def register_regulariser(name: str) -> Callable[[R], R]:
    """A decorator that registers a regulariser: extractor → module, whose call is described above.

    Raises:
        InputError: not a name, or another regulariser has it.
    """

    def register(make: R) -> R:
        check_name(name, make, REGULARISERS, "regulariser")
        REGULARISERS[name] = make
        return make

    return register


class Regularisers(nn.Module):
    """Some of them, each with its weight."""

    def __init__(self, extractor: FusionExtractor, weights: Mapping[str, float]) -> None:
        """Makes those that have a weight above 0.

        Raises:
            InputError: an unknown name, or a weight that is negative or not finite.
        """
        super().__init__()
        for name, weight in weights.items():
            if name not in REGULARISERS:
                raise InputError(f"unknown regulariser {name!r}; regularisers: {', '.join(sorted(REGULARISERS))}")
            if not 0.0 <= weight < math.inf:
                raise InputError(f"the weight of the regulariser {name} must be finite and at least 0, got {weight}")
        self.weights = {name: float(weight) for name, weight in weights.items() if weight}
        self.made = nn.ModuleDict({name: REGULARISERS[name](extractor) for name in self.weights})

    def forward(
        self, extractor: FusionExtractor, fused: Fused, obs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum (), and all parts by name, such as `contrastive/loss`."""
        total, parts = fused.tokens.new_zeros(()), dict[str, Tensor]()
        for name, module in self.made.items():
            found = module(extractor, fused, obs)
            total = total + self.weights[name] * found["loss"]
            parts |= {f"{name}/{part}": value for part, value in found.items()}
        return total, parts


def modulate(
    extractor: FusionExtractor, losses: Mapping[str, Tensor], alpha: float, noise: bool = False
) -> dict[str, Tensor]:
    """Damps the gradients of encoders that are ahead of the others, in place (OGM, Peng et al. 2022).

    How far a sensor is, is exp(−loss) of its token's own head, as a likelihood; the sensor's share ρ is that over the
    mean of the other sensors'. Where ρ > 1, the encoder's gradient is multiplied by 1 − tanh(α ρ).

    Args:
        extractor: with gradients.
        losses: sensor → loss () of what its token alone predicts.
        alpha: α ≥ 0; 0 changes nothing.
        noise: add to the gradient of each of the encoders' matrices and kernels Gaussian noise with the deviation
            that its numbers had before, to make up for the noise that a damped gradient lacks (generalisation
            enhancement, OGM-GE); draws from torch's random numbers.

    Returns:
        The factor () of each sensor.
    """
    keys = [sensor.key for sensor in extractor.sensors]
    score = torch.stack([losses[key] for key in keys]).detach().neg().exp()
    others = (score.sum() - score) / max(len(keys) - 1, 1)
    share = score / others.clamp(min=1e-8)
    factor = torch.where(share > 1.0, 1.0 - torch.tanh(alpha * share), 1.0) if alpha else torch.ones_like(share)
    for key, k in zip(keys, factor, strict=True):
        for weight in extractor.encoders[key].parameters():
            if weight.grad is None:
                continue
            deviation = weight.grad.std() if noise and alpha and weight.ndim > 1 else None
            weight.grad.mul_(k)
            if deviation is not None:
                weight.grad.addcmul_(torch.randn_like(weight.grad), deviation)
    return dict(zip(keys, factor, strict=True))


def gradient_norms(extractor: FusionExtractor) -> dict[str, Tensor]:
    """The norm () of the gradient of each sensor's encoder: one near 0 learns nothing."""
    found = {}
    for key, encoder in extractor.encoders.items():
        gradients = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
        found[key] = nn.utils.get_total_norm(gradients) if gradients else extractor.mask_tokens.new_zeros(())
    return found
