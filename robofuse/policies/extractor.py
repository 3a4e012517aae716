"""The extractor: every sensor to a token, a learned token for every hidden one, one feature vector.

Read `FusionExtractor.fuse`.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, cast, get_args

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from robofuse.checks import zeros_and_ones
from robofuse.dropout import Dropout, Law, RowMasker
from robofuse.dropout.apply import mask_sensors
from robofuse.errors import InputError
from robofuse.policies.encoders import Encoder
from robofuse.policies.fusion import Fusion
from robofuse.policies.readings import Readings, being_exported
from robofuse.policies.registry import check_encoders, make_encoder, make_fusion
from robofuse.policies.token_dropout import NOISY, TokenDropout
from robofuse.policies.u2a.estimates import Estimate, Estimates
from robofuse.policies.u2a.lora import Adapt, adapt_encoder
from robofuse.policies.u2a.transformer import TransformerEncoder, own_at
from robofuse.sensors import AVAILABLE, PRIVILEGED, Kind, Sensor, infer_sensors, order
from robofuse.tensors import on_cpu, take

MaskedAs = Literal["token", "flag", "zeros", "estimate"]
_ROWS = 32  # encoders see multiples of it: oneDNN compiles its kernels anew for every number of rows it meets
_LARGE = 2048  # numbers of a vector or window, beyond which it may be an image, a point cloud or a sound
_GOAL = "desired_goal"  # of Gymnasium's goal environments: an order to the agent, not a reading


class Fused(NamedTuple):
    """What the extractor makes of a batch.

    Attributes:
        features: (B, F) what the policy reads.
        tokens: (B, M, D) a token per sensor; a hidden sensor's is its mask token, or what `masked_as` says.
        available: bool (B, M), which are live.
        memory: (B, H) what a policy with a memory remembers after this step.
        estimates: (B, M, M, D) what every live sensor says of every other's token, see `Estimates`; only with
            `masked_as="estimate"`.
        encoded: (B, M, D) the tokens before masked ones were replaced; only with `encode_masked`.
        there: bool (B, M), where `encoded` is of a reading.
    """

    features: Tensor
    tokens: Tensor
    available: Tensor
    memory: Tensor | None = None
    estimates: Tensor | None = None
    encoded: Tensor | None = None
    there: Tensor | None = None

    def own_tokens(self) -> tuple[Tensor, Tensor]:
        """What encoders made of readings, (B, M, D), and where, bool (B, M), for losses on a sensor's own token."""
        if self.encoded is None or self.there is None:
            return self.tokens, self.available
        return self.encoded, self.there


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
        ignore: Sequence[str] = (),
        dropout: Dropout | Law | float = 0.0,
        mixed_precision: bool = False,
        live_rows_only: bool = True,
        masked_as: MaskedAs = "token",
        estimate: Estimate = "mean",
        adapt: Adapt = "full",
        encode_masked: bool = False,
        token_dropout: Mapping[str, float] | None = None,
    ) -> None:
        """Builds an encoder per sensor.

        Args:
            observation_space: Dict space; `available` says which sensors deliver (without it, all do); `privileged`
                is never read.
            sensors: what the keys are, such as `World.sensors`; by default inferred from the space, see `describe`.
            kinds: key → kind, where inferring needs help.
            token_dim: D.
            fusion: a name of `robofuse.policies.FUSIONS`, or (M, D) → module, see `register_fusion`.
            encoders: key or kind → a name of `robofuse.policies.ENCODERS`, or (sensor, D) → module, see
                `register_encoder`; in place of the standard ones.
            maskable: keys that the entries of `available` stand for, if not for all; the others always deliver.
            ignore: keys that are never read, although `available` may have entries for them.
            dropout: sensors to hide in a row once more while the module trains: a probability, a law, or a
                `robofuse.dropout.Dropout`, whose schedule `DropoutProgress` tells of progress. For learners from a
                replay buffer (SAC, TD3, DQN) only: with PPO or A2C the update would see other sensors than the action
                did. Those hide sensors on the environment's side, see `robofuse.dropout`. Hides those that
                `maskable` names, by default all but `desired_goal`, and leaves one at least, see `RowMasker`. Every
                call draws its own masks, from torch's random numbers, and only in train mode, which SB3 sets for the
                networks that take gradient steps: neither acting nor target networks miss what the row has. Targets
                are labels, and a mask drawn there would be noise in them.
            mixed_precision: encode images in bfloat16, for GPUs. Rounding may then depend on the number of rows, and
                PPO's first ratio be only about 1.
            live_rows_only: encode only rows where the sensor is live; off, for comparison, encodes zeros for the rest.
                On a GPU that is always so, as one would have to wait for it to know which rows are live.
            masked_as: what stands for a hidden sensor: `token`, its learned mask token; or `zeros`, the baseline that
                most people write: it reads zero, its encoder and the fusion take that for a reading, and nothing tells
                that it is hidden; or `flag`, in between: what its encoder makes of zeros, and the fusion is told; or
                `estimate`, what the live sensors' encoders say of its token (U2A), for encoders that are `transformer`.
            estimate: how estimates of several live sensors become one: `mean`, or `gated`, by learned weights.
            adapt: what learns of an encoder that is a `transformer`: all (`full`), low-rank adapters of its
                attention (`lora`), or nothing but its head and tokens (`frozen`).
            encode_masked: feature-level dropout, for environments that keep masked readings (`fill="keep"`): in train
                mode encoders see these, too, and their tokens are replaced after that. The features, and so every loss
                on features, actions or values, are the same whatever a masked reading is, and no gradient of these
                reaches an encoder through it. What does is losses on a sensor's own token (`Fused.own_tokens`): truth
                heads and reconstruction. A reading of nothing but zeros, or with NaN or Inf, counts as not there.
            token_dropout: dropout of numbers within the network, to compare with: kind → probability, of `standard`,
                `feature` and `attention`, see `TokenDropout`. Not for PPO, A2C and their like.

        Raises:
            InputError: an unknown fusion, encoder, kind, key or `masked_as`, an `available` that is longer or shorter
                than there are sensors, dropout that would hide nothing, or an encoder or fusion that does not do what
                it must. Also when the extractor becomes part of a policy that learns from rollouts and has dropout.
        """
        if sensors is None:
            self.sensors = infer_sensors(_without(observation_space, ignore), kinds, encoded=encoders or ())
            told = {*(kinds or {}), *(encoders or {})}
            _warn_of_large([sensor for sensor in self.sensors if sensor.key not in told])
        else:
            self.sensors = order(sensors)
        keys = [sensor.key for sensor in self.sensors]
        readings = Readings(observation_space, self.sensors)
        check_encoders(encoders or {}, self.sensors)
        for name, given, known in (
            ("masked_as", masked_as, MaskedAs),
            ("estimate", estimate, Estimate),
            ("adapt", adapt, Adapt),
        ):
            if given not in get_args(known):
                raise InputError(f"{name} must be one of {', '.join(get_args(known))}, got {given!r}")
        if encode_masked and masked_as in ("zeros", "estimate"):
            raise InputError(
                f'encode_masked replaces tokens after the encoder, masked_as="{masked_as}" before; leave one'
            )
        if isinstance(dropout, int | float) and not 0.0 <= dropout < 1.0:
            raise InputError(f"dropout must lie in [0, 1), got {dropout}")
        fuse = make_fusion(fusion, len(keys), token_dim)
        super().__init__(observation_space, int(cast(int, fuse.features)))
        self.dropout, self.mixed_precision, self.live_rows_only = dropout, mixed_precision, live_rows_only
        self.masked_as, self.estimate, self.encode_masked = masked_as, estimate, encode_masked
        self.adapt: Adapt = adapt
        self.ignore, self.readings = tuple(ignore), readings
        self._told, self._columns, self._width = _available_columns(observation_space, keys, maskable, ignore)
        self._droppable = _droppable(keys, maskable) if dropout else []
        self._row_masker = RowMasker(dropout, [keys[m] for m in self._droppable]) if dropout else None
        self.encoders = nn.ModuleDict(
            {key: make_encoder(encoders or {}, sensor, token_dim) for key, sensor in readings.encoded.items()}
        )
        self.estimates = Estimates(len(keys), estimate) if masked_as == "estimate" else None
        self._prepare_transformers()
        self.mask_tokens = nn.Parameter(torch.randn(len(keys), token_dim) * 0.5)
        self.fusion = fuse
        self.token_dropout = TokenDropout(token_dropout, fuse) if token_dropout else None
        self.availability = nn.Linear(len(keys), self.features_dim, bias=False)
        nn.init.normal_(self.availability.weight, std=0.02)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Observation, key → (B, …), to features (B, F).

        Without `available` all sensors deliver. A sensor that is hidden in every row may be missing.

        Raises:
            InputError: a reading is missing, or of another shape, type or range than its space.
        """
        return self.fuse(observations).features

    def fuse(self, observations: Mapping[str, Tensor]) -> Fused:
        """Features with the tokens they were made of, for auxiliary losses."""
        available = self.available(observations)
        read = available
        if self.masked_as == "zeros":
            observations, read = self._zeroed(observations, available), torch.ones_like(available)
        if self.encode_masked and self.training and torch.is_grad_enabled():
            return self._with_masked_encoded(observations, available)
        tokens = [self._token(m, sensor.key, observations, read[:, m]) for m, sensor in enumerate(self.sensors)]
        stacked = torch.stack(tokens, dim=1)
        if self.estimates is not None:
            return self._from_estimates(stacked, available)
        return Fused(self._features(stacked, read), stacked, available)

    def _features(self, tokens: Tensor, available: Tensor) -> Tensor:
        if self.token_dropout is not None:
            tokens = self.token_dropout(tokens)
        return self.fusion(tokens, available) + self.availability(available.float())

    def _with_masked_encoded(self, observations: Mapping[str, Tensor], available: Tensor) -> Fused:
        encoded, there = [], []
        for m, sensor in enumerate(self.sensors):
            key, live = sensor.key, available[:, m]
            there.append(live | _is_there(observations.get(key), live))
            # masked rows apart, as rounding may depend on the number of rows; elsewhere than on a CPU it is always all
            token = self._token(m, key, observations, live if on_cpu(live) else there[-1])
            masked = self._token(m, key, observations, there[-1] & ~live) if on_cpu(live) else token
            encoded.append(torch.where(live[:, None], token, masked))
        encoded = torch.stack(encoded, dim=1)
        tokens = torch.where(available[..., None], encoded, self._stand_ins())
        features = self._features(tokens, available)
        return Fused(features, tokens, available, encoded=encoded, there=torch.stack(there, dim=1))

    def _from_estimates(self, said: Tensor, available: Tensor) -> Fused:
        assert self.estimates is not None
        tokens = self.estimates(said, available, self.mask_tokens)
        return Fused(self._features(tokens, available), tokens, available, estimates=said)

    def fuse_again(self, fused: Fused, available: Tensor) -> Fused:
        """The same rows with fewer live sensors, from tokens that are there: no encoder runs.

        Args:
            fused: of B rows.
            available: bool (K · B, M), a part of those that are live, K times for every row.

        Returns:
            Features, tokens and masks of K · B rows; gradients flow into the encoders as through `fuse`.

        Raises:
            InputError: `masked_as="zeros"`, where nothing tells that a sensor is masked.
        """
        if self.masked_as == "zeros":
            raise InputError('masks cannot be drawn again with masked_as="zeros"; it takes mask tokens')
        count = len(available) // len(fused.tokens)
        if fused.estimates is not None:
            return self._from_estimates(fused.estimates.repeat(count, 1, 1, 1), available)
        again = fused.tokens.repeat(count, 1, 1)
        tokens = torch.where(available[..., None], again, self._stand_ins())
        return Fused(self._features(tokens, available), tokens, available)

    def _zeroed(self, observations: Mapping[str, Tensor], available: Tensor) -> Mapping[str, Tensor]:
        keys = [sensor.key for sensor in self.sensors]
        readings = {key: observations[key] for key in keys if key in observations}
        for m, sensor in enumerate(self.sensors):
            if bool(available[:, m].any()):
                self.readings.read(observations, sensor.key)
            elif sensor.key not in readings:  # a policy may be given no readings of what is hidden in all rows
                zeros = self.readings.zeros(sensor, available.device)
                readings[sensor.key] = zeros.repeat(len(available), *[1] * (zeros.ndim - 1))
        return mask_sensors(readings, available, keys)

    def _prepare_transformers(self) -> None:
        """Asks encoders for estimates of the other sensors, and freezes what is not to learn.

        Raises:
            InputError: there are encoders that estimate nothing, or none that can be adapted.
        """
        found = {key: one for key, one in self.encoders.items() if isinstance(one, TransformerEncoder)}
        others = {key: type(one).__name__ for key, one in self.encoders.items() if key not in found}
        if self.masked_as == "estimate" and others:
            raise InputError(
                'masked_as="estimate" needs encoders that estimate the other sensors, such as transformer; '
                f"{', '.join(f'{key!r} has {name}' for key, name in others.items())}: say encoders="
                f"{dict.fromkeys(others, 'transformer')}"
            )
        if self.adapt != "full" and not found:
            raise InputError(f"adapt={self.adapt!r} is for the encoder transformer, and no sensor has it")
        for encoder in found.values():
            adapt_encoder(encoder, self.adapt)
            if self.masked_as == "estimate":
                encoder.estimate(len(self.sensors) - 1)

    def _token(self, m: int, key: str, observations: Mapping[str, Tensor], live: Tensor) -> Tensor:
        """The token (B, D) of sensor m; of one that estimates, what it says of all, (B, M, D), 0 where it is hidden."""
        rows = live.nonzero()[:, 0] if on_cpu(live) else None
        if rows is not None and len(rows) == len(live) > 0:
            return self._encode(m, key, self.readings.read(observations, key))
        mask = self._stand_in(m) if self.estimates is None else torch.zeros_like(self.mask_tokens)
        mask = mask.expand(len(live), *mask.shape)
        if rows is not None and len(rows) == 0:
            return mask
        x = self.readings.read(observations, key)
        if rows is None or not self.live_rows_only:
            hidden = ~live.view(-1, *[1] * (x.ndim - 1))
            x = (x.view(torch.int16).masked_fill(hidden, 0).view(x.dtype) if x.dtype == torch.uint16
                 else x.masked_fill(hidden, 0))  # fmt: skip
            return torch.where(live.view(-1, *[1] * (mask.ndim - 1)), self._encode(m, key, x), mask)
        padded = torch.cat([rows, rows[-1:].expand(-len(rows) % _ROWS)])
        return mask.index_copy(0, rows, self._encode(m, key, take(x, padded))[: len(rows)])

    def _stand_in(self, m: int) -> Tensor:
        """What stands for sensor m where it is hidden, (D,)."""
        if self.masked_as != "flag":
            return self.mask_tokens[m]
        sensor = self.sensors[m]
        return self._encode(m, sensor.key, self.readings.zeros(sensor, self.mask_tokens.device))[0]

    def _stand_ins(self) -> Tensor:
        """Of all sensors, (M, D)."""
        if self.masked_as != "flag":
            return self.mask_tokens
        return torch.stack([self._stand_in(m) for m in range(len(self.sensors))])

    def _encode(self, m: int, key: str, x: Tensor) -> Tensor:
        x = self.readings.for_encoder(key, x)
        if not (self.mixed_precision and x.ndim == 4):
            return self._encoded(m, key, x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self._encoded(m, key, x).float()

    def _encoded(self, m: int, key: str, x: Tensor) -> Tensor:
        if self.estimates is None:
            return self.encoders[key](x)
        return own_at(cast(TransformerEncoder, self.encoders[key]).tokens(x), m)

    def available(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Which sensors are live, bool (B, M); while training, with `dropout`, drawn anew at every call.

        Raises:
            InputError: `available` has another shape, or holds anything but 0 and 1.
        """
        any_entry = next(iter(observations.values()))
        live = torch.ones(len(any_entry), len(self.sensors), dtype=torch.bool, device=any_entry.device)
        if AVAILABLE in observations:
            told = observations[AVAILABLE]
            if told.shape != (len(live), self._width):
                raise InputError(f"`available` must have shape (N, {self._width}), got {tuple(told.shape)}")
            if on_cpu(told) and not being_exported():
                zeros_and_ones(told, "`available`")
            for m, column in zip(self._told, self._columns, strict=True):
                live[:, m] = told[:, column] > 0
        if self._row_masker is not None and self.training:
            live[:, self._droppable] = self._row_masker.draw(live[:, self._droppable])
        return live

    def tell(self, live: Tensor) -> Tensor:
        """`available`, int8 (B, n), which says that these sensors are live, bool (B, K), in the order of `told_of`."""
        rows = torch.ones(len(live), self._width, dtype=torch.int8, device=live.device)
        rows[:, self._columns] = live.to(torch.int8)
        return rows

    @property
    def told_of(self) -> tuple[str, ...]:
        """Keys of the sensors that `available` tells about."""
        return tuple(self.sensors[m].key for m in self._told)

    def set_dropout_progress(self, progress: float) -> bool:
        """Sets the training progress in [0, 1] of the schedule of `dropout`; False if there is none."""
        if self._row_masker is None:
            return False
        self._row_masker.progress = progress
        return True

    def describe(self) -> str:
        """What every key was taken for, a line each: kind, type and shape, scale, and its encoder with its weights."""
        lines = []
        for key, sensor in self.readings.encoded.items():
            scale = f"{sensor.scale:g}" if isinstance(sensor.scale, int | float) else "one scale per element"
            what = f"{key}: {sensor.kind}, {sensor.dtype} {sensor.shape}, divided by {scale}"
            encoder = self.encoders[key]
            count = sum(weights.numel() for weights in encoder.parameters())
            lines.append(f"{what}, {type(encoder).__name__} ({count:,} weights)")
        return "\n".join([*lines, *(f"{key}: ignored" for key in self.ignore)])

    def extra_repr(self) -> str:
        """For `print(policy)`."""
        return self.describe()


def _is_there(x: Tensor | None, like: Tensor) -> Tensor:
    """Where readings (B, …) are finite, and not zeros alone, which masks and faults leave behind; bool (B,) `like`."""
    if x is None:
        return torch.zeros_like(like)
    numbers = (x.view(torch.int16) if x.dtype == torch.uint16 else x).reshape(len(x), -1)
    return (numbers != 0).any(1) & numbers.isfinite().all(1)


def _without(space: gym.Space, ignore: Sequence[str]) -> gym.Space:
    """A Dict space without keys that are never read."""
    if not ignore or not isinstance(space, gym.spaces.Dict):
        return space
    return gym.spaces.Dict({key: part for key, part in space.spaces.items() if key not in ignore})


def _warn_of_large(sensors: Sequence[Sensor]) -> None:
    """One warning about guessed vectors and windows so large that they may be something else."""
    large = [sensor for sensor in sensors if len(sensor.shape) < 3 and math.prod(sensor.shape) > _LARGE]
    if large:
        told = ", ".join(f"{sensor.key!r} {sensor.shape} is taken for a {sensor.kind}" for sensor in large)
        said, first = ", ".join(f"{sensor.key!r}: {sensor.kind!r}" for sensor in large), large[0].key
        warnings.warn(
            f"{told}: flattened, and every number gets weights of its own. An image needs a third axis for its "
            "channels (gymnasium.wrappers.TransformObservation); for a point cloud, a sound or labels there are "
            f"encoders={{{first!r}: 'points', 'scan' or 'labels'}}. If it is meant so, say kinds={{{said}}}",
            stacklevel=3,
        )


def _available_columns(
    space: gym.spaces.Dict, keys: Sequence[str], maskable: Sequence[str] | None, ignore: Sequence[str]
) -> tuple[list[int], list[int], int]:
    """Positions of the sensors that `available` tells about, the columns where it does so, and how many it has.

    Raises:
        InputError: `maskable` or `ignore` names no key, or `available` has another length.
    """
    both = sorted(set(ignore) & set(keys))
    if both:
        raise InputError(f"ignore names {both[0]!r}, which sensors=[...] has as well; leave it out of one of them")
    for name, given in (("maskable", set(maskable or ()) - {*keys, *ignore}), ("ignore", {*ignore} - {*space.spaces})):
        if given:
            known = ", ".join(keys if name == "maskable" else space.spaces)
            raise InputError(f"{name} names {min(given)!r}, which is no sensor; sensors: {known}")
    told = [key for key in sorted([*keys, *ignore]) if maskable is None or key in maskable]
    shape = space.spaces[AVAILABLE].shape if AVAILABLE in space.spaces else (len(told),)
    if shape is not None and len(shape) == 2:
        raise InputError(
            f"`available` has shape {shape}, as if frames of it had been stacked; stack frames first and hide sensors "
            "after that: VecSensorDropout(VecFrameStack(...)), SensorDropout(FrameStackObservation(...))"
        )
    if shape != (len(told),):
        others = [key for key in space.spaces if key not in (*keys, *ignore, AVAILABLE, PRIVILEGED)]
        also = f"; keys that are never read: ignore={others}" if others else ""
        raise InputError(
            f"`available` has shape {shape} but there are {len(told)} sensors ({', '.join(told)}); name those "
            f"that it stands for: maskable=[...]{also}"
        )
    pairs = [(keys.index(key), column) for column, key in enumerate(told) if key in keys]
    return [m for m, _ in pairs], [column for _, column in pairs], len(told)


def _droppable(keys: Sequence[str], maskable: Sequence[str] | None) -> list[int]:
    """Positions of the sensors that dropout in the network may hide; by default all but the order, `desired_goal`.

    `achieved_goal` is a sensor to the network. HER, which needs it, reads the replay buffer, where it stays as it was.

    Raises:
        InputError: there are fewer than two, and one always stays.
    """
    found = [m for m, key in enumerate(keys) if (key != _GOAL if maskable is None else key in maskable)]
    if len(found) < 2:
        raise InputError(
            f"dropout would never hide anything, as one sensor always stays: of {', '.join(keys)} it may hide "
            f"{', '.join(keys[m] for m in found) or 'none'}; divide a sensor in two, or name more in maskable=[...]"
        )
    return found


def _joined(parent: nn.Module, name: str, module: nn.Module | None) -> None:
    """Called by torch whenever a module becomes part of another: what an extractor must know of its policy.

    SB3 makes extractors from the space alone, and does not tell them whether the policy divides images by 255, nor
    whether it evaluates the actions of rollouts (PPO, A2C, TRPO, …), which masks drawn anew would spoil.
    """
    if module is None or not hasattr(parent, "normalize_images"):
        return  # no policy of SB3
    for extractor in module.modules():
        if not isinstance(extractor, FusionExtractor):
            continue
        if extractor.dropout and hasattr(parent, "evaluate_actions"):
            raise InputError(
                "dropout inside the extractor breaks PPO, A2C and their like: the update would hide other sensors than "
                "the rollout did; use robofuse.wrappers.VecSensorDropout (or World(dropout=...)) and dropout=0 here"
            )
        if extractor.token_dropout and hasattr(parent, "evaluate_actions") and not hasattr(parent, "refuse_noise"):
            raise InputError(NOISY)
        extractor.readings.divided = bool(parent.normalize_images)


register_module_module_registration_hook(_joined)
