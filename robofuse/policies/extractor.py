"""The extractor: every sensor to a token, a learned token for every hidden one, one feature vector."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast, get_args

import gymnasium as gym
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from robofuse.dropout import hide
from robofuse.policies.encoders import Encoder
from robofuse.policies.fusion import Fusion
from robofuse.policies.trial import check_encoders, make_encoder, make_fusion
from robofuse.sensors import AVAILABLE, Kind, Sensor, infer_sensors, order
from robofuse.tensors import take

HiddenAs = Literal["token", "zeros"]
_ROWS = 32  # encoders see multiples of it: oneDNN compiles its kernels anew for every number of rows it meets


class Fused(NamedTuple):
    """What the extractor makes of a batch.

    Attributes:
        features: (B, F) what the policy reads.
        tokens: (B, M, D) a token per sensor; a hidden sensor's is its mask token.
        available: bool (B, M), which are live.
    """

    features: Tensor
    tokens: Tensor
    available: Tensor


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
        hidden_as: HiddenAs = "token",
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
                did. Those hide sensors on the environment's side, see `robofuse.dropout`.
            mixed_precision: encode images in bfloat16, for GPUs. Rounding may then depend on the number of rows, and
                PPO's first ratio be only about 1.
            live_rows_only: encode only rows where the sensor is live; off, for comparison, encodes zeros for the rest.
            hidden_as: `token`, or `zeros`, the baseline that most people write: a hidden sensor reads zero, its encoder
                and the fusion take that for a reading, and nothing tells that it is hidden.

        Raises:
            ValueError: an unknown fusion, encoder, kind, key or `hidden_as`, an `available` that is longer or shorter
                than there are sensors, or an encoder or fusion that does not give what it promises.
        """
        self.sensors = infer_sensors(observation_space, kinds) if sensors is None else order(sensors)
        keys = [sensor.key for sensor in self.sensors]
        for sensor in self.sensors:
            space = observation_space.spaces.get(sensor.key)
            if space is None:
                raise ValueError(f"no {sensor.key!r} in the observation; it has {', '.join(observation_space.spaces)}")
            if not isinstance(space, gym.spaces.Discrete) and space.shape is not None:
                sizes = sorted(space.shape), sorted(sensor.shape)  # SB3 may have moved the channels to the front
                if sizes[0] != sizes[1]:
                    raise ValueError(f"{sensor.key!r} has shape {space.shape} but the sensor was {sensor.shape}")
        check_encoders(encoders or {}, self.sensors)
        if hidden_as not in get_args(HiddenAs):
            raise ValueError(f"hidden_as must be one of {', '.join(get_args(HiddenAs))}, got {hidden_as!r}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        if dropout and _inside_actor_critic():
            raise ValueError(
                "dropout inside the extractor breaks PPO and A2C: the update would hide other sensors than the "
                "rollout did; use robofuse.dropout.VecSensorDropout (or World(dropout=...)) and dropout=0 here"
            )
        fuse = make_fusion(fusion, len(keys), token_dim)
        super().__init__(observation_space, int(cast(int, fuse.features)))
        self.dropout, self.mixed_precision, self.live_rows_only = dropout, mixed_precision, live_rows_only
        self.hidden_as = hidden_as
        self._columns = self._match(observation_space, keys, maskable)
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
        """Observation, key → (B, …), to features (B, F)."""
        return self.fuse(observations).features

    def fuse(self, observations: Mapping[str, Tensor]) -> Fused:
        """Features with the tokens they were made of, for auxiliary losses."""
        available = self.available(observations)
        read = available
        if self.hidden_as == "zeros":
            observations, read = self._zeroed(observations, available), torch.ones_like(available)
        tokens = [self._token(m, sensor.key, observations, read[:, m]) for m, sensor in enumerate(self.sensors)]
        stacked = torch.stack(tokens, dim=1)
        features = self.fusion(stacked, read) + self.availability(read.float())
        return Fused(features, stacked, available)

    def _zeroed(self, observations: Mapping[str, Tensor], available: Tensor) -> Mapping[str, Tensor]:
        keys = [sensor.key for sensor in self.sensors]
        readings = {key: observations[key] for key in keys if key in observations}
        for sensor in self.sensors:
            if sensor.key not in readings:  # a policy may be given no readings of what is hidden in all rows
                shape = self._observation_space.spaces[sensor.key].shape  # pyright: ignore[reportAttributeAccessIssue]
                dtype = getattr(torch, sensor.dtype)
                readings[sensor.key] = torch.zeros(len(available), *shape, dtype=dtype, device=available.device)
        return hide(readings, available, keys)

    def _token(self, m: int, key: str, observations: Mapping[str, Tensor], live: Tensor) -> Tensor:
        rows = live.nonzero()[:, 0]
        mask = self.mask_tokens[m].expand(len(live), -1)
        if len(rows) == 0:
            return mask
        x = observations[key]
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
        if not (self.mixed_precision and x.ndim == 4):
            return self.encoders[key](x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.encoders[key](x).float()

    def available(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Which sensors are live, bool (B, M); while training, with `dropout`, drawn anew at every call."""
        any_entry = next(iter(observations.values()))
        live = torch.ones(len(any_entry), len(self.sensors), dtype=torch.bool, device=any_entry.device)
        if AVAILABLE in observations:
            live[:, self._columns] = observations[AVAILABLE] > 0.5
        if self.dropout and self.training:
            kept = live & (torch.rand(live.shape, device=live.device) >= self.dropout)
            live = torch.where(kept.any(dim=1, keepdim=True), kept, live)  # never hide the last one
        return live

    @staticmethod
    def _match(space: gym.spaces.Dict, keys: list[str], maskable: Sequence[str] | None) -> list[int]:
        unknown = sorted(set(maskable or ()) - set(keys))
        if unknown:
            raise ValueError(f"maskable names {unknown[0]!r}, which is no sensor; sensors: {', '.join(keys)}")
        columns = [m for m, key in enumerate(keys) if maskable is None or key in maskable]
        shape = space.spaces[AVAILABLE].shape if AVAILABLE in space.spaces else (len(columns),)
        if shape != (len(columns),):
            raise ValueError(
                f"`available` has shape {shape} but there are {len(columns)} sensors ({', '.join(keys)}); name those "
                "that it stands for: maskable=[...]"
            )
        return columns


def _inside_actor_critic() -> bool:
    """Whether an on-policy SB3 policy is making this extractor, which SB3 does not tell."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ActorCriticPolicy):
            return True
        frame = frame.f_back
    return False
