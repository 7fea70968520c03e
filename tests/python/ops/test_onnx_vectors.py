"""ONNX's published node test cases, expressed by our operators: integers exactly.

QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, QLinearConv, ConvInteger, QLinearMatMul and
MatMulInteger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ptqx import ops
from torch import Tensor

onnx = pytest.importorskip("onnx")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

# ONNX's types of codes: how ours are stored, and their range.
CODES = {
    "uint8": (torch.uint8, 0, 255),
    "int8": (torch.int8, -128, 127),
    "uint4": (torch.uint8, 0, 15),
    "int4": (torch.int8, -8, 7),
    "uint2": (torch.uint8, 0, 3),
    "int2": (torch.int8, -2, 1),
}
REALS = {"float32": torch.float32, "float16": torch.float16, "int32": torch.int32}


class NotOurs(Exception):
    """A case of a type or form that ptqx does not have."""


def array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def tensor(value: Any) -> Tensor:
    data = array(value)
    name = data.dtype.name
    if name not in CODES and name not in REALS:
        raise NotOurs(f"tensors of {name}")
    dtype = CODES[name][0] if name in CODES else REALS[name]
    return torch.tensor(data.astype(np.float64).tolist(), dtype=torch.float64).to(dtype).reshape(data.shape)


def real(value: Any) -> Tensor:
    """A scale as float32, which holds every float16."""
    return tensor(value).float()


def point(value: Any, like: Tensor | None = None) -> Tensor:
    """A zero point as int32, in the shape of `like`; absent is 0."""
    if value is None:
        assert like is not None
        return torch.zeros_like(like, dtype=torch.int32)
    zero_point = tensor(value).to(torch.int32)
    if like is None or zero_point.numel() == like.numel():
        return zero_point if like is None else zero_point.reshape(like.shape)
    return zero_point.expand(like.shape)


def code_range(type_name: str) -> tuple[int, int]:
    if type_name not in CODES:
        raise NotOurs(f"codes of {type_name}")
    return CODES[type_name][1:]


def axis_and_groups(attributes: dict[str, Any], scale: Tensor, dim: int) -> tuple[int, int]:
    axis = attributes.get("axis", 1) % max(dim, 1)
    block_size = attributes.get("block_size", 0)
    if block_size and (axis != 1 or scale.dim() != 2):
        raise NotOurs(f"scale of shape {list(scale.shape)} in groups along axis {axis}")
    return axis, block_size


def quantize_linear(attributes: dict[str, Any], x: Any, scale: Any, zero_point: Any = None) -> Any:
    if zero_point is None:
        wanted = attributes.get("output_dtype", 0) or onnx.TensorProto.UINT8
        codes = onnx.TensorProto.DataType.Name(wanted).lower()
    else:
        codes = array(zero_point).dtype.name
    low, high = code_range(codes)
    s, values = real(scale), tensor(x)
    axis, groups = axis_and_groups(attributes, s, values.dim())
    return ops.quantize(values, s, point(zero_point, s), low, high, axis, groups)


def dequantize_linear(attributes: dict[str, Any], x: Any, scale: Any, zero_point: Any = None) -> Any:
    s, codes = real(scale), tensor(x)
    axis, groups = axis_and_groups(attributes, s, codes.dim())
    return ops.dequantize(codes, s, point(zero_point, s), axis, groups)


def dynamic_quantize_linear(attributes: dict[str, Any], x: Any) -> Any:
    codes, scale, zero_point = ops.dynamic_quantize(tensor(x))
    return codes, scale.reshape(()), zero_point.reshape(()).to(torch.uint8)


def geometry(attributes: dict[str, Any]) -> dict[str, Any]:
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET"):
        raise NotOurs("auto_pad")
    return {
        "stride": attributes.get("strides", [1, 1]),
        "padding": attributes.get("pads", [0, 0, 0, 0]),  # top, left, bottom, right: as ours
        "dilation": attributes.get("dilations", [1, 1]),
        "groups": attributes.get("group", 1),
    }


def conv_integer(attributes: dict[str, Any], x: Any, w: Any, x_zero: Any = None, w_zero: Any = None) -> Any:
    weight_zero_point = None if w_zero is None else point(w_zero)
    return ops.conv2d_s32(
        tensor(x), tensor(w), point(x_zero, torch.zeros(1)), weight_zero_point, **geometry(attributes)
    )


def qlinear_conv(
    attributes: dict[str, Any],
    x: Any,
    x_scale: Any,
    x_zero: Any,
    w: Any,
    w_scale: Any,
    w_zero: Any,
    y_scale: Any,
    y_zero: Any,
    bias: Any = None,
) -> Any:
    return ops.conv2d(
        tensor(x),
        real(x_scale),
        point(x_zero),
        tensor(w),
        real(w_scale),
        point(w_zero),
        None if bias is None else tensor(bias),
        real(y_scale),
        point(y_zero),
        *code_range(array(y_zero).dtype.name),
        **geometry(attributes),
    )


def by_matrix(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """ONNX multiplies stacks of matrices; a linear layer has one weight: one call a matrix of b."""
    if b.dim() == 2:
        return product(a, b.T)
    return torch.stack([by_matrix(product, left, right) for left, right in zip(a, b, strict=True)])


def matmul_integer(attributes: dict[str, Any], a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    zeros = point(a_zero, torch.zeros(1)), point(b_zero, torch.zeros(1))
    if zeros[0].numel() > 1:
        raise NotOurs("a zero point for each row of the left matrix")
    return by_matrix(lambda x, w: ops.linear_s32(x, w, *zeros), tensor(a), tensor(b))


def qlinear_matmul(
    attributes: dict[str, Any],
    a: Any,
    a_scale: Any,
    a_zero: Any,
    b: Any,
    b_scale: Any,
    b_zero: Any,
    y_scale: Any,
    y_zero: Any,
) -> Any:
    qparams = [real(a_scale), point(a_zero), real(b_scale), point(b_zero), real(y_scale), point(y_zero)]
    codes = code_range(array(y_zero).dtype.name)
    if qparams[0].numel() > 1 or qparams[4].numel() > 1:
        raise NotOurs("a scale for each row")
    return by_matrix(
        lambda x, w: ops.linear(x, *qparams[:2], w, *qparams[2:4], None, *qparams[4:], *codes),
        tensor(a),
        tensor(b),
    )


OPERATORS: dict[str, Callable[..., Any]] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "ConvInteger": conv_integer,
    "QLinearConv": qlinear_conv,
    "MatMulInteger": matmul_integer,
    "QLinearMatMul": qlinear_matmul,
}
CASES = [
    case
    for case in collect_testcases(None)
    if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPERATORS
]


def run(case: Any) -> tuple[Any, list[Any]]:
    node = case.model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    inputs, outputs = case.data_sets[0]
    given = iter(inputs)
    args = [next(given) if name else None for name in node.input]
    results = OPERATORS[node.op_type](attributes, *args)
    return results if isinstance(results, tuple) else (results,), outputs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_onnx_node_case(case: Any) -> None:
    try:
        results, outputs = run(case)
    except NotOurs as reason:
        pytest.skip(f"ptqx has no {reason}")
    assert len(results) == len(outputs)
    for result, output in zip(results, outputs, strict=True):
        expected = tensor(output)
        assert result.dtype == expected.dtype
        assert torch.equal(result, expected)


def test_onnx_cases_were_found_for_every_operator() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} == set(OPERATORS)
