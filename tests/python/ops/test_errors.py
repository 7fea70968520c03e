"""Bad arguments: one clear ValueError that names the argument, what was expected and what came."""

from __future__ import annotations

import math
from typing import Any

import op_samples
import pytest
import torch
from op_samples import SEVERAL_OUTPUTS, engine_program, reals, s8, scale, scales, u8, zero, zeros
from ptqx import ops

X = reals(2, 4, 5, 5)
QX = u8(2, 4, 5, 5)
W = s8(6, 4, 3, 3)
ONE = torch.ones(1)


def conv(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "input": QX,
        "input_scale": ONE,
        "input_zero_point": zero(),
        "weight": W,
        "weight_scale": scales(6),
        "weight_zero_point": None,
        "bias": None,
        "output_scale": ONE,
        "output_zero_point": zero(),
        "qmin": 0,
        "qmax": 255,
    }
    return lambda: ops.conv2d(**{**args, **changes})


def conv_fixed_point(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "input": QX,
        "input_zero_point": zero(),
        "weight": W,
        "weight_zero_point": None,
        "bias": None,
        "multiplier": zero(1),
        "shift": zero(4),
        "output_zero_point": zero(),
        "qmin": 0,
        "qmax": 255,
    }
    return lambda: ops.conv2d_fixed_point(**{**args, **changes})


def linear(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "input": u8(3, 8),
        "input_scale": ONE,
        "input_zero_point": zero(),
        "weight": s8(6, 8),
        "weight_scale": ONE,
        "weight_zero_point": None,
        "bias": None,
        "output_scale": ONE,
        "output_zero_point": zero(),
        "qmin": 0,
        "qmax": 255,
    }
    return lambda: ops.linear(**{**args, **changes})


def quantize(x: Any = X, s: Any = None, z: Any = None, qmin: int = 0, qmax: int = 255, **rest: Any) -> Any:
    return lambda: ops.quantize(
        x, scale() if s is None else s, zero() if z is None else z, qmin, qmax, **rest
    )


def requantize(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "terms": [u8(2, 3)],
        "offsets": [],
        "multiplier": torch.ones(1, 1, dtype=torch.int32),
        "shift": zero(4),
        "zero_point": zero(),
        "qmin": 0,
        "qmax": 255,
        "dtype": torch.uint8,
    }
    return lambda: ops.requantize(**{**args, **changes})


def average(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "input": QX,
        "input_scale": ONE,
        "input_zero_point": zero(),
        "output_scale": ONE,
        "output_zero_point": zero(),
        "qmin": 0,
        "qmax": 255,
        "kernel_size": 2,
    }
    return lambda: ops.avg_pool2d(**{**args, **changes})


def group_norm(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "input": reals(2, 4, 3, 3),
        "groups": 2,
        "weight": torch.ones(4),
        "bias": torch.zeros(4),
        "output_scale": ONE,
        "output_zero_point": zero(),
    }
    return lambda: ops.group_norm(**{**args, **changes})


def layer_norm(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "input": reals(3, 4),
        "weight": torch.ones(4),
        "bias": torch.zeros(4),
        "output_scale": ONE,
        "output_zero_point": zero(),
    }
    return lambda: ops.layer_norm(**{**args, **changes})


def softmax(**changes: Any) -> Any:
    args: dict[str, Any] = {"input": reals(2, 4, 3, 3), "output_scale": ONE, "output_zero_point": zero()}
    return lambda: ops.softmax(**{**args, **changes})


def matmul(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "a": u8(2, 4, 3, 5),
        "a_scale": ONE,
        "a_zero_point": zero(),
        "b": u8(2, 4, 3, 6),
        "b_scale": ONE,
        "b_zero_point": zero(),
        "output_scale": ONE,
        "output_zero_point": zero(),
    }
    return lambda: ops.matmul(**{**args, **changes})


def add(**changes: Any) -> Any:
    args: dict[str, Any] = {
        "a": QX,
        "a_scale": ONE,
        "a_zero_point": zero(),
        "b": QX,
        "b_scale": ONE,
        "b_zero_point": zero(),
        "output_scale": ONE,
        "output_zero_point": zero(),
        "qmin": 0,
        "qmax": 255,
    }
    return lambda: ops.add(**{**args, **changes})


def broken(value: float) -> torch.Tensor:
    x = X.clone()
    x[0, 1, 2, 3] = x[1, 2, 3, 4] = value
    return x


CASES: dict[str, tuple[Any, str]] = {
    "quantize-integers": (quantize(QX), "input must be float32.* got uint8"),
    "quantize-nan": (quantize(broken(math.nan)), "input must be finite, got 2 NaN or infinite values of 200"),
    "quantize-inf": (quantize(broken(-math.inf)), "input must be finite, got 2 NaN"),
    "quantize-scale-zero": (quantize(s=scale(0.0)), "scale must be finite and positive, got 0"),
    "quantize-scale-negative": (quantize(s=scale(-1.0)), "scale must be finite and positive, got -1"),
    "quantize-scale-nan": (quantize(s=scale(math.nan)), "scale must be finite and positive, got nan"),
    "quantize-scale-double": (quantize(s=scale().double()), "scale must be float32, got float64"),
    "quantize-scale-count": (quantize(s=scales(3), z=zeros(3), axis=1), "scale must have 1 or 4 elements"),
    "quantize-axis": (quantize(s=scales(4), z=zeros(4), axis=4), r"axis must lie in -4\.\.3, got 4"),
    "quantize-zero-point-high": (quantize(z=zero(256)), r"zero_point must lie in 0\.\.255, got 256"),
    "quantize-zero-point-int8": (
        quantize(z=zero(200), qmin=-128, qmax=127),
        r"zero_point must lie in -128\.\.127",
    ),
    "quantize-zero-point-type": (quantize(z=torch.zeros(1)), "zero_point must be int32, got float32"),
    "quantize-zero-point-shape": (
        quantize(s=scales(4), z=zeros(2, 2), axis=1),
        "zero_point must have the shape of",
    ),
    "quantize-range": (quantize(qmin=0, qmax=256), "qmin and qmax must satisfy"),
    "quantize-range-empty": (quantize(qmin=5, qmax=5), "qmin and qmax must satisfy"),
    "quantize-group-size": (quantize(group_size=-1), "group_size must be at least 0"),
    "quantize-group-shape": (
        quantize(s=scales(2, 3), z=zeros(2, 3), group_size=2),
        r"scale must have shape \[2, 2\]",
    ),
    "dequantize-floats": (
        lambda: ops.dequantize(X, ONE, zero()),
        "input must be uint8, int8 or int32, got float32",
    ),
    "dequantize-zero-point": (lambda: ops.dequantize(s8(3), ONE, zero(-129)), "zero_point must lie in -128"),
    "dynamic-nan": (lambda: ops.dynamic_quantize(broken(math.nan)), "input must be finite, got 2"),
    "dynamic-range": (lambda: ops.dynamic_quantize(torch.tensor([-3e38, 3e38])), "range that fits float32"),
    "fake-quantize-codes": (lambda: ops.fake_quantize(QX, ONE, zero(), 0, 15), "input must be float32"),
    "fake-quantize-scale": (
        lambda: ops.fake_quantize(X, scale(math.inf), zero(), 0, 15),
        "scale must be finite",
    ),
    "fake-quantize-zero-point": (
        lambda: ops.fake_quantize(X, ONE, scale(math.nan), 0, 15),
        "zero_point must be fin",
    ),
    "backward-shape": (
        lambda: ops.fake_quantize_backward(X[:1], X, ONE, zero(), 0, 15),
        "grad must have input's",
    ),
    "signs-scale": (lambda: ops.sign_codes(X, scale(0.0), ONE), "scale must be finite and positive"),
    "signs-threshold": (lambda: ops.sign_codes(X, ONE, scales(2)), "must have one element"),
    "signs-dtype": (
        lambda: ops.sign_codes(X, ONE, ONE, torch.int8),
        "dtype must be a floating type, got Char",
    ),
    "signs-codes": (lambda: ops.sign_codes(QX, ONE, ONE), "input must be float32"),
    "signs-backward-shape": (lambda: ops.sign_codes_backward(X[:1], X, ONE, ONE), "grad must have input's"),
    "histogram-bounds": (lambda: ops.histogram(X, 1.0, 1.0, 5), "low and high must be finite"),
    "histogram-bins": (lambda: ops.histogram(X, 0.0, 1.0, 0), "bins must lie in"),
    "conv-floats": (conv(input=X), "input must be uint8 or int8, got float32"),
    "conv-rank": (conv(input=QX[0]), r"input must have 4 dimensions, got shape \[4, 5, 5\]"),
    "conv-channels": (conv(input=u8(2, 3, 5, 5)), "input must have 4 channels"),
    "conv-groups": (conv(groups=4), "groups must divide the 6 output channels"),
    "conv-groups-zero": (conv(groups=0), "groups must divide"),
    "conv-small-input": (conv(input=u8(2, 4, 2, 5)), "input must be at least as large as the window of 3"),
    "conv-stride": (conv(stride=[0, 1]), "stride must be at least 1"),
    "conv-padding-length": (conv(padding=[1, 1]), "padding must have 4 entries"),
    "conv-padding-negative": (conv(padding=-1), "padding must be at least 0"),
    "conv-weight-float": (conv(weight=W.float()), "weight must be uint8 or int8, got float32"),
    "conv-weight-empty": (conv(weight=W[:0]), "weight must not be empty"),
    "conv-weight-scale": (conv(weight_scale=scales(5)), "weight_scale must have 1 or 6 elements"),
    "conv-weight-scale-zero": (conv(weight_scale=torch.zeros(6)), "weight_scale must be finite and positive"),
    "conv-weight-zero-point": (
        conv(weight_zero_point=zeros(5)),
        "weight_zero_point must have 1 or 6 elements",
    ),
    "conv-weight-bits": (conv(weight_bits=9), "weight_bits must lie in 1..8, got 9"),
    "conv-weight-shape-missing": (
        conv(weight_bits=4),
        r"weight_shape must be given where weight_bits is below 8, .*, got \[\] with weight_bits 4",
    ),
    "conv-weight-shape-needless": (conv(weight_shape=[6, 4, 3, 3]), "weight_shape must be given where"),
    "conv-weight-unpacked": (
        conv(weight_bits=4, weight_shape=[6, 4, 3, 3]),
        "weight must be uint8, got int8",
    ),
    "conv-weight-packed-shape": (
        conv(weight=u8(6, 17), weight_bits=4, weight_shape=[6, 4, 3, 3]),
        r"weight must have shape \[6, 18\] for 4-bit codes of weight_shape \[6, 4, 3, 3\], got \[6, 17\]",
    ),
    "conv-weight-levels-type": (conv(weight_levels=torch.zeros(1, 256)), "weight_levels must be int8"),
    "conv-weight-levels-shape": (
        conv(weight_levels=s8(2, 256)),
        r"weight_levels must have shape \[1 or 6, 256\], got \[2, 256\]",
    ),
    "conv-bias-type": (
        conv(bias=torch.zeros(6, dtype=torch.int64)),
        "bias must be int32 or float32, got int64",
    ),
    "conv-bias-shape": (conv(bias=torch.zeros(5)), r"bias must have shape \[6\], got \[5\]"),
    "conv-bias-nan": (conv(bias=torch.full((6,), math.nan)), "bias must be finite"),
    "conv-group-size": (
        conv(group_size=3, weight_scale=scales(6, 2)),
        "group_size must be 0 or a positive multiple",
    ),
    "conv-group-scale": (conv(group_size=4), r"weight_scale must have shape \[6, 1\]"),
    "conv-group-bias": (
        conv(group_size=4, weight_scale=scales(6, 1), bias=torch.zeros(6, dtype=torch.int32)),
        "bias must be float32 with group_size",
    ),
    "conv-input-zero-point": (
        conv(input_zero_point=zero(-1)),
        r"input_zero_point must lie in 0\.\.255, got -1",
    ),
    "conv-input-scale-count": (conv(input_scale=scales(2)), "input_scale must have one element"),
    "conv-output-zero-point": (conv(output_zero_point=zero(300)), "output_zero_point must lie in 0"),
    "conv-activation": (conv(activation="relu"), "activation must be none, clip, .* got 'relu'"),
    "conv-activation-args": (
        conv(activation="clip", activation_args=[1.0]),
        r"of clip must be \[low, high\]",
    ),
    "conv-activation-order": (conv(activation="clip", activation_args=[1.0, 0.0]), "low <= high"),
    "conv-activation-nan": (conv(activation="leaky_relu", activation_args=[math.nan]), "must not be NaN"),
    "conv-slopes-missing": (conv(activation="prelu"), "slopes must be given for prelu"),
    "conv-slopes-count": (conv(activation="prelu", slopes=scales(4)), "slopes must have 1 or 6 elements"),
    "conv-residual-alone": (conv(residual=u8(2, 6, 3, 3)), "must be given together"),
    "conv-residual-shape": (
        conv(residual=u8(2, 6, 3, 2), residual_scale=ONE, residual_zero_point=zero()),
        "residual must have the output's shape",
    ),
    "conv-f32-samples": (
        lambda: ops.conv2d_f32(QX, scales(3), zeros(3), W, ONE, None, None),
        "must both have 1 or 2",
    ),
    "requantize-nothing": (requantize(terms=[]), "terms must hold at least one tensor"),
    "requantize-real": (requantize(terms=[reals(2, 3)]), "terms must be .* got float32"),
    "requantize-shapes": (requantize(terms=[u8(2, 3), u8(3, 2)]), r"terms must have one shape, got \[2, 3\]"),
    "requantize-multiplier": (
        requantize(multiplier=zeros(1, 2)),
        r"multiplier must have shape \[1, 1\] or \[1, 3\], got \[1, 2\]",
    ),
    "requantize-shift": (requantize(shift=zero(63)), r"shift must be in 0\.\.62, got 63"),
    "requantize-shift-count": (requantize(shift=zeros(2)), "shift must have 1 or 3 elements"),
    "requantize-offsets": (
        requantize(offsets=[zero(), zero()]),
        "offsets must hold one tensor for each of 1",
    ),
    "requantize-offset": (requantize(offsets=[zeros(4)]), "offsets must have 1 or 3 elements"),
    "requantize-range": (
        requantize(qmin=-1),
        r"qmin and qmax must be in order and in 0\.\.255, got -1 and 255",
    ),
    "requantize-order": (requantize(qmin=9, qmax=8), "qmin and qmax must be in order"),
    "requantize-dtype": (requantize(dtype=torch.int32), "dtype must be uint8, int8 or int16"),
    "fixed-point-multiplier": (
        conv_fixed_point(multiplier=zeros(5)),
        r"multiplier must have 1 or 6 elements, got shape \[5\]",
    ),
    "fixed-point-multiplier-type": (
        conv_fixed_point(multiplier=ONE),
        "multiplier must be int32, got float32",
    ),
    "fixed-point-shift": (conv_fixed_point(shift=zero(63)), r"shift must be in 0\.\.62, got 63"),
    "fixed-point-shift-count": (conv_fixed_point(shift=zeros(2)), "shift must have 1 or 6 elements"),
    "fixed-point-bias": (conv_fixed_point(bias=reals(6)), "bias must be int32, got float32"),
    "fixed-point-bias-count": (conv_fixed_point(bias=zeros(5)), r"bias must have shape \[6\], got \[5\]"),
    "fixed-point-order": (conv_fixed_point(qmin=9, qmax=8), "0 <= qmin <= qmax <= 255"),
    "fixed-point-zero-point": (
        conv_fixed_point(output_zero_point=zero(256)),
        r"output_zero_point must lie in 0\.\.255, got 256",
    ),
    "fixed-point-input": (conv_fixed_point(input=X), "input must be uint8 or int8, got float32"),
    "linear-features": (linear(input=u8(3, 7)), "input must have 8 features"),
    "linear-bias-overflow": (
        linear(bias=torch.full((6,), 2**31 - 1, dtype=torch.int32)),
        "accumulators of output",
    ),
    "max-pool-rank": (lambda: ops.max_pool2d(QX[0], 2), "input must have 4 dimensions"),
    "max-pool-padding": (lambda: ops.max_pool2d(QX, 2, 2, 2), "padding must be at most half"),
    "max-pool-small": (lambda: ops.max_pool2d(QX, 7), "input must be at least as large"),
    "max-pool-dilation": (
        lambda: ops.max_pool2d(u8(1, 1, 2, 2), 2, 1, 1, 3),
        "dilation must leave every window",
    ),
    "avg-pool-divisor": (average(divisor_override=0), "divisor_override must be at least 1"),
    "avg-pool-stride": (average(stride=[1, 1, 1]), "stride must have 2 entries"),
    "avg-pool-scale": (average(output_scale=scale(0.0)), "output_scale must be finite and positive"),
    "adaptive-size": (
        lambda: ops.adaptive_avg_pool2d(QX, ONE, zero(), ONE, zero(), 0, 255, 0),
        "output_size must be",
    ),
    "bilinear-rank": (
        lambda: ops.upsample_bilinear2d(QX[0], zero(), [8, 8]),
        "input must have 4 dimensions",
    ),
    "bilinear-without-zero-point": (
        lambda: ops.upsample_bilinear2d(QX, None, [8, 8]),
        "zero_point must be given for codes, got input of dtype",
    ),
    "bilinear-real-with-zero-point": (
        lambda: ops.upsample_bilinear2d(X, zero(), [8, 8]),
        "input must be uint8 or int8, got float32",
    ),
    "bilinear-zero-point": (
        lambda: ops.upsample_bilinear2d(QX, zero(256), [8, 8]),
        r"zero_point must lie in 0\.\.255, got 256",
    ),
    "bilinear-size": (
        lambda: ops.upsample_bilinear2d(QX, zero(), [8, 0]),
        r"size must be a height and a width of at least 1, got \[8, 0\]",
    ),
    "bilinear-sizes": (
        lambda: ops.upsample_bilinear2d(QX, zero(), [8, 8, 8]),
        r"size must be a height and a width of at least 1, got \[8, 8, 8\]",
    ),
    "bilinear-empty": (
        lambda: ops.upsample_bilinear2d(u8(1, 3, 0, 4), zero(), [8, 8]),
        "input must have at least one pixel",
    ),
    "add-shapes": (add(b=u8(2, 3, 5, 5)), "size of tensor a"),
    "add-prelu": (add(activation="prelu"), "activation must not be prelu"),
    "add-scale": (add(b_scale=scale(-1.0)), "b_scale must be finite and positive"),
    "cat-empty": (lambda: ops.cat([]), "inputs must have at least one"),
    "cat-types": (lambda: ops.cat([u8(2, 3), s8(2, 3)]), "inputs must be uint8, got int8"),
    "cat-shapes": (lambda: ops.cat([u8(2, 3), u8(3, 3)]), "inputs must agree in every dimension but 1"),
    "cat-dim": (lambda: ops.cat([u8(2, 3)], 2), r"dim must lie in -2\.\.1, got 2"),
    "lookup-table": (lambda: ops.lookup(QX, u8(255)), r"table must have shape \[256\], got \[255\]"),
    "layer-norm-rank": (
        layer_norm(input=reals(3, 4, 5)),
        r"input must have shape \[N, C\] or \[N, C, H, W\]",
    ),
    "layer-norm-type": (layer_norm(input=u8(3, 4)), "input must be float32"),
    "layer-norm-weight": (
        layer_norm(weight=torch.ones(5)),
        r"weight must have shape \[4\], one number a channel, got \[5\]",
    ),
    "layer-norm-bias": (layer_norm(bias=torch.ones(4).double()), "bias must be float32, got float64"),
    "layer-norm-eps": (layer_norm(eps=0.0), "eps must be positive and finite, got 0"),
    "layer-norm-scale": (
        layer_norm(output_scale=None),
        "output_scale and output_zero_point must both be given",
    ),
    "layer-norm-range": (layer_norm(qmin=9, qmax=9), "qmin"),
    "layer-norm-zero-point": (layer_norm(output_zero_point=zero(256)), "output_zero_point must lie in"),
    "layer-norm-finite": (
        layer_norm(input=torch.tensor([[1.0, 2.0, float("nan"), 0.0]])),
        "input must be finite, got 1 NaN or infinite values of 4",
    ),
    "group-norm-rank": (group_norm(input=reals(3, 4)), "input must have 4 dimensions"),
    "group-norm-groups": (group_norm(groups=3), "groups must divide the 4 channels, got 3"),
    "group-norm-no-groups": (group_norm(groups=0), "groups must divide the 4 channels, got 0"),
    "group-norm-weight": (group_norm(weight=torch.ones(2)), r"weight must have shape \[4\], one number a"),
    "group-norm-eps": (group_norm(eps=-1.0), "eps must be positive and finite, got -1"),
    "group-norm-scale": (group_norm(output_scale=None), "output_scale and output_zero_point must both be"),
    "group-norm-range": (group_norm(qmin=9, qmax=9), "qmin"),
    "group-norm-finite": (
        group_norm(input=torch.full((1, 4, 1, 1), float("inf"))),
        "input must be finite, got 4 NaN or infinite values of 4",
    ),
    "activation-name": (
        lambda: ops.activation(reals(2, 3), "elu"),
        "function must be 'sigmoid', 'silu', 'tanh', 'gelu', 'gelu_tanh' or 'square', got 'elu'",
    ),
    "activation-type": (lambda: ops.activation(u8(2, 3), "tanh"), "input must be float32"),
    "softmax-rank": (
        lambda: ops.softmax(reals(2, 3, 4)),
        r"input must have shape \[N, C\] or \[N, C, H, W\], got \[2, 3, 4\]",
    ),
    "softmax-type": (lambda: ops.softmax(u8(2, 3)), "input must be float32.* got uint8"),
    "softmax-finite": (
        lambda: ops.softmax(torch.tensor([[1.0, float("inf")]]), True),
        "input must be finite, got 1 NaN or infinite values of 2",
    ),
    "softmax-codes-finite": (
        softmax(input=broken(math.nan)),
        "input must be finite, got 2 NaN or infinite values of 200",
    ),
    "softmax-log-of-codes": (softmax(log=True), "output_scale must not be given with log"),
    "softmax-scale": (softmax(output_scale=None), "output_scale and output_zero_point must both be given"),
    "softmax-zero-point-missing": (
        softmax(output_zero_point=None),
        "output_scale and output_zero_point must both be given",
    ),
    "softmax-log-zero-point": (
        softmax(log=True, output_scale=None),
        "output_scale and output_zero_point must both be given",
    ),
    "softmax-scale-zero": (softmax(output_scale=scale(0.0)), "output_scale must be finite and positive"),
    "softmax-scale-count": (softmax(output_scale=scales(4)), "output_scale must have one element"),
    "softmax-range": (softmax(qmin=9, qmax=9), "qmin and qmax must satisfy"),
    "softmax-zero-point": (
        softmax(output_zero_point=zero(-1)),
        r"output_zero_point must lie in 0\.\.255, got -1",
    ),
    "matmul-type": (matmul(a=reals(2, 4, 3, 5)), "a must be uint8 or int8, got float32"),
    "matmul-type-b": (matmul(b=reals(2, 4, 3, 6)), "b must be uint8 or int8, got float32"),
    "matmul-rank": (matmul(a=u8(2, 4, 5)), r"a must have 4 dimensions, got shape \[2, 4, 5\]"),
    "matmul-rank-b": (matmul(b=u8(4, 3, 6)), r"b must have 4 dimensions, got shape \[4, 3, 6\]"),
    "matmul-samples": (
        matmul(b=u8(1, 4, 3, 6)),
        r"b must have shape \[2, 4, 3, columns\] as a has, got \[1, 4, 3, 6\]",
    ),
    "matmul-channels": (matmul(b=u8(2, 5, 3, 6)), r"b must have shape \[2, 4, 3, columns\]"),
    "matmul-rows": (matmul(b=u8(2, 4, 1, 6)), r"b must have shape \[2, 4, 3, columns\]"),
    "matmul-depth": (
        matmul(a=u8(1, 33026, 1, 1), b=u8(1, 33026, 1, 1)),
        "a must have at most 33025 channels, so that int32 holds the sums, got 33026",
    ),
    "matmul-a-scale": (matmul(a_scale=scale(-1.0)), "a_scale must be finite and positive, got -1"),
    "matmul-a-scale-count": (matmul(a_scale=scales(4)), "a_scale must have one element"),
    "matmul-a-zero-point": (matmul(a_zero_point=zero(256)), r"a_zero_point must lie in 0\.\.255, got 256"),
    "matmul-b-scale": (matmul(b_scale=scale(math.nan)), "b_scale must be finite and positive, got nan"),
    "matmul-b-zero-point": (
        matmul(b=s8(2, 4, 3, 6), b_zero_point=zero(128)),
        r"b_zero_point must lie in -128\.\.127, got 128",
    ),
    "matmul-b-zero-point-type": (matmul(b_zero_point=ONE), "b_zero_point must be int32, got float32"),
    "matmul-factor": (matmul(factor=0.0), "factor must be positive and finite, got 0"),
    "matmul-factor-negative": (matmul(factor=-2.0), "factor must be positive and finite, got -2"),
    "matmul-factor-nan": (matmul(factor=math.nan), "factor must be positive and finite, got nan"),
    "matmul-factor-infinite": (matmul(factor=math.inf), "factor must be positive and finite, got inf"),
    "matmul-factor-huge": (
        matmul(factor=1e300),
        r"a_scale \* b_scale \* factor / output_scale must be finite, got inf",
    ),
    "matmul-scales": (
        matmul(a_scale=scale(1e20), output_scale=scale(1e-30)),
        r"a_scale \* b_scale \* factor / output_scale must be finite, got inf",
    ),
    "matmul-scale": (matmul(output_scale=None), "output_scale and output_zero_point must both be given"),
    "matmul-zero-point-missing": (
        matmul(output_zero_point=None),
        "output_scale and output_zero_point must both be given",
    ),
    "matmul-output-scale": (matmul(output_scale=scale(0.0)), "output_scale must be finite and positive"),
    "matmul-range": (matmul(qmin=9, qmax=9), "qmin and qmax must satisfy"),
    "matmul-zero-point": (
        matmul(output_zero_point=zero(256)),
        r"output_zero_point must lie in 0\.\.255, got 256",
    ),
    "pack-range": (
        lambda: ops.pack_int4(s8(1, 3, low=8, high=9)),
        r"input must lie in -8\.\.7, got 8 at index 0",
    ),
    "signs-type": (lambda: ops.pack_signs(u8(2, 3)), "input must be"),
    "signs-dim": (lambda: ops.pack_signs(reals(2, 3, 4)), "input must have 2 or 4 dimensions"),
    "binary-bytes": (
        lambda: ops.binary_linear_s32(u8(2, 4), u8(3, 4), 33),
        "input must have 8 bytes in dimension 1 for 33 signs",
    ),
    "binary-count": (lambda: ops.binary_linear_s32(u8(2, 4), u8(3, 4), 0), r"features must lie in 1\.\."),
    "binary-empty": (lambda: ops.binary_linear_s32(u8(2, 4), u8(0, 4), 32), "weight must not be empty"),
    "binary-scale": (
        lambda: ops.binary_linear_f32(u8(2, 4), u8(3, 4), 32, scales(2)),
        "weight_scale must have 1 or 3 elements",
    ),
    "binary-bias": (
        lambda: ops.binary_conv2d_f32(u8(1, 4, 3, 3), u8(3, 4, 1, 1), 32, scale(), reals(2)),
        r"bias must have shape \[3\]",
    ),
    "unpack-shape": (lambda: ops.unpack_int4(u8(2, 3), [2, 7]), r"packed must have shape \[2, 4\]"),
    "unpack-negative": (lambda: ops.unpack_codes(u8(2, 3), 2, [2, -7]), "sizes must be at least 0"),
    "unpack-huge": (
        lambda: ops.unpack_codes(u8(2, 3), 2, [2, 2**31, 2**31, 2**31]),
        "sizes must have a product",
    ),
    "unpack-bits": (lambda: ops.unpack_codes(u8(2, 3), 8, [2, 3]), r"bits must lie in 1\.\.7, got 8"),
    "pack-bits": (lambda: ops.pack_codes(s8(2, 3), 0), r"bits must lie in 1\.\.7, got 0"),
    "engine-garbage": (lambda: ops.engine_run(reals(1, 12), u8(100), [4]), "program: .*not a .ptqx file"),
    "engine-type": (
        lambda: ops.engine_run(u8(1, 12), engine_program(), [4]),
        "input must be float32, got uint8",
    ),
    "engine-shape": (
        lambda: ops.engine_run(reals(1, 11), engine_program(), [4]),
        r"the program's shape \[12\]",
    ),
    "engine-output": (
        lambda: ops.engine_run(reals(1, 12), engine_program(), [5]),
        r"the program's, \[4\], got \[5\]",
    ),
    "engine-nan": (
        lambda: ops.engine_run(torch.full((1, 12), math.nan), engine_program(), [4]),
        "finite|NaN",
    ),
    "engine-several": (
        lambda: ops.engine_run(reals(1, 12), engine_program(SEVERAL_OUTPUTS), [4]),
        "the program gives 2 tensors; ptqx::engine_run_outputs runs it",
    ),
    "engine-ranks": (
        lambda: ops.engine_run_outputs(reals(1, 12), engine_program(SEVERAL_OUTPUTS), [1], [4]),
        r"output_ranks must be of the program's 2 outputs, got \[1\]",
    ),
    "engine-extents": (
        lambda: ops.engine_run_outputs(reals(1, 12), engine_program(SEVERAL_OUTPUTS), [1, 1], [4]),
        r"as many extents as output_ranks ask for, got \[4\]",
    ),
    "engine-extents-left": (
        lambda: ops.engine_run_outputs(reals(1, 12), engine_program(SEVERAL_OUTPUTS), [1, 0], [4, 12]),
        r"as many extents as output_ranks ask for, got \[4, 12\]",
    ),
    "engine-negative-rank": (
        lambda: ops.engine_run_outputs(reals(1, 12), engine_program(SEVERAL_OUTPUTS), [1, -1], [4, 12]),
        "output_ranks",
    ),
    "engine-output-shape": (
        lambda: ops.engine_run_outputs(reals(1, 12), engine_program(SEVERAL_OUTPUTS), [1, 1], [4, 11]),
        r"output 1 must have the program's shape \[12\], got \[11\]",
    ),
    "describe-garbage": (lambda: ops.engine_describe(u8(100)), "not a .ptqx file"),
    "describe-type": (lambda: ops.engine_describe(X), "program must be a uint8 tensor"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_argument_is_one_clear_error(case: str) -> None:
    call, message = CASES[case]
    with pytest.raises(
        (ValueError, RuntimeError) if case == "add-shapes" else ValueError, match=message
    ) as caught:
        call()
    assert "\n" not in str(caught.value).strip()


def test_accumulator_bound_decides_whether_weights_are_refused() -> None:
    x = torch.full((1, 70000), 255, dtype=torch.uint8)
    largest = torch.full((1, 70000), -128, dtype=torch.int8)
    with pytest.raises(ValueError, match="within int32, got a bound of 2284800000"):
        ops.linear_s32(x, largest)
    assert ops.linear_s32(x, largest // 2).item() == -64 * 255 * 70000
    centered = ops.linear_s32(x, largest, torch.tensor([128], dtype=torch.int32))
    assert centered.item() == -128 * 127 * 70000


@pytest.mark.parametrize("flip", [0, 9, 60, -1], ids=["length", "header", "graph", "data"])
def test_altered_program_is_refused_after_it_ran(flip: int) -> None:
    program, x = engine_program(), reals(1, 12)
    ops.engine_run(x, program, [4])
    program[flip] ^= 0x55
    with pytest.raises(ValueError, match="program"):
        ops.engine_run(x, program, [4])


def test_truncated_program_is_refused() -> None:
    program = engine_program()
    for size in (0, 7, 8, 100, len(program) - 1):
        with pytest.raises(ValueError, match="program"):
            ops.engine_run(reals(1, 12), program[:size], [4])


def test_unknown_instruction_set_is_refused() -> None:
    from ptqx import _C

    with pytest.raises(ValueError, match="unknown instruction set 'sse9'; known: scalar, avx2"):
        _C.set_isa_ceiling("sse9")
    for isa in set(_C.isas_known()) - set(_C.isas_supported()):
        with pytest.raises(ValueError, match=isa):
            _C.set_isa_ceiling(isa)


def test_meta_raises_the_same_error() -> None:
    for sample in (op_samples.SAMPLES["conv2d"][0], op_samples.SAMPLES["linear"][0]):
        args = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in sample.args]
        with pytest.raises(ValueError, match="input must be uint8 or int8, got float32"):
            getattr(torch.ops.ptqx, sample.operator)(args[0].float(), *args[1:], **sample.kwargs)
