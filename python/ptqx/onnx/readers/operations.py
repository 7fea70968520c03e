"""ONNX's operations in the words of the integer graph: functions of one variable, movements, pools,
layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isclose
from typing import Any

import numpy as np

from ...errors import PtqxError
from .values import Constant, Pending, QuantizedConstant, Value

Attrs = dict[str, Any]
NAMED_FUNCTIONS = {
    "Relu": "relu",
    "HardSwish": "hardswish",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softsign": "softsign",
    "Mish": "mish",
    "Exp": "exp",
    "Abs": "abs",
    "Neg": "neg",
}
WITH_NUMBER = {"Add": "add_scalar", "Mul": "mul_scalar", "Sub": "subtract_from", "Div": "divide_by_scalar"}


def function_of(value: Pending) -> tuple[str, list[Any], Value] | None:
    """Name and arguments in `ptqx.graph.activations.ACTIVATIONS`, and what it is applied to."""
    x = value.inputs[0]
    assert x is not None
    if value.op_type in NAMED_FUNCTIONS:
        return NAMED_FUNCTIONS[value.op_type], [], x
    if value.op_type == "Clip":
        low, high = (_number(v, default) for v, default in _padded(value, (-inf, inf)))
        return "clip", [low, high], x
    if value.op_type == "LeakyRelu":
        return "leaky_relu", [value.attrs.get("alpha", 0.01)], x
    if value.op_type == "Elu":
        return "elu", [value.attrs.get("alpha", 1.0)], x
    if value.op_type == "Gelu":
        return "gelu", [value.attrs.get("approximate", "none")], x
    if value.op_type == "HardSigmoid" and _is_torch_hardsigmoid(value):
        return "hardsigmoid", [], x
    return _gated(value) or _with_number(value)


def _padded(value: Pending, defaults: tuple[float, float]) -> list[tuple[Value | None, float]]:
    """Clip's bounds: inputs that may be left out."""
    given = list(value.inputs[1:]) + [None] * (2 - len(value.inputs[1:]))
    return list(zip(given, defaults, strict=True))


def _is_torch_hardsigmoid(value: Pending) -> bool:
    alpha, beta = value.attrs.get("alpha", 0.2), value.attrs.get("beta", 0.5)
    return isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5


def _gated(value: Pending) -> tuple[str, list[Any], Value] | None:
    """x * sigmoid(x) and x * hardsigmoid(x)"""
    if value.op_type != "Mul":
        return None
    for x, gate in (value.inputs, value.inputs[::-1]):
        if isinstance(gate, Pending) and x is not None and gate.inputs[0] is x:
            if gate.op_type == "Sigmoid":
                return "silu", [], x
            if gate.op_type == "HardSigmoid" and _is_torch_hardsigmoid(gate):
                return "hardswish", [], x
    return None


def _with_number(value: Pending) -> tuple[str, list[Any], Value] | None:
    if value.op_type not in WITH_NUMBER or len(value.inputs) != 2:
        return None
    first, second = value.inputs
    assert first is not None and second is not None
    number = scalar_of(second)
    if number is not None and value.op_type == "Sub":
        return "add_scalar", [-number], first
    if number is not None:
        return WITH_NUMBER[value.op_type], [number], first
    number = scalar_of(first)
    if number is None or value.op_type == "Div":
        return None
    return WITH_NUMBER[value.op_type], [number], second


def scalar_of(value: Value) -> float | None:
    array = array_of(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def array_of(value: Value | None) -> np.ndarray | None:
    """The numbers of a constant, quantized or not."""
    if isinstance(value, Constant):
        return value.array
    return value.real() if isinstance(value, QuantizedConstant) else None


def _number(value: Value | None, default: float) -> float:
    if value is None:
        return default
    array = array_of(value)
    if array is None:
        raise PtqxError("a bound of Clip is computed; only constants can be read")
    return float(array.reshape(()))


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer: `weight` OIHW or [out, in]; `attrs` are those of the integer graph's
    node. With `zeros` the image is x with zeros between its pixels, that many times as large."""

    op: str
    x: Value
    weight: Constant | QuantizedConstant
    bias: Constant | QuantizedConstant | None
    attrs: Attrs
    zeros: list[int] | None = None


def layer_of(value: Value) -> Layer | None:
    """The layer whose result `value` is; None if it is none."""
    if not isinstance(value, Pending):
        return None
    if value.op_type == "Add":
        return _product_and_bias(value)
    if value.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return None
    x, weight, *rest = value.inputs
    bias = rest[0] if rest else None
    if not isinstance(weight, Constant | QuantizedConstant) or x is None:
        return None
    if bias is not None and not isinstance(bias, Constant | QuantizedConstant):
        return None
    if value.op_type == "Conv":
        return Layer("conv2d", x, weight, bias, _convolution(value, weight))
    if value.op_type == "ConvTranspose":
        return _transposed_convolution(value, x, weight, bias)
    attrs = value.attrs
    if attrs.get("transA") or attrs.get("alpha", 1.0) != 1.0 or attrs.get("beta", 1.0) != 1.0:
        raise PtqxError(f"{value.label}: only alpha=1, beta=1, transA=0 can be read")
    return Layer("linear", x, weight if attrs.get("transB") else transposed(weight), bias, {})


def _product_and_bias(value: Pending) -> Layer | None:
    for product, bias in (value.inputs, value.inputs[::-1]):
        if isinstance(product, Pending) and product.op_type == "MatMul":
            layer = layer_of(product)
            vector = array_of(bias)
            if layer is not None and vector is not None and vector.size == value.shape[-1]:
                assert isinstance(bias, Constant | QuantizedConstant)
                return Layer(layer.op, layer.x, layer.weight, bias, layer.attrs)
    return None


def _convolution(value: Pending, weight: Constant | QuantizedConstant) -> Attrs:
    shape = (weight.array if isinstance(weight, Constant) else weight.codes).shape
    if len(shape) != 4:
        raise PtqxError(f"{value.label}: only two-dimensional convolutions can be read")
    _require_explicit_padding(value)
    return {
        "stride": list(value.attrs.get("strides", [1, 1])),
        "padding": list(value.attrs.get("pads", [0, 0, 0, 0])),
        "dilation": list(value.attrs.get("dilations", [1, 1])),
        "groups": value.attrs.get("group", 1),
    }


def _transposed_convolution(
    value: Pending,
    x: Value,
    weight: Constant | QuantizedConstant,
    bias: Constant | QuantizedConstant | None,
) -> Layer:
    """As the convolution with stride 1 of the image with zeros between its pixels."""
    attrs = _convolution(value, weight)
    if attrs["groups"] != 1 or "output_shape" in value.attrs:
        raise PtqxError(f"{value.label}: only group=1 without output_shape can be read")
    kernel = _of_convolution(weight)
    sizes = (kernel.array if isinstance(kernel, Constant) else kernel.codes).shape[2:]
    reach = [d * (k - 1) for d, k in zip(attrs["dilation"], sizes, strict=True)]
    longer = list(value.attrs.get("output_padding", [0, 0]))
    before = [r - p for r, p in zip(reach, attrs["padding"][:2], strict=True)]
    after = [r - p + o for r, p, o in zip(reach, attrs["padding"][2:], longer, strict=True)]
    if min(before + after) < 0:
        raise PtqxError(f"{value.label}: only padding up to dilation * (kernel_shape - 1) can be read")
    zeros = None if attrs["stride"] == [1, 1] else attrs["stride"]
    return Layer("conv2d", x, kernel, bias, {**attrs, "stride": [1, 1], "padding": before + after}, zeros)


def _of_convolution(weight: Constant | QuantizedConstant) -> Constant | QuantizedConstant:
    """[in, out, KH, KW] as OIHW."""

    def ordered(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(array.swapaxes(0, 1), (2, 3)))

    if isinstance(weight, Constant):
        return Constant(ordered(weight.array))
    w = weight
    if w.block_size:
        raise PtqxError("weights of a transposed convolution in blocks can't be read")
    return QuantizedConstant(ordered(w.codes), w.dtype, w.scale, w.zero_point, 1 - w.axis, 0)


def transposed(weight: Constant | QuantizedConstant) -> Constant | QuantizedConstant:
    if isinstance(weight, Constant):
        return Constant(weight.array.T)
    w = weight
    blocks = (w.scale.T, w.zero_point.T) if w.block_size else (w.scale, w.zero_point)
    return QuantizedConstant(w.codes.T, w.dtype, *blocks, 1 - w.axis, w.block_size)


def is_transpose(value: Value | None, perm: list[int]) -> bool:
    return isinstance(value, Pending) and value.op_type == "Transpose" and value.attrs.get("perm") == perm


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Over the last dimension of `x`; `weight` and `bias` float32 [channels]."""

    x: Value
    weight: np.ndarray
    bias: np.ndarray
    eps: float


def layer_norm_of(value: Value | None) -> LayerNorm | None:
    """LayerNormalization with constants over the last dimension; None for anything else."""
    if not isinstance(value, Pending) or value.op_type != "LayerNormalization":
        return None
    rank = len(value.shape) + 1
    if value.attrs.get("axis", -1) % rank != rank - 1:
        raise PtqxError(f"{value.label}: only over the last dimension")
    return LayerNorm(*_norm_arguments(value))


@dataclass(frozen=True, eq=False)
class GroupNorm(LayerNorm):
    """Over height, width and the channels of each group of [C, H, W]."""

    groups: int


def group_norm_of(value: Value | None) -> GroupNorm | None:
    """GroupNormalization or InstanceNormalization with constants for each channel; None for anything else."""
    kinds = ("GroupNormalization", "InstanceNormalization")
    if not isinstance(value, Pending) or value.op_type not in kinds:
        return None
    x, weight, bias, eps = _norm_arguments(value)
    groups = value.attrs.get("num_groups", len(weight))
    if len(value.shape) != 3 or len(weight) != value.shape[0]:
        raise PtqxError(f"{value.label}: only of [N, C, H, W] with a number a channel (opset 21) can be read")
    return GroupNorm(x, weight, bias, eps, groups)


def _norm_arguments(value: Pending) -> tuple[Value, np.ndarray, np.ndarray, float]:
    """What is normalized, weight and bias, float32, and eps."""
    x, weight, *rest = value.inputs
    factors, offsets = array_of(weight), array_of(rest[0]) if rest else None
    if x is None or factors is None or (rest and offsets is None):
        raise PtqxError(f"{value.label}: weight and bias must be constants")
    eps = float(str(np.float32(value.attrs.get("epsilon", 1e-5))))  # as it was before it was float32
    factors = factors.astype(np.float32).reshape(-1)
    zeros = np.zeros_like(factors)
    return x, factors, zeros if offsets is None else offsets.astype(np.float32).reshape(-1), eps


Movement = Callable[[Pending, tuple[int, ...]], tuple[str, Attrs]]
MOVEMENTS: dict[str, Movement] = {}


def movement(*op_types: str) -> Callable[[Movement], Movement]:
    """Enter a function that gives operation and attributes of what moves values of a sample's shape."""

    def enter(function: Movement) -> Movement:
        MOVEMENTS.update(dict.fromkeys(op_types, function))
        return function

    return enter


@movement("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def _reshape(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs]:
    if len(value.shape) == 1:
        return "flatten", {"start_dim": 1}
    return "reshape", {"sample_shape": list(value.shape)}


@movement("Transpose")
def _transpose(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs]:
    dims = list(value.attrs.get("perm", []))
    if not dims or dims[0] != 0:
        raise PtqxError(f"{value.label}: the batch must stay the first dimension")
    return "permute", {"dims": dims}


@movement("Slice")
def _slice(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs]:
    arrays = [array_of(v) for v in value.inputs[1:]]
    if any(a is None and v is not None for a, v in zip(arrays, value.inputs[1:], strict=True)):
        raise PtqxError(f"{value.label}: its bounds are computed; only constants can be read")
    starts, ends, axes, steps = ([] if a is None else a.tolist() for a in [*arrays, None, None][:4])
    rank = len(shape) + 1
    along = [axis % rank for axis in axes or range(len(starts))]
    bounds = {axis: slice(start, end) for axis, start, end in zip(along, starts, ends, strict=True)}
    space = {2, 3} if rank == 4 else set()
    if any(step != 1 for step in steps) or not (bounds.keys() <= {1} or bounds.keys() <= space):
        raise PtqxError(f"{value.label}: only channels, or rows and columns, can be sliced, without a step")
    indices = [bounds.get(axis + 1, slice(None)).indices(size)[:2] for axis, size in enumerate(shape)]
    if 1 in bounds or not space:
        return "slice", {"dim": 1, "start": indices[0][0], "end": indices[0][1]}
    (top, bottom), (left, right) = indices[1:]
    return "pad", {"padding": [-top, -left, bottom - shape[1], right - shape[2]]}


@movement("MaxPool")
def _max_pool(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs]:
    dilation = list(value.attrs.get("dilations", [1, 1]))
    return "max_pool2d", {**_windows(value, shape, dilation), "dilation": dilation}


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@movement("Pad")
def _pad(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs]:
    pads = array_of(value.inputs[1])
    number = _number(value.inputs[2] if len(value.inputs) > 2 else None, 0.0)
    mode = _PAD_MODES.get(value.attrs.get("mode", "constant"))
    if mode is None or pads is None or pads.size != 8 or any(pads[[0, 1, 4, 5]]) or number != 0.0:
        raise PtqxError(
            f"{value.label}: only zeros, or parts of the image, around height and width can be read"
        )
    padding = [int(pads[i]) for i in (2, 3, 6, 7)]
    return "pad", {"padding": padding} if mode == "constant" else {"padding": padding, "mode": mode}


@movement("Resize")
def _resize(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs]:
    factors = [out / into for out, into in zip(value.shape[1:], shape[1:], strict=True)]
    if value.shape[0] == shape[0] and value.attrs.get("mode") == "linear":
        return "upsample_bilinear2d", _bilinear(value, shape)
    is_nearest = value.attrs.get("mode", "nearest") == "nearest"
    if not is_nearest or value.shape[0] != shape[0] or any(f != int(f) or f < 1 for f in factors):
        raise PtqxError(
            f"{value.label}: only linear, and nearest by whole factors, can be read, got {factors}"
        )
    return "upsample_nearest2d", {"scale_factor": [int(f) for f in factors]}


def _bilinear(value: Pending, shape: tuple[int, ...]) -> Attrs:
    """Where PyTorch has the same coordinates."""
    corners = value.attrs.get("coordinate_transformation_mode", "half_pixel")
    size = list(value.shape[1:])
    known = corners in ("half_pixel", "align_corners") or (corners == "pytorch_half_pixel" and 1 not in size)
    if len(size) != 2 or not known or value.attrs.get("antialias", 0):
        raise PtqxError(
            f"{value.label}: only linear over rows and columns, half_pixel or align_corners and without "
            f"antialias, can be read; this is {corners}"
        )
    scales = array_of(value.inputs[2]) if len(value.inputs) > 2 else None
    if corners != "align_corners" and scales is not None and scales.size:
        given = scales.flatten()[-2:]
        if any(
            not isclose(f * before, after, rel_tol=1e-5)
            for f, before, after in zip(given, shape[1:], size, strict=True)
        ):
            raise PtqxError(f"{value.label}: scales {given.tolist()} of {list(shape[1:])} give no whole size")
    return {"size": size, "align_corners": corners == "align_corners"}


def average_of(value: Pending, shape: tuple[int, ...]) -> tuple[str, Attrs] | None:
    """Operation and attributes of an average over windows or the whole image."""
    if value.op_type == "GlobalAveragePool":
        return "adaptive_avg_pool2d", {"output_size": [1, 1]}
    if value.op_type == "ReduceMean":
        axes = array_of(value.inputs[1]) if len(value.inputs) > 1 else np.asarray(value.attrs.get("axes", []))
        assert axes is not None
        if len(shape) == 3 and sorted(axes.flatten() % 4) == [2, 3]:
            return "adaptive_avg_pool2d", {"output_size": [1, 1]}
        raise PtqxError(f"{value.label}: only the mean over height and width can be read")
    if value.op_type != "AveragePool":
        return None
    counted = bool(value.attrs.get("count_include_pad", 0))
    top, left, bottom, right = value.attrs.get("pads", [0, 0, 0, 0])
    if counted and (top, left) != (bottom, right):
        raise PtqxError(f"{value.label}: counted padding must be equal on both sides")
    return "avg_pool2d", {**_windows(value, shape, [1, 1]), "count_include_pad": counted, "divisor": 0}


def _windows(value: Pending, shape: tuple[int, ...], dilation: list[int]) -> Attrs:
    """Padding after the last row and column that only completes windows is `ceil_mode`."""
    _require_explicit_padding(value)
    kernel = list(value.attrs["kernel_shape"])
    stride, padding = list(value.attrs.get("strides", [1, 1])), list(value.attrs.get("pads", [0] * 4)[:2])
    for ceil_mode in (False, True):
        sizes = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
        if tuple(_count(*size, ceil_mode) for size in sizes) == value.shape[1:]:
            return {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    raise PtqxError(f"{value.label}: only equal padding on both sides can be read, got {value.attrs['pads']}")


def _count(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """PyTorch's number of windows: with `ceil_mode` the last must begin inside the image or before it."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def _require_explicit_padding(value: Pending) -> None:
    if value.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise PtqxError(f"{value.label}: auto_pad can't be read; write explicit pads")
