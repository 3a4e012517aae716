"""The extractor: every sensor to a token, a learned token for every hidden one, one feature vector."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast, get_args

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from robofuse.dropout import mask_sensors
from robofuse.errors import InputError
from robofuse.policies.encoders import Encoder
from robofuse.policies.fusion import Fusion
from robofuse.policies.inputs import Readings, columns, droppable, for_rollouts
from robofuse.policies.registry import check_encoders, make_encoder, make_fusion
from robofuse.sensors import AVAILABLE, Kind, Sensor, infer_sensors, order
from robofuse.tensors import take

MaskedAs = Literal["token", "zeros"]
_ROWS = 32  # encoders see multiples of it: oneDNN compiles its kernels anew for every number of rows it meets


class Fused(NamedTuple):
    """What the extractor makes of a batch.

    Attributes:
        features: (B, F) what the policy reads.
        tokens: (B, M, D) a token per sensor; a hidden sensor's is its mask token.
        available: bool (B, M), which are live.
        memory: (B, H) what a policy with a memory remembers after this step.
    """

    features: Tensor
    tokens: Tensor
    available: Tensor
    memory: Tensor | None = None


class FusionExtractor(BaseFeaturesExtractor):
    """Fuses any number of sensors, of which any may be missing, for any SB3 policy with a Dict observation.

    Token s of a row is `encoder_s(x_s)` if the sensor is available there and the learned mask token s if not; hidden
    readings are never read, so NaN, noise or another episode in them change nothing, not in one bit, and no gradient.
    Only rows where a sensor is live pass its encoder: compute falls with the rate of dropout, and a sensor that is
    hidden in the whole batch costs nothing.

    Attributes:
        sensors: the sensors, in the order of `available`.
        features_dim: F.
    """

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        sensors: Sequence[Sensor] | None = None,
        kinds: Mapping[str, Kind] | None = None,
        token_dim: int = 64,
        fusion: str | Fusion = "concat",
        encoders: Mapping[str, str | Encoder] | None = None,
        maskable: Sequence[str] | None = None,
        dropout: float = 0.0,
        mixed_precision: bool = False,
        live_rows_only: bool = True,
        masked_as: MaskedAs = "token",
    ) -> None:
        """Builds an encoder per sensor.

        Args:
            observation_space: Dict space; `available` says which sensors deliver (without it, all do); `privileged`
                is never read.
            sensors: what the keys are, such as `World.sensors`; by default inferred from the space.
            kinds: key → kind, where inferring needs help.
            token_dim: D.
            fusion: a name of `robofuse.policies.FUSIONS`, or (M, D) → module, see `register_fusion`.
            encoders: key or kind → a name of `robofuse.policies.ENCODERS`, or (sensor, D) → module, see
                `register_encoder`; in place of the standard ones.
            maskable: keys that the entries of `available` stand for, if not for all sensors; the others always deliver.
            dropout: probability of hiding a sensor in a row once more while the module trains. For learners from a
                replay buffer (SAC, TD3, DQN) only: with PPO or A2C the update would see other sensors than the action
                did. Those hide sensors on the environment's side, see `robofuse.dropout`. Hides those that
                `maskable` names, by default all but `desired_goal`, and leaves one at least. Every call draws its own
                masks, from torch's random numbers, and only in train mode, which SB3 sets for the networks that take
                gradient steps: neither acting nor target networks miss what the row has. Targets are labels, and a
                mask drawn there would be noise in them.
            mixed_precision: encode images in bfloat16, for GPUs. Rounding may then depend on the number of rows, and
                PPO's first ratio be only about 1.
            live_rows_only: encode only rows where the sensor is live; off, for comparison, encodes zeros for the rest.
            masked_as: `token`, or `zeros`, the baseline that most people write: a hidden sensor reads zero, its encoder
                and the fusion take that for a reading, and nothing tells that it is hidden.

        Raises:
            ValueError: an unknown fusion, encoder, kind, key or `masked_as`, an `available` that is longer or shorter
                than there are sensors, dropout that would hide nothing, or for a policy that learns from rollouts, or
                an encoder or fusion that does not give what it promises.
        """
        self.sensors = infer_sensors(observation_space, kinds) if sensors is None else order(sensors)
        keys = [sensor.key for sensor in self.sensors]
        readings = Readings(observation_space, self.sensors)
        check_encoders(encoders or {}, self.sensors)
        if masked_as not in get_args(MaskedAs):
            raise InputError(f"masked_as must be one of {', '.join(get_args(MaskedAs))}, got {masked_as!r}")
        if not 0.0 <= dropout < 1.0:
            raise InputError(f"dropout must lie in [0, 1), got {dropout}")
        if dropout and for_rollouts():
            raise InputError(
                "dropout inside the extractor breaks PPO, A2C and their like: the update would hide other sensors than "
                "the rollout did; use robofuse.wrappers.VecSensorDropout (or World(dropout=...)) and dropout=0 here"
            )
        fuse = make_fusion(fusion, len(keys), token_dim)
        super().__init__(observation_space, int(cast(int, fuse.features)))
        self.dropout, self.mixed_precision, self.live_rows_only = dropout, mixed_precision, live_rows_only
        self.masked_as = masked_as
        self._columns, self._readings = columns(observation_space, keys, maskable), readings
        self._droppable = droppable(keys, maskable) if dropout else []
        self.encoders = nn.ModuleDict()
        for sensor in self.sensors:
            shape = observation_space.spaces[sensor.key].shape
            if len(sensor.shape) == 3 and shape is not None and tuple(shape) != sensor.shape:
                sensor = Sensor(**{**vars(sensor), "shape": tuple(shape)})
            self.encoders[sensor.key] = make_encoder(encoders or {}, sensor, token_dim)
        self.mask_tokens = nn.Parameter(torch.randn(len(keys), token_dim) * 0.5)
        self.fusion = fuse
        self.availability = nn.Linear(len(keys), self.features_dim, bias=False)
        nn.init.normal_(self.availability.weight, std=0.02)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observation, key → (B, …), to features (B, F).

        Without `available` all sensors deliver. A sensor that is hidden in every row may be missing.

        Raises:
            ValueError: a reading is missing, or of another shape, type or range than its space.
        """
        return self.fuse(observations).features

    def fuse(self, observations: Mapping[str, Tensor]) -> Fused:
        """Features with the tokens they were made of, for auxiliary losses."""
        available = self.available(observations)
        read = available
        if self.masked_as == "zeros":
            observations, read = self._zeroed(observations, available), torch.ones_like(available)
        tokens = [self._token(m, sensor.key, observations, read[:, m]) for m, sensor in enumerate(self.sensors)]
        stacked = torch.stack(tokens, dim=1)
        features = self.fusion(stacked, read) + self.availability(read.float())
        return Fused(features, stacked, available)

    def _zeroed(self, observations: Mapping[str, Tensor], available: Tensor) -> Mapping[str, Tensor]:
        keys = [sensor.key for sensor in self.sensors]
        readings = {key: observations[key] for key in keys if key in observations}
        for m, sensor in enumerate(self.sensors):
            if bool(available[:, m].any()):
                self._readings.read(observations, sensor.key)
            elif sensor.key not in readings:  # a policy may be given no readings of what is hidden in all rows
                shape = self._observation_space.spaces[sensor.key].shape  # pyright: ignore[reportAttributeAccessIssue]
                dtype = getattr(torch, sensor.dtype)
                readings[sensor.key] = torch.zeros(len(available), *shape, dtype=dtype, device=available.device)
        return mask_sensors(readings, available, keys)

    def _token(self, m: int, key: str, observations: Mapping[str, Tensor], live: Tensor) -> Tensor:
        rows = live.nonzero()[:, 0]
        mask = self.mask_tokens[m].expand(len(live), -1)
        if len(rows) == 0:
            return mask
        x = self._readings.read(observations, key)
        if len(rows) == len(live):
            return self._encode(key, x)
        if not self.live_rows_only:
            hidden = ~live.view(-1, *[1] * (x.ndim - 1))
            x = (x.view(torch.int16).masked_fill(hidden, 0).view(x.dtype) if x.dtype == torch.uint16
                 else x.masked_fill(hidden, 0))  # fmt: skip
            return torch.where(live[:, None], self._encode(key, x), mask)
        padded = torch.cat([rows, rows[-1:].expand(-len(rows) % _ROWS)])
        return mask.index_copy(0, rows, self._encode(key, take(x, padded))[: len(rows)])

    def _encode(self, key: str, x: Tensor) -> Tensor:
        x = self._readings.in_units(key, x)
        if not (self.mixed_precision and x.ndim == 4):
            return self.encoders[key](x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.encoders[key](x).float()

    def available(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Which sensors are live, bool (B, M); while training, with `dropout`, drawn anew at every call."""
        any_entry = next(iter(observations.values()))
        live = torch.ones(len(any_entry), len(self.sensors), dtype=torch.bool, device=any_entry.device)
        if AVAILABLE in observations:
            told = observations[AVAILABLE]
            if told.shape != (len(live), len(self._columns)):
                raise InputError(f"`available` must have shape (N, {len(self._columns)}), got {tuple(told.shape)}")
            live[:, self._columns] = told > 0.5
        if self.dropout and self.training:
            live[:, self._droppable] = _hide_some(live[:, self._droppable], self.dropout)
        return live


def _hide_some(live: Tensor, dropout: float) -> Tensor:
    """Bool (B, M) with fewer live; where none would be left, one is, uniformly at random, as `Independent` has it."""
    chances = torch.rand(live.shape, device=live.device)
    kept = live & (chances >= dropout)
    likeliest = chances.masked_fill(~live, -1.0).argmax(dim=1, keepdim=True)
    one = torch.zeros_like(live).scatter_(1, likeliest, True) & live
    return torch.where(kept.any(dim=1, keepdim=True), kept, one)
