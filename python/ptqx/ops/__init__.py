"""The operators of `torch.ops.ptqx`: quantized codes in, quantized codes out, on the CPU.

Codes are plain uint8 or int8 tensors; `real = scale * (code - zero_point)`. Scales are float32 and zero
points int32 tensors, of one element unless said otherwise. `qmin` and `qmax` choose the codes' type: uint8
if `qmin >= 0`, else int8. Rounding is half to even, everywhere, and results are the same bits on every
instruction set and number of threads.

Inputs may have any strides. Images are NCHW, and images that come out lie in memory as channels_last.
Bad arguments raise ValueError with the argument's name. Every operator works under `torch.compile` and
`torch.export`, batch size included; `fake_quantize`, `lsq`, `lsq_codes` and `sign_codes` have derivatives.
"""

from __future__ import annotations

from .binary import binary_conv2d_f32, binary_conv2d_s32, binary_linear_f32, binary_linear_s32, pack_signs
from .convolution import conv2d, conv2d_f32, conv2d_fixed_point, conv2d_s32, conv2d_s64
from .engine import engine_describe, engine_run, engine_run_outputs
from .linear import linear, linear_f32, linear_fixed_point, linear_s32, linear_s64, matmul
from .normalization import group_norm, layer_norm, softmax
from .packing import pack_codes, pack_int4, unpack_codes, unpack_int4
from .pointwise import activation, add, cat, lookup, mul
from .pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from .quantization import dequantize, dynamic_quantize, quantize, requantize
from .statistics import histogram, min_max, moments
from .training import (
    fake_quantize,
    fake_quantize_backward,
    lsq,
    lsq_backward,
    lsq_codes,
    sign_codes,
    sign_codes_backward,
)
from .upsampling import upsample_bilinear2d

__all__ = [
    "activation",
    "adaptive_avg_pool2d",
    "add",
    "avg_pool2d",
    "binary_conv2d_f32",
    "binary_conv2d_s32",
    "binary_linear_f32",
    "binary_linear_s32",
    "cat",
    "conv2d",
    "conv2d_f32",
    "conv2d_fixed_point",
    "conv2d_s32",
    "conv2d_s64",
    "dequantize",
    "dynamic_quantize",
    "engine_describe",
    "engine_run",
    "engine_run_outputs",
    "fake_quantize",
    "fake_quantize_backward",
    "group_norm",
    "histogram",
    "layer_norm",
    "linear",
    "linear_f32",
    "linear_fixed_point",
    "linear_s32",
    "linear_s64",
    "lookup",
    "lsq",
    "lsq_backward",
    "lsq_codes",
    "matmul",
    "max_pool2d",
    "min_max",
    "moments",
    "mul",
    "pack_codes",
    "pack_int4",
    "pack_signs",
    "quantize",
    "requantize",
    "sign_codes",
    "sign_codes_backward",
    "softmax",
    "unpack_codes",
    "unpack_int4",
    "upsample_bilinear2d",
]
