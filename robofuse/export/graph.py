"""Builds the ONNX graph of a policy, in which an `If` for every sensor skips its encoder while it is hidden.

The layers are the policy's own. Only the code around them is written again, as `ImageEncoder` writes into buffers and
branches on values to save time, which a graph cannot. `robofuse.export` compares the result with the policy.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import GraphProto, NodeProto, TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from robofuse.deploy.inputs import NEXT, STATE
from robofuse.errors import InputError
from robofuse.policies.agents import Network, Statistics
from robofuse.policies.encoders import ImageEncoder, VectorEncoder
from robofuse.policies.planes import SLOPE
from robofuse.policies.u2a.transformer import TransformerEncoder, own_at, patches
from robofuse.sensors import AVAILABLE, Sensor, channels_last

OPSET = 17  # the first with LayerNormalization: runtimes of 2022 can read it
_IR = 8  # of the same year
ACTION = "action"
_OWN = "robofuse:"  # before the names of all values in the graph, as a sensor may have any other name
_LIVE, _ALWAYS, _ROWS = f"{_OWN}live", f"{_OWN}always", f"{_OWN}rows"
_HEAD = f"{_OWN}head/"


def build(network: Network, sensors: Sequence[Sensor], required: Sequence[str] = ()) -> onnx.ModelProto:
    """The graph of a network for one observation, without meta data.

    Inputs are the sensors by key, (1, …) in their own dtypes, and `available`, int8 (1, M). The output is `action`:
    float32 (1, …) within the bounds of a Box, or int64 (1,) of a Discrete. A policy with a recurrent memory also reads
    `robofuse:memory`, float32 (1, H), zeros where an episode begins, and gives `robofuse:memory_next`. The token of a
    sensor comes out of an `If` on its entry of `available`: one branch is its encoder, the other its mask token.

    The batch is 1, as an `If` decides for a whole batch: with more rows every encoder would run as soon as one row
    needs it.

    Args:
        network: what it is made of, on any device; it is not changed.
        sensors: its sensors, in the order of `available`, with the shapes and dtypes that it reads.
        required: keys of the sensors that are live whatever `available` says.

    Raises:
        InputError: an encoder that is not robofuse's, or a sensor that is called `action`.
    """
    if ACTION in [sensor.key for sensor in sensors]:
        raise InputError(f"a sensor is called {ACTION!r}, as the output is; train with another key for it")
    extractor, count = network.extractor, len(sensors)
    device = extractor.mask_tokens.device
    zeros, estimates = extractor.masked_as == "zeros", extractor.estimates is not None
    constants = {f"{_OWN}column/{m}": np.array([m]) for m in range(count)}
    constants |= {_ALWAYS: np.ones((1, 1), bool), f"{_OWN}all": np.ones((1, count), bool)}
    nodes, lives, tokens = [_node("Cast", [AVAILABLE], _LIVE, to=TensorProto.BOOL)], [], []
    for m, sensor in enumerate(sensors):
        lives.append(_ALWAYS if sensor.key in required else f"{_LIVE}/{m}")
        if lives[-1] != _ALWAYS:
            nodes.append(_node("Gather", [_LIVE, f"{_OWN}column/{m}"], lives[-1], axis=1))
        encoder = to_token(extractor.encoders[sensor.key], sensor.shape, m if estimates else None)
        one = torch.zeros(1, *sensor.shape, device=device)
        with torch.no_grad():
            read_zero = extractor.masked_as in ("zeros", "flag")
            hidden = encoder(one) if read_zero else extractor.mask_tokens[m : m + 1]
            if estimates:  # a missing sensor says nothing
                hidden = torch.zeros_like(extractor.mask_tokens)[None]
        if sensor.key in network.normalised:
            encoder = Normalised(encoder, network.normalised[sensor.key])
        tokens.append(f"{_OWN}token/{m}")
        branches = {
            "then_branch": _encode(sensor.key, _traced(encoder, {"x": one}, ["token"], f"{_OWN}encoder/{m}/")),
            "else_branch": _constant(f"{_OWN}hidden/{m}", hidden),
        }
        nodes.append(_node("If", [lives[-1]], tokens[-1], **branches))
    size = extractor.mask_tokens.shape
    example = torch.zeros(1, count, *(size if estimates else size[1:]), device=device)
    read = torch.ones(1, count, dtype=torch.bool, device=device)
    given, outputs, state = {"tokens": example, "read": read}, [ACTION], []
    if network.recurrent is not None:
        state_shape = 1, network.recurrent.size
        given["state"], outputs = torch.zeros(state_shape, device=device), [ACTION, "state_next"]
        state = [helper.make_tensor_value_info(STATE, TensorProto.FLOAT, state_shape, "what is remembered")]
    head = _traced(Head(network), given, outputs, _HEAD)
    nodes += [
        _node("Concat", tokens, _ROWS, axis=0),
        _node("Unsqueeze", [_ROWS, f"{_OWN}column/0"], f"{_HEAD}tokens"),
        _node("Identity", [f"{_OWN}all"], f"{_HEAD}read") if zeros else _node("Concat", lives, f"{_HEAD}read", axis=1),
        *(_node("Identity", [one.name], f"{_HEAD}state") for one in state),
        *head.node,
        *(_node("Identity", [out.name], name) for out, name in zip(head.output, (ACTION, NEXT), strict=False)),
    ]
    weights = [*head.initializer, *(numpy_helper.from_array(x, name) for name, x in constants.items())]
    for output, name in zip(head.output, (ACTION, NEXT), strict=False):
        output.name = name
    graph = helper.make_graph(nodes, "policy", [*_inputs(sensors), *state], list(head.output), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR)
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(kind: str, inputs: Sequence[str], output: str, **options: Any) -> NodeProto:  # noqa: ANN401
    return helper.make_node(kind, list(inputs), [output], output, **options)


def _inputs(sensors: Sequence[Sensor]) -> list[onnx.ValueInfoProto]:
    found = []
    for sensor in sensors:
        element, unit = helper.np_dtype_to_tensor_dtype(np.dtype(sensor.dtype)), sensor.unit or "unit unknown"
        found.append(helper.make_tensor_value_info(sensor.key, element, (1, *sensor.shape), f"{sensor.kind}, {unit}"))
    says = "1 = delivering, for " + ", ".join(sensor.key for sensor in sensors)
    return [*found, helper.make_tensor_value_info(AVAILABLE, TensorProto.INT8, (1, len(sensors)), says)]


def _encode(key: str, traced: GraphProto) -> GraphProto:
    """The branch of a live sensor: its encoder, from its reading in its own dtype to its token."""
    cast = _node("Cast", [key], traced.input[0].name, to=TensorProto.FLOAT)
    name = traced.output[0].name
    return helper.make_graph([cast, *traced.node], name, [], list(traced.output), list(traced.initializer))


def _constant(name: str, token: Tensor) -> GraphProto:
    """The branch of a hidden sensor: its mask token."""
    value = numpy_helper.from_array(token.detach().cpu().numpy(), f"{name}/token")
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, list(token.shape))
    return helper.make_graph([_node("Identity", [value.name], name)], name, [], [output], [value])


def _traced(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], prefix: str) -> GraphProto:
    """The graph that torch makes of a module, with all names prefixed.

    By the older, tracing exporter: the newer one needs another package, and these modules have no control flow.
    """
    buffer: Any = io.BytesIO()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused operator that ONNX does not have
    try:
        with warnings.catch_warnings():
            # the exporter is the older one, and shapes and bounds become constants, as they should
            warnings.simplefilter("ignore")
            names: dict[str, Any] = {"input_names": list(inputs), "output_names": outputs}
            torch.onnx.export(module, (*inputs.values(),), buffer, dynamo=False, opset_version=OPSET, **names)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    model = onnx.load_model_from_string(buffer.getvalue())
    return compose.add_prefix(model, prefix).graph


def to_token(encoder: nn.Module, shape: Sequence[int], own: int | None = None) -> nn.Module:
    """A module from one reading of that shape as float32 (1, …) to its token (1, D).

    Args:
        encoder: a policy's.
        shape: of the reading.
        own: of an encoder that estimates the others' tokens, its own place among them: the result is (1, M, D).

    Raises:
        InputError: an encoder that is not robofuse's.
    """
    last = channels_last(tuple(shape))
    if isinstance(encoder, ImageEncoder):
        return _Image(encoder, last)
    if isinstance(encoder, VectorEncoder):
        return _Vector(encoder, False)
    if isinstance(encoder, TransformerEncoder):
        return _Transformer(encoder, last, own)
    known = "ImageEncoder, VectorEncoder and TransformerEncoder"
    raise InputError(f"export knows the encoders {known}, not {type(encoder).__name__}")


class _Encoder(nn.Module):
    def __init__(self, encoder: Any, last: bool) -> None:  # noqa: ANN401
        super().__init__()
        self.encoder, self.last = encoder, last  # whether a picture's channels are last
        self.train(encoder.training)  # the mode that torch's exporter puts back


class _Image(_Encoder):
    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        return encoder.head(encoder.convolutions(_planes(x, encoder, self.last)))


def _planes(x: Tensor, encoder: Any, last: bool) -> Tensor:  # noqa: ANN401
    """An image as float32 to its planes, (1, C, H, W), scaled; see `policies/planes.py`."""
    images = x.permute(0, 3, 1, 2) if last else x
    return _depth(images, encoder.scale) if encoder.depth else _colours(images, encoder.scale, encoder.middle)


def _colours(planes: Tensor, scale: float, middle: Tensor) -> Tensor:
    frames = [planes[:, 3 * k : 3 * k + 3] for k in range(middle.numel() - planes.shape[1])]
    saturations = [colours.amax(1, keepdim=True) - colours.amin(1, keepdim=True) for colours in frames]
    return torch.cat([planes, *saturations], dim=1) * (1.0 / scale) - middle.reshape(-1, 1, 1)


def _depth(frames: Tensor, scale: float) -> Tensor:
    size = frames.shape[2:]
    depth = frames.reshape(-1, 1, *size) / scale
    seen = (depth > 0).float()
    dx = (depth[..., 1:] - depth[..., :-1]) * (seen[..., 1:] * seen[..., :-1])
    dy = (depth[..., 1:, :] - depth[..., :-1, :]) * (seen[..., 1:, :] * seen[..., :-1, :])
    dx, dy = ((d * SLOPE).clamp(-1.0, 1.0) for d in (dx, dy))
    none = torch.zeros_like(depth)
    dx, dy = torch.cat([none[..., :1], dx], dim=3), torch.cat([none[..., :1, :], dy], dim=2)
    return torch.cat([depth, dx, dy], dim=1).reshape(1, -1, *size)


class _Asinh(torch.autograd.Function):
    """Asinh, for which ONNX has an operator and torch's exporter no translation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        return torch.asinh(x)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:  # noqa: ANN401
        return g.op("Asinh", x)


class _Vector(_Encoder):
    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        x = x.reshape(1, -1) / encoder.scale
        return encoder.layers(3.0 * _Asinh.apply(x / 3.0))


class _Transformer(_Encoder):
    """To its token (1, D); or to what it says of all sensors, (1, M, D), its own token in place `own`."""

    def __init__(self, encoder: TransformerEncoder, last: bool, own: int | None) -> None:
        super().__init__(encoder, last)
        self.own = own

    def forward(self, x: Tensor) -> Tensor:
        encoder, body = self.encoder, self.encoder.body
        if body.image:
            pieces = patches(_planes(x, body, self.last).permute(0, 2, 3, 1))
        else:
            pieces = (3.0 * _Asinh.apply(x.reshape(1, *body.unit.shape) * body.unit / 3.0)).reshape(1, -1, body.size)
        tokens = encoder.said(pieces)
        return tokens[:, 0] if self.own is None else own_at(tokens, self.own)


class Normalised(nn.Module):
    """An encoder behind the normalisation of readings that `VecNormalize` did in training."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: nn.Module, statistics: Statistics) -> None:
        """Of the encoder as `to_token` gives it."""
        super().__init__()
        self.encoder, self.limit = encoder, statistics.limit
        self.train(encoder.training)
        self.register_buffer("mean", torch.from_numpy(statistics.mean).float())
        self.register_buffer("deviation", torch.from_numpy(statistics.deviation).float())

    def forward(self, x: Tensor) -> Tensor:
        """Readings (1, …) to a token."""
        return self.encoder(((x - self.mean) / self.deviation).clamp(-self.limit, self.limit))


class Head(nn.Module):
    """From tokens (1, M, D) and which are read, bool (1, M), to the executed action, (1, …).

    With encoders that estimate, from what each says of all, (1, M, M, D). With a recurrent memory also from its state
    (1, H) to the next one.
    """

    def __init__(self, network: Network) -> None:
        """The fusion and the actor of this network."""
        super().__init__()
        self.extractor, self.actor, self.recurrent = network.extractor, network.actor, network.recurrent
        self.train(network.extractor.training)

    def forward(self, tokens: Tensor, read: Tensor, state: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        extractor = self.extractor
        if extractor.estimates is not None:
            tokens = extractor.estimates(tokens, read, extractor.mask_tokens)
        features = extractor.fusion(tokens, read) + extractor.availability(read.float())
        if state is None or self.recurrent is None:
            return self.actor(features)
        state = cast(Tensor, self.recurrent(features, state))
        return self.actor(torch.cat([features, state], dim=1)), state
