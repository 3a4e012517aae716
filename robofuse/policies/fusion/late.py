"""Fusion of decisions: every sensor decides for itself, and the live ones are weighed by how sure they are."""

import torch
from torch import Tensor, nn

from robofuse.errors import InputError

_MOST = 8.0  # of log-precisions


class Late(nn.Module):
    """Mean of what each live sensor decides alone, weighted by stated precision: F = D.

    A network per sensor makes a decision of its token, and a number that states the logarithm of the decision's
    precision. If the actor is linear (`--hidden` without a number), the mean action, before tanh, is the weighted mean
    of the actions that the sensors would take alone: late fusion on the level of decisions. Weights in proportion to
    precision are best where the sensors' errors are independent. Precisions that are learned through the mean alone
    state nothing of errors; `calibrate` mends that. If nothing is live, mask tokens decide, all with the same weight.
    """

    temperature: Tensor

    def __init__(self, sensors: int, token_dim: int) -> None:
        """Per sensor a hidden layer of D and an output layer of D + 1."""
        super().__init__()
        self.features = token_dim
        self.hidden = nn.Parameter(torch.randn(sensors, token_dim, token_dim) * token_dim**-0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(sensors, token_dim))
        self.weight = nn.Parameter(torch.randn(sensors, token_dim, token_dim + 1) * token_dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(sensors, token_dim + 1))
        self.register_buffer("temperature", torch.ones(sensors))

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        decisions, log_precision = self.decide(tokens)
        return (self.weights(log_precision, available)[..., None] * decisions).sum(1)

    def decide(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What each sensor decides, (B, M, D), and the log-precision that it states, (B, M), calibrated."""
        hidden = nn.functional.elu(torch.einsum("bmd,mde->bme", tokens, self.hidden) + self.hidden_bias)
        decided = torch.einsum("bmd,mde->bme", hidden, self.weight) + self.bias
        stated = decided[..., -1].clamp(-_MOST, _MOST)
        return decided[..., :-1], stated - self.temperature.log()

    def weights(self, log_precision: Tensor, available: Tensor) -> Tensor:
        """Weights (B, M) of the decisions: 0 for sensors that are not live, and 1 in all."""
        least = torch.finfo(log_precision.dtype).min  # finite, so that a row in which nothing is live is no NaN
        return log_precision.masked_fill(~available, least).softmax(dim=1)


@torch.no_grad()
def calibrate(fusion: Late, tokens: Tensor, available: Tensor, errors: Tensor) -> Tensor:
    """Fits a temperature per sensor, so that the precisions that it states are right on the average.

    A sensor's variance, 1 / precision, is multiplied by its temperature T, the most likely one if errors are Gaussian:
    the mean of squared error × stated precision. It is temperature scaling (Guo et al. 2017) for regression, as the
    scaling of deviations by Levi et al. (2019); recalibration of Kuleshov et al. (2018) with one number.

    Args:
        fusion: its temperatures are replaced.
        tokens: (n, M, D), of rows that it did not learn from.
        available: bool (n, M), which sensors are live there.
        errors: (n, M), squared errors of what each sensor decides alone, means over the numbers of the decision.

    Returns:
        The temperatures (M,); 1 for a sensor that is nowhere live.

    Raises:
        InputError: errors of another shape, negative or not finite where the sensor is live.
    """
    if errors.shape != available.shape:
        raise InputError(
            f"errors must have the shape of available, {tuple(available.shape)}, got {tuple(errors.shape)}"
        )
    wrong = torch.where(available, errors, 0.0)
    if not bool(((wrong >= 0.0) & wrong.isfinite()).all()):
        raise InputError("errors are squares: where a sensor is live they must be finite and not negative")
    fusion.temperature.fill_(1.0)
    ratio = torch.where(available, wrong * fusion.decide(tokens)[1].exp(), 0.0)
    live = available.sum(0)
    found = (ratio.sum(0) / live.clamp(min=1)).clamp(min=1e-8)
    fusion.temperature.copy_(torch.where(live > 0, found, 1.0))
    return fusion.temperature.clone()
