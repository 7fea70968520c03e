"""Arguments for every operator: layouts, empty batches, odd sizes, every optional argument.

`SAMPLES[name]` is what the tests of values, opcheck, threads and instruction sets walk. All operators are
here, so that a new one is one more entry.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import op_oracle
import ptqx.ops  # noqa: F401, registers torch.ops.ptqx
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    operator: str
    id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Any:
        return getattr(torch.ops.ptqx, self.operator)(*self.args, **self.kwargs)

    def expected(self) -> Any:
        return getattr(op_oracle, self.operator)(*self.args, **self.kwargs)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reals(*shape: int, seed: int = 0, spread: float = 3.0) -> Tensor:
    return torch.randn(shape, generator=generator(seed)) * spread


def u8(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, shape, generator=generator(seed)).to(torch.uint8)


def s8(*shape: int, seed: int = 2, low: int = -128, high: int = 128) -> Tensor:
    return torch.randint(low, high, shape, generator=generator(seed)).to(torch.int8)


def scale(value: float = 0.05) -> Tensor:
    return torch.tensor([value])


def zero(value: int = 0) -> Tensor:
    return torch.tensor([value], dtype=torch.int32)


def scales(*shape: int, seed: int = 3) -> Tensor:
    return torch.rand(shape, generator=generator(seed)) * 0.05 + 0.01


def zeros(*shape: int, low: int = 100, high: int = 150) -> Tensor:
    return torch.randint(low, high, shape, generator=generator(4), dtype=torch.int32)


def layouts(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same values at different places in memory."""
    yield "contiguous", x.contiguous()
    if x.dim() == 4:
        yield "channels-last", x.contiguous(memory_format=torch.channels_last)
    wide = torch.stack([x, x], dim=-1)
    yield "sliced", wide[..., 0]
    yield "transposed", x.transpose(0, -1).contiguous().transpose(0, -1)
    flat = torch.cat([x.new_zeros(1), x.reshape(-1)])
    yield "misaligned", flat[1:].view(x.shape)


IMAGES = (2, 5, 7, 3)  # odd in every dimension


def quantize_samples() -> Iterator[Sample]:
    def sample(id: str, *args: Any) -> Sample:
        return Sample("quantize", id, args)

    for layout, x in layouts(reals(*IMAGES)):
        yield sample(layout, x, scale(), zero(128), 0, 255)
        yield sample(f"{layout}-per-channel", x, scales(5), zeros(5), 0, 255, 1)
        yield sample(f"{layout}-ragged-groups", x, scales(2, 2), zeros(2, 2), 0, 255, 0, 3)
    yield sample("int8", reals(*IMAGES), scale(), zero(-3), -128, 127)
    yield sample("narrow", reals(4, 9), scale(), zero(), -127, 127)
    yield sample("int4-axis-0", reals(6, 4, 3, 3), scales(6), zeros(6, low=0, high=1), -8, 7, 0)
    yield sample("axis-last", reals(6, 33), scales(33), zeros(33), 0, 255, -1)
    yield sample("whole-groups", reals(3, 8), scales(3, 2), zeros(3, 2), 0, 255, 0, 4)
    yield sample("near-ties", torch.arange(-600, 600) * 0.05 * 0.5, scale(), zero(128), 0, 255)
    yield sample("bfloat16", reals(3, 17).bfloat16(), scale(), zero(7), 0, 255)
    yield sample("float16", reals(3, 17).half(), scale(), zero(7), 0, 255)
    yield sample("huge", torch.tensor([3e38, -3e38, 1e-40]), scale(1e-3), zero(9), 0, 255)
    yield sample("no-samples", reals(0, 3, 4, 4), scale(), zero(), 0, 255)
    yield sample("no-pixels", reals(2, 3, 0, 4), scale(), zero(), 0, 255)
    yield sample("one-pixel", reals(2, 1, 1, 1), scale(), zero(), 0, 255)
    yield sample("scalar", torch.tensor(1.3), torch.tensor(0.1), torch.tensor(3, dtype=torch.int32), 0, 255)
    yield sample("many", reals(300, 1001), scale(), zero(128), 0, 255)


def integers(*shape: int, bits: int = 24, seed: int = 9) -> Tensor:
    dtype = torch.int32 if bits < 31 else torch.int64
    return torch.randint(-(2**bits), 2**bits, shape, generator=generator(seed), dtype=dtype)


def requantize_samples() -> Iterator[Sample]:
    def sample(
        id: str,
        terms: list[Tensor],
        offsets: list[Tensor],
        factors: tuple[int, int],
        places: Tensor,
        *output: Any,
    ) -> Sample:
        multiplier = torch.randint(1, 2**30, factors, generator=generator(7), dtype=torch.int32)
        return Sample("requantize", id, (terms, offsets, multiplier, places, *output))

    def places(count: int, low: int = 40, high: int = 50) -> Tensor:
        return torch.randint(low, high, (count,), generator=generator(8), dtype=torch.int32)

    codes = (zero(120), 0, 255, torch.uint8)
    for layout, x in layouts(integers(*IMAGES)):
        yield sample(layout, [x], [integers(5, bits=20)], (1, 5), places(5), *codes)
        yield sample(f"{layout}-per-tensor", [x], [], (1, 1), places(1), *codes)
    terms, zeros_less = [u8(*IMAGES), u8(*IMAGES, seed=2)], [zero(-120), zero(-9)]
    yield sample("two-terms", terms, zeros_less, (2, 1), places(1, 30, 32), *codes)
    yield sample(
        "two-terms-signed", terms, zeros_less, (2, 1), places(1, 30, 32), zero(-5), -100, 90, torch.int8
    )
    yield sample("two-terms-far", terms, [zero(-120), zero(7)], (2, 1), places(1, 30, 32), *codes)
    for n in (1, 7, 33):
        few = [u8(n), u8(n, seed=5)]
        yield sample(
            f"two-terms-{n}", few, zeros_less, (2, 1), places(1, 30, 32), zero(9), 9, 200, torch.uint8
        )
    for laid_out in layouts(u8(*IMAGES, seed=3)):
        yield sample(
            f"two-terms-{laid_out[0]}", [terms[0], laid_out[1]], zeros_less, (2, 1), places(1, 30, 32), *codes
        )
    terms = [s8(3, 7), s8(3, 7, seed=3)]
    yield sample("shift-of-channels", terms, [], (2, 1), places(7, 30, 34), *codes)
    terms, output = [integers(2, 3, 6, bits=32)], (zero(), -700, 32767, torch.int16)
    yield sample("int16", terms, [integers(6, bits=31)], (1, 6), places(6, 46, 54), *output)
    yield sample("int8", [integers(4, 9)], [], (1, 9), places(9), zero(-5), -128, 127, torch.int8)
    yield sample("beyond", [integers(4, 9)], [], (1, 9), zero(), zero(2**31 - 1), 0, 255, torch.uint8)
    one = torch.ones(1, 1, dtype=torch.int32)
    for shift in (0, 1, 2):
        args = ([torch.arange(-40, 40)], [], one, zero(shift), zero(3), -30, 30, torch.int8)
        yield Sample("requantize", f"ties-{shift}", args)
    yield sample("no-samples", [integers(0, 3, 4, 4)], [], (1, 3), places(3), *codes)
    yield sample("scalar", [integers()], [], (1, 1), places(1), *codes)
    yield sample("many", [integers(300, 1001)], [], (1, 1), places(1), *codes)


def dequantize_samples() -> Iterator[Sample]:
    def sample(id: str, *args: Any) -> Sample:
        return Sample("dequantize", id, args)

    for layout, x in layouts(u8(*IMAGES)):
        yield sample(layout, x, scale(), zero(128))
        yield sample(f"{layout}-ragged-groups", x, scales(2, 3), zeros(2, 3), 0, 2)
    yield sample("int8-axis-0", s8(6, 4, 3, 3), scales(6), zeros(6, low=-3, high=3))
    accumulators = torch.randint(-(2**30), 2**30, (3, 5), generator=generator(), dtype=torch.int32)
    yield sample("int32", accumulators, scale(1e-4), zero())
    yield sample("no-samples", u8(0, 3, 4, 4), scale(), zero())
    yield sample("many", s8(300, 1001), scale(), zero(5))


def dynamic_quantize_samples() -> Iterator[Sample]:
    def sample(id: str, *args: Any) -> Sample:
        return Sample("dynamic_quantize", id, args)

    for layout, x in layouts(reals(*IMAGES)):
        yield sample(layout, x)
        yield sample(f"{layout}-per-sample", x, 0, 255, True)
    yield sample("int8", reals(3, 17), -128, 127)
    yield sample("positive", reals(3, 17).abs() + 20)
    yield sample("negative", -reals(3, 17).abs() - 1, 0, 255, True)
    yield sample("all-zero", torch.zeros(2, 3), -128, 127, True)
    yield sample("no-samples", reals(0, 3, 4, 4), 0, 255, True)
    yield sample("many", reals(2, 70001), 0, 255, True)


def fake_quantize_arguments() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Without grad_factor, which lsq has before axis."""
    for layout, x in layouts(reals(*IMAGES)):
        yield layout, (x, scale(), zero(128), 0, 255)
        yield f"{layout}-per-channel", (x, scales(5), zeros(5), 0, 255, 1)
        yield f"{layout}-ragged-groups", (x, scales(2, 2), zeros(2, 2), 0, 255, 0, 3)
    yield "weights", (reals(6, 4, 3, 3), scales(6), zeros(6, low=0, high=1), -7, 7, 0)
    yield "whole-groups", (reals(3, 8), scales(3, 2), zeros(3, 2), 0, 255, 0, 4)
    yield "vector-per-channel", (reals(9), scales(9), zeros(9), 0, 255, -1)
    yield "float-zero-point", (reals(4, 9), scale(), torch.tensor([2.5]), 0, 15)
    yield "bfloat16", (reals(3, 17).bfloat16(), scale(), zero(7), 0, 255)
    yield "float16", (reals(3, 17).half(), scale(), zero(7), 0, 255)
    yield "float64", (reals(3, 17).double(), scale(), zero(7), 0, 255)
    yield "no-samples", (reals(0, 3, 4, 4), scale(), zero(), 0, 255)
    yield "many", (reals(300, 1001), scale(), zero(128), 0, 255)


def fake_quantize_samples() -> Iterator[Sample]:
    for id, args in fake_quantize_arguments():
        yield Sample("fake_quantize", id, args)
    special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.01, -0.01])
    yield Sample("fake_quantize", "special-values", (special, scale(), zero(3), 0, 15))


def fake_quantize_backward_samples() -> Iterator[Sample]:
    for id, args in fake_quantize_arguments():
        grad = reals(*args[0].shape, seed=9, spread=1.0).to(args[0].dtype)
        yield Sample("fake_quantize_backward", id, (grad, *args))
    x = reals(2, 5, 4, 4)
    yield Sample(
        "fake_quantize_backward",
        "expanded-grad",
        (torch.ones(()).expand(x.shape), x, scale(), zero(8), 0, 15),
    )


def with_grad_factor(sample: Sample, operator: str, factor: float) -> Sample:
    place = 5 if operator == "lsq" else 6
    args = (*sample.args[:place], factor, *sample.args[place:])
    return Sample(operator, sample.id, args, sample.kwargs)


def lsq_samples() -> Iterator[Sample]:
    for sample in fake_quantize_samples():
        yield with_grad_factor(sample, "lsq", 0.0)


def lsq_codes_samples() -> Iterator[Sample]:
    for sample in fake_quantize_samples():
        if sample.args[1].numel() == 1:
            yield Sample("lsq_codes", sample.id, sample.args[:5])
    bfloat16 = (
        reals(2, 5, 70, 70).bfloat16().to(memory_format=torch.channels_last),
        scale(),
        zero(128),
        0,
        255,
    )
    yield Sample("lsq_codes", "many-bfloat16", bfloat16, {"grad_factor": 0.5})


def sign_codes_samples() -> Iterator[Sample]:
    threshold = torch.tensor([0.125])
    special = torch.tensor([0.125, -0.0, float("inf"), -float("inf"), float("nan"), 1e-30])
    yield Sample("sign_codes", "special-values", (special, scale(), threshold))
    yield Sample("sign_codes", "zero-threshold", (torch.tensor([-0.0, 0.0]), scale(), torch.zeros(1)))
    for dtype in (torch.bfloat16, torch.float16):
        args = (reals(2, 5, 9, 9), scale(), threshold)
        yield Sample("sign_codes", f"float32-to-{str(dtype)[6:]}", args, {"dtype": dtype})
    for sample in sign_codes_backward_samples():
        yield Sample("sign_codes", sample.id, sample.args[1:])


def sign_codes_backward_samples() -> Iterator[Sample]:
    threshold = torch.tensor([0.125])
    images = reals(2, 5, 70, 70).to(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for name, x in (("images", images), ("rows", reals(3, 7)), ("none", reals(0, 3))):
            grad = reals(*x.shape, seed=3, spread=1.0)
            args = (grad.to(dtype), x.to(dtype), scale(2.0), threshold)
            yield Sample("sign_codes_backward", f"{name}-{str(dtype)[6:]}", args)
    infinite = (torch.ones(3), torch.tensor([math.inf, -math.inf, 1.0]), scale(2.0), threshold)
    yield Sample("sign_codes_backward", "infinities", infinite)
    mixed = (images.bfloat16(), images.contiguous(), scale(2.0), threshold)
    yield Sample("sign_codes_backward", "bfloat16-grad-of-another-layout", mixed)
    yield Sample(
        "sign_codes_backward",
        "expanded-grad-and-ends-of-the-clip",
        (torch.ones(()).expand(4), torch.tensor([-2.0, -2.25, 2.0, 2.25]), scale(2.0), torch.zeros(1)),
    )


def lsq_backward_samples() -> Iterator[Sample]:
    for sample in fake_quantize_backward_samples():
        yield with_grad_factor(sample, "lsq_backward", 0.25 if sample.id == "weights" else 0.0)


def statistics_samples(operator: str, *args: Any) -> Iterator[Sample]:
    for layout, x in layouts(reals(*IMAGES)):
        yield Sample(operator, layout, (x, *args))
    broken = reals(3, 50)
    broken[1, 3:7] = torch.tensor([math.nan, math.inf, -math.inf, 2.0])
    yield Sample(operator, "nonfinite", (broken, *args))
    yield Sample(operator, "bfloat16", (reals(3, 17).bfloat16(), *args))
    yield Sample(operator, "empty", (reals(0, 3), *args))
    yield Sample(operator, "many", (reals(3, 70001), *args))


GEOMETRIES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # input, weight, the rest
    "3x3": ((2, 5, 7, 6), (6, 5, 3, 3), {"padding": 1}),
    "1x1": ((2, 5, 7, 3), (7, 5, 1, 1), {}),
    "asymmetric-padding": ((1, 3, 6, 5), (4, 3, 3, 2), {"padding": [0, 1, 2, 0]}),
    "stride-3": ((2, 3, 11, 9), (4, 3, 4, 5), {"stride": [3, 2], "padding": 2}),
    "dilated-groups": ((2, 8, 9, 9), (6, 4, 3, 3), {"padding": 2, "dilation": 2, "groups": 2}),
    "depthwise": ((2, 9, 7, 7), (9, 1, 3, 3), {"padding": 1, "groups": 9}),
    "depthwise-multiplier": ((1, 4, 6, 6), (8, 1, 5, 5), {"padding": 2, "stride": 2, "groups": 4}),
    "7x7": ((1, 3, 15, 15), (17, 3, 7, 7), {"padding": 3, "stride": 2}),
    "wide": ((1, 70, 5, 5), (66, 70, 3, 3), {"padding": 1}),
    "one-pixel-out": ((2, 3, 3, 3), (1, 3, 3, 3), {}),
    "no-samples": ((0, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
}


def conv2d_s32_samples() -> Iterator[Sample]:
    def sample(id: str, *args: Any, **kwargs: Any) -> Sample:
        return Sample("conv2d_s32", id, args, kwargs)

    for id, (x, w, rest) in GEOMETRIES.items():
        yield sample(id, u8(*x), s8(*w), zero(131), None, **rest)
    for layout, x in layouts(u8(2, 5, 7, 6)):
        yield sample(layout, x, s8(4, 5, 3, 3), padding=1)
    yield sample("int8-input", s8(2, 5, 6, 6), s8(4, 5, 3, 3), zero(-7), padding=1)
    yield sample("uint8-weight", u8(2, 5, 6, 6), u8(4, 5, 3, 3, seed=8), zero(3), zeros(4), padding=1)
    yield sample("uint8-weight-no-zero-point", u8(1, 2, 4, 4), u8(3, 2, 3, 3, seed=8))
    yield sample("depthwise-weight-zero-point", u8(1, 5, 6, 6), s8(5, 1, 3, 3), zero(9), zero(-5), groups=5)
    yield sample(
        "extremes",
        torch.full((1, 64, 4, 4), 255, dtype=torch.uint8),
        torch.full((8, 64, 3, 3), -128, dtype=torch.int8),
        zero(),
        padding=1,
    )


def bias_for(channels: int) -> Tensor:
    return torch.randint(-5000, 5000, (channels,), generator=generator(6), dtype=torch.int32)


ACTIVATIONS: dict[str, list[float]] = {
    "clip": [0.0, math.inf],
    "leaky_relu": [0.1],
    "prelu": [],
    "hardsigmoid": [1 / 6, 5.0, 10.0],
    "hardswish": [0.4],
}


def conv2d_samples() -> Iterator[Sample]:
    def sample(
        id: str,
        x: Tensor,
        w: Tensor,
        weight_scale: Tensor,
        *,
        input_zero_point: int = 120,
        weight_zero_point: Tensor | None = None,
        bias: Tensor | None = None,
        output_zero_point: int = 110,
        qmin: int = 0,
        qmax: int = 255,
        **rest: Any,
    ) -> Sample:
        args = (x, scale(0.02), zero(input_zero_point), w, weight_scale, weight_zero_point, bias, scale(0.7),
                zero(output_zero_point), qmin, qmax)  # fmt: skip
        return Sample("conv2d", id, args, rest)

    for id, (x, w, rest) in GEOMETRIES.items():
        yield sample(id, u8(*x), s8(*w), scales(w[0]), bias=bias_for(w[0]), **rest)
    x, w = u8(2, 8, 7, 6), s8(5, 8, 3, 3)
    for layout, laid_out in layouts(x):
        yield sample(layout, laid_out, w, scale(), padding=1)
    for activation, args in ACTIVATIONS.items():
        slopes = {"slopes": scales(5)} if activation == "prelu" else {}
        yield sample(
            activation, x, w, scales(5), padding=1, activation=activation, activation_args=args, **slopes
        )
    residual = {"residual_scale": scale(0.3), "residual_zero_point": zero(100)}
    yield sample("residual", x, w, scales(5), padding=1, residual=u8(2, 5, 7, 6), **residual)
    yield sample("residual-int8", x, w, scales(5), padding=1, residual=s8(2, 5, 7, 6), activation="clip",
                 activation_args=[0.0, 30.0], **residual)  # fmt: skip
    yield sample("int8-in-and-out", s8(2, 8, 6, 6), w, scales(5), input_zero_point=-3, output_zero_point=-9,
                 qmin=-128, qmax=127, bias=bias_for(5))  # fmt: skip
    yield sample("uint8-weight", x, u8(5, 8, 3, 3, seed=8), scales(5), weight_zero_point=zeros(5))
    yield sample("float-bias", x, w, scales(5), bias=reals(5))
    for group_size in (4, 8):
        groups = 8 // group_size
        yield sample(
            f"groups-of-{group_size}",
            x,
            w,
            scales(5, groups),
            bias=reals(5),
            padding=1,
            group_size=group_size,
        )
    yield sample("ragged-groups", u8(1, 10, 5, 5), s8(70, 10, 3, 3), scales(70, 3), padding=1, group_size=4)
    yield sample("int4-range", x, s8(5, 8, 3, 3, low=-8, high=8), scales(5), output_zero_point=3, qmax=15)
    yield from stored_weight_samples(sample("bits", x, w, scales(5), bias=bias_for(5), padding=1))


def conv2d_f32_samples() -> Iterator[Sample]:
    x, w = u8(3, 8, 6, 5), s8(5, 8, 3, 3)

    def sample(
        id: str,
        input_scale: Tensor,
        input_zero_point: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None,
        x: Tensor = x,
        w: Tensor = w,
        **rest: Any,
    ) -> Sample:
        args = (x, input_scale, input_zero_point, w, weight_scale, None, bias)
        return Sample("conv2d_f32", id, args, rest)

    yield sample("int32-bias", scale(), zero(120), scales(5), bias_for(5), padding=1)
    yield sample("float-bias", scale(), zero(120), scales(5), reals(5), padding=1)
    yield sample("per-sample", scales(3), zeros(3), scales(5), reals(5), padding=1)
    yield sample("per-sample-relu", scales(3), zeros(3), scale(), None, activation="clip",
                 activation_args=[0.0, math.inf])  # fmt: skip
    yield sample("groups-of-4", scale(), zero(120), scales(5, 2), reals(5), padding=1, group_size=4)
    yield sample("depthwise", scales(3), zeros(3), scales(8), None, w=s8(8, 1, 3, 3), padding=1, groups=8)
    yield sample("no-samples", scale(), zero(), scales(5), None, x=u8(0, 8, 6, 5))
    yield from stored_weight_samples(sample("bits", scale(), zero(120), scales(5), reals(5), padding=1))


def fixed_point(channels: int = 1, places: tuple[int, int] = (38, 43)) -> tuple[Tensor, Tensor]:
    """multiplier and shift, which bring accumulators to tens of codes."""
    multiplier = torch.randint(2**29, 2**31 - 1, (channels,), generator=generator(7), dtype=torch.int32)
    return multiplier, torch.randint(*places, (channels,), generator=generator(8), dtype=torch.int32)


def conv2d_fixed_point_samples() -> Iterator[Sample]:
    def sample(
        id: str,
        x: Tensor,
        w: Tensor,
        factors: tuple[Tensor, Tensor],
        bias: Tensor | None = None,
        *,
        input_zero_point: int = 120,
        weight_zero_point: Tensor | None = None,
        output: tuple[Tensor, int, int] = (zero(110), 0, 255),
        **rest: Any,
    ) -> Sample:
        args = (x, zero(input_zero_point), w, weight_zero_point, bias, *factors, *output)
        return Sample("conv2d_fixed_point", id, args, rest)

    for id, (x, w, rest) in GEOMETRIES.items():
        yield sample(id, u8(*x), s8(*w), fixed_point(w[0]), bias_for(w[0]), **rest)
    x, w = u8(2, 8, 7, 6), s8(5, 8, 3, 3)
    for layout, laid_out in layouts(x):
        yield sample(layout, laid_out, w, fixed_point(), padding=1)
    yield sample("int8", s8(2, 8, 6, 6), w, fixed_point(5), bias_for(5), input_zero_point=-3,
                 output=(zero(-9), -128, 127))  # fmt: skip
    yield sample("uint8-weight", x, u8(5, 8, 3, 3, seed=8), fixed_point(5), weight_zero_point=zeros(5))
    yield sample("clipped", x, w, fixed_point(5), output=(zero(110), 110, 140))
    yield sample("one-code", x, w, fixed_point(5), output=(zero(110), 110, 110))
    yield sample("no-samples", u8(0, 8, 7, 6), w, fixed_point(5))
    ties = (torch.full((1,), 3, dtype=torch.int32), zero(1))
    yield sample(
        "ties", u8(2, 1, 9, 9) % 30, torch.ones(1, 1, 1, 1, dtype=torch.int8), ties, input_zero_point=9
    )
    no_shift = (torch.full((1,), 2, dtype=torch.int32), zero(0))
    yield sample("no-shift", u8(2, 1, 9, 9), torch.ones(1, 1, 1, 1, dtype=torch.int8), no_shift)
    yield from stored_weight_samples(sample("bits", x, w, fixed_point(5), bias_for(5), padding=1), 2)


def stored_weight_samples(sample: Sample, position: int = 3) -> Iterator[Sample]:
    """The same layer with weights of a few bits, without gaps, and with levels that they stand for."""
    shape = sample.args[position].shape

    def stored(id: str, bits: int, levels: Tensor | None = None) -> Sample:
        codes = s8(*shape, low=-(2 ** (bits - 1)), high=2 ** (bits - 1))
        form: dict[str, Any] = {} if levels is None else {"weight_levels": levels}
        if bits < 8:
            codes = op_oracle.pack_codes(codes, bits)
            form |= {"weight_bits": bits, "weight_shape": list(shape)}
        args = (*sample.args[:position], codes, *sample.args[position + 1 :])
        return Sample(sample.operator, id, args, {**sample.kwargs, **form})

    for bits in (2, 4, 7):
        yield stored(f"{bits}-bits", bits)
    yield stored("3-bits-levels", 3, s8(1, 8))
    yield stored("4-bits-levels-of-channels", 4, s8(shape[0], 16))
    yield stored("8-bits-levels", 8, s8(1, 256))


def linear_inputs() -> Iterator[tuple[str, Tensor]]:
    yield from layouts(u8(6, 37))
    yield "vector", u8(37)
    yield "3d", u8(2, 3, 37)
    yield "4d", u8(2, 3, 5, 37)
    yield "no-samples", u8(0, 37)


def linear_s32_samples() -> Iterator[Sample]:
    for id, x in linear_inputs():
        yield Sample("linear_s32", id, (x, s8(11, 37), zero(120)))
    yield Sample("linear_s32", "int8-by-uint8", (s8(6, 37), u8(70, 37), zero(-9), zeros(70)))


def linear_fixed_point_samples() -> Iterator[Sample]:
    output = (zero(100), 0, 255)
    for id, x in linear_inputs():
        args = (x, zero(120), s8(11, 37), None, bias_for(11), *fixed_point(11), *output)
        yield Sample("linear_fixed_point", id, args)
    args = (u8(4, 24), zero(120), u8(11, 24), zeros(11), None, *fixed_point(), zero(-3), -128, 127)
    yield Sample("linear_fixed_point", "uint8-weight", args)
    args = (u8(4, 24), zero(120), s8(11, 24), None, None, *fixed_point(11), *output)
    yield from stored_weight_samples(Sample("linear_fixed_point", "bits", args), 2)


def linear_samples() -> Iterator[Sample]:
    output = (scale(0.7), zero(100), 0, 255)
    for id, x in linear_inputs():
        args = (x, scale(0.02), zero(120), s8(11, 37), scales(11), None, bias_for(11), *output)
        yield Sample("linear", id, args)
    args = (u8(4, 3, 24), scale(0.02), zero(120), s8(11, 24), scales(11), None, None, *output)
    residual = {"residual": u8(4, 3, 11), "residual_scale": scale(0.3), "residual_zero_point": zero(100)}
    yield Sample(
        "linear", "residual-relu", args, {**residual, "activation": "clip", "activation_args": [0.0, 9.0]}
    )
    args = (u8(4, 24), scale(0.02), zero(120), s8(11, 24), scales(11, 3), None, reals(11), *output)
    groups = Sample("linear", "groups-of-8", args, {"group_size": 8})
    yield groups
    yield from stored_weight_samples(groups)


def linear_f32_samples() -> Iterator[Sample]:
    for id, x in linear_inputs():
        yield Sample(
            "linear_f32", id, (x, scale(0.02), zero(120), s8(11, 37), scales(11), None, bias_for(11))
        )
    weight = (s8(11, 37), scales(11), None, reals(11))
    yield Sample("linear_f32", "per-sample", (u8(6, 37), scales(6), zeros(6), *weight))
    yield Sample("linear_f32", "per-sample-3d", (u8(2, 3, 37), scales(2), zeros(2), *weight))
    args = (u8(6, 37), scale(), zero(), s8(11, 37), scales(11, 5), None, reals(11))
    yield Sample("linear_f32", "ragged-groups", args, {"group_size": 8})
    args = (u8(6, 37), scales(6), zeros(6), *weight)
    yield from stored_weight_samples(Sample("linear_f32", "bits", args))


def matmul_samples() -> Iterator[Sample]:
    def sample(
        id: str, a: Tensor, b: Tensor, *output: Any, zero_points: tuple[int, int] = (120, 131)
    ) -> Sample:
        factor = 1 / math.sqrt(max(a.shape[1], 1))
        args = (a, scale(0.02), zero(zero_points[0]), b, scale(0.03), zero(zero_points[1]), factor, *output)
        return Sample("matmul", id, args)

    codes = (scale(0.11), zero(117))
    other = u8(2, 5, 7, 4, seed=8)
    for layout, a in layouts(u8(*IMAGES)):
        yield sample(f"codes-{layout}", a, other, *codes)
        yield sample(f"real-{layout}", a, other)
    for layout, b in layouts(other):
        yield sample(f"other-{layout}", u8(*IMAGES), b, *codes)
    yield Sample("matmul", "defaults", (u8(*IMAGES), scale(), zero(9), other, scale(0.3), zero(200)))
    narrow = (scale(0.3), zero(100), 30, 190)
    yield sample("narrow", u8(2, 33, 3, 20), u8(2, 33, 3, 17, seed=8), *narrow)
    signed = (scale(0.11), zero(-9), -128, 127)
    yield sample("int8", s8(*IMAGES), s8(2, 5, 7, 4), *signed, zero_points=(-7, 5))
    yield sample("int8-and-uint8", s8(*IMAGES), other, zero_points=(-128, 255))
    yield sample("uint8-and-int8", u8(*IMAGES), s8(2, 5, 7, 4), *codes, zero_points=(0, 127))
    whole = u8(3, 6, 2, 5).contiguous(memory_format=torch.channels_last)
    yield sample("part-of-a-batch", whole[:2], whole[1:], *codes)
    yield sample("one-channel", u8(2, 1, 3, 5), u8(2, 1, 3, 4, seed=8), *codes)
    yield sample("one-pixel", u8(3, 9, 1, 1), u8(3, 9, 1, 1, seed=8), *codes)
    yield sample("with-itself", whole, whole, *codes)
    largest = torch.full((1, 33025, 1, 3), 255, dtype=torch.uint8)
    yield sample("largest-sums", largest, largest, zero_points=(0, 0))
    yield sample("least-sums", largest, torch.zeros_like(largest), zero_points=(0, 255))
    yield sample("far", u8(2, 5, 3, 4), u8(2, 5, 3, 4, seed=8), scale(1e-30), zero(117))
    yield sample("many", u8(3, 70, 2, 200), u8(3, 70, 2, 130, seed=8), scale(0.3), zero(117))
    yield sample("many-real", u8(3, 64, 2, 97), u8(3, 64, 2, 65, seed=8))
    yield sample("no-samples", u8(0, 3, 4, 4), u8(0, 3, 4, 5), *codes)
    yield sample("no-rows", u8(2, 3, 0, 4), u8(2, 3, 0, 5), *codes)
    yield sample("no-pixels", u8(2, 3, 4, 0), u8(2, 3, 4, 5))
    yield sample("no-other-pixels", u8(2, 3, 4, 5), u8(2, 3, 4, 0), *codes)
    none, no_others = u8(2, 0, 4, 3), u8(2, 0, 4, 5)
    yield sample("no-channels", none, no_others, *codes)
    yield sample("no-channels-narrow", none, no_others, scale(), zero(3), 10, 200)
    yield sample("no-channels-int8", none, no_others, *signed)
    yield sample("no-channels-real", none, no_others)


def max_pool2d_samples() -> Iterator[Sample]:
    def sample(id: str, *args: Any, **kwargs: Any) -> Sample:
        return Sample("max_pool2d", id, args, kwargs)

    for layout, x in layouts(u8(2, 5, 7, 6)):
        yield sample(layout, x, 2)
    yield sample("int8", s8(2, 5, 7, 7), 3, 2, 1)
    yield sample("wide", u8(1, 70, 8, 8), 2)
    yield sample("dilated", u8(1, 3, 9, 9), [2, 3], [2, 1], [0, 1], 2)
    yield sample("ceil-mode", u8(1, 3, 8, 6), 3, 2, 1, ceil_mode=True)
    yield sample("no-samples", u8(0, 3, 8, 8), 2)


QPARAMS = (scale(0.03), zero(117), scale(0.05), zero(90))


def avg_pool2d_samples() -> Iterator[Sample]:
    def sample(id: str, x: Tensor, *args: Any, **kwargs: Any) -> Sample:
        return Sample("avg_pool2d", id, (x, *QPARAMS, 0, 255, *args), kwargs)

    for layout, x in layouts(u8(2, 5, 7, 6)):
        yield sample(layout, x, 2)
    yield sample("padded", u8(1, 3, 8, 7), 3, 2, 1)
    yield sample("padding-not-counted", u8(1, 3, 8, 7), 3, 2, 1, count_include_pad=False)
    yield sample("ceil-mode", u8(1, 70, 8, 6), 3, 2, 1, True)
    yield sample("divisor", u8(1, 3, 8, 7), [2, 3], divisor_override=5)
    yield sample("no-samples", u8(0, 3, 8, 8), 2)
    signed = (scale(0.03), zero(-7), scale(0.02), zero(-20))
    yield Sample("avg_pool2d", "int8", (s8(1, 3, 8, 8), *signed, -128, 127, 2))


def adaptive_avg_pool2d_samples() -> Iterator[Sample]:
    def sample(id: str, x: Tensor, *args: Any) -> Sample:
        return Sample("adaptive_avg_pool2d", id, (x, *QPARAMS, 0, 255, *args))

    for layout, x in layouts(u8(2, 5, 7, 6)):
        yield sample(layout, x, 1)
    yield sample("uneven", u8(1, 70, 7, 5), [3, 2])
    yield sample("larger", u8(1, 3, 2, 3), [5, 4])
    yield sample("no-samples", u8(0, 3, 8, 8), 1)


def arithmetic_samples(operator: str) -> Iterator[Sample]:
    def sample(id: str, a: Tensor, b: Tensor, output_scale: float = 0.06, **kwargs: Any) -> Sample:
        args = (a, scale(0.03), zero(117), b, scale(0.05), zero(90), scale(output_scale), zero(100), 0, 255)
        return Sample(operator, id, args, kwargs)

    for layout, a in layouts(u8(*IMAGES)):
        yield sample(layout, a, u8(*IMAGES, seed=8))
    yield sample("channels-right", u8(2, 5, 7, 3), u8(2, 5, 1, 1))
    yield sample("channels-left", u8(2, 5, 1, 1), u8(2, 5, 7, 3))
    yield sample("broadcast", u8(4, 1, 3), u8(5, 1))
    yield sample("relu", u8(3, 70), u8(3, 70, seed=8), activation="clip", activation_args=[0.0, math.inf])
    yield sample("hardswish", u8(3, 70), u8(3, 70, seed=8), activation="hardswish", activation_args=[0.01])
    yield sample("no-samples", u8(0, 3, 4, 4), u8(0, 3, 4, 4))
    yield sample("many", u8(70, 4001), u8(70, 4001, seed=8))
    mixed = (
        s8(3, 9),
        scale(0.03),
        zero(-4),
        u8(3, 9),
        scale(0.05),
        zero(9),
        scale(0.06),
        zero(-1),
        -128,
        127,
    )
    yield Sample(operator, "int8-and-uint8", mixed)


def cat_samples() -> Iterator[Sample]:
    for layout, x in layouts(u8(*IMAGES)):
        yield Sample("cat", layout, ([x, u8(2, 2, 7, 3)],))
    yield Sample("cat", "batch", ([s8(2, 5), s8(3, 5), s8(0, 5)], 0))
    yield Sample("cat", "last", ([u8(2, 3, 5), u8(2, 3, 1)], -1))
    yield Sample("cat", "single", ([u8(2, 3, 5, 5)],))


def lookup_samples() -> Iterator[Sample]:
    for layout, x in layouts(u8(*IMAGES)):
        yield Sample("lookup", layout, (x, u8(256, seed=8)))
    yield Sample("lookup", "int8", (s8(3, 50), s8(256)))
    yield Sample("lookup", "no-samples", (u8(0, 3, 4, 4), u8(256)))


def upsample_bilinear2d_samples() -> Iterator[Sample]:
    def sample(id: str, *args: Any) -> Sample:
        return Sample("upsample_bilinear2d", id, args)

    for layout, x in layouts(u8(*IMAGES)):
        yield sample(layout, x, zero(117), [14, 6])
    for layout, x in layouts(reals(*IMAGES)):
        yield sample(f"real-{layout}", x, None, [14, 6])
    for corners in (False, True):
        name = "corners" if corners else "centers"
        yield sample(f"{name}-uneven", u8(2, 19, 5, 6), zero(3), [11, 13], corners)
        yield sample(f"{name}-smaller", u8(1, 70, 9, 8), zero(), [4, 3], corners)
        yield sample(f"{name}-one", u8(1, 3, 5, 4), zero(255), [1, 1], corners)
        yield sample(f"{name}-of-one", u8(1, 3, 1, 1), zero(9), [3, 5], corners)
        yield sample(f"{name}-real", reals(2, 33, 5, 6), None, [11, 13], corners)
        yield sample(f"{name}-int8", s8(2, 5, 6, 6), zero(-7), [12, 12], corners)
    yield sample("same", u8(1, 4, 5, 6), zero(40), [5, 6])
    yield sample("many-rows", u8(3, 16, 64, 64), zero(40), [128, 128])
    yield sample("bfloat16", reals(1, 3, 4, 4).bfloat16(), None, [8, 8])
    yield sample("no-samples", u8(0, 3, 4, 4), zero(), [8, 8])


def layer_norm_samples() -> Iterator[Sample]:
    def sample(id: str, x: Tensor, *args: Any, eps: float = 1e-5) -> Sample:
        channels = x.shape[1]
        weight = torch.linspace(-1.5, 2.0, channels) if channels else torch.zeros(0)
        return Sample("layer_norm", id, (x, weight, torch.linspace(-0.5, 0.5, channels), eps, *args))

    for layout, x in layouts(reals(2, 37, 7, 3)):
        yield sample(f"codes-{layout}", x, scale(0.02), zero(117))
        yield sample(f"real-{layout}", x, eps=1e-2)
    yield sample("features", reals(5, 96), scale(0.02), zero(117), 3, 250)
    yield sample("int8", reals(3, 70), scale(0.02), zero(-9), -128, 127)
    yield sample("bfloat16", reals(3, 16).bfloat16(), scale(0.02), zero(100))
    yield sample("one-channel", reals(4, 1, 2, 2), scale(0.02), zero(100))
    yield sample("many", reals(3, 96, 30, 30), scale(0.02), zero(100))
    yield sample("no-samples", reals(0, 3, 4, 4), scale(0.02), zero(100))


def activation_samples() -> Iterator[Sample]:
    for function in ("sigmoid", "silu", "tanh", "gelu", "gelu_tanh", "square"):
        for layout, x in layouts(reals(2, 5, 3, 7, spread=4.0)):
            yield Sample("activation", f"{function}-{layout}", (x, function))
        edges = torch.tensor([0.0, 1e-30, 1e-4, 2.0**-12, 3e-4, 20.0, 103.0, 199.0, 201.0, 3e38])
        yield Sample("activation", f"{function}-edges", (torch.cat([edges, -edges]), function))
        yield Sample("activation", f"{function}-many", (reals(3, 40_000, spread=20.0), function))
        yield Sample("activation", f"{function}-bfloat16", (reals(3, 17).bfloat16(), function))
        yield Sample("activation", f"{function}-empty", (reals(0, 10), function))


def group_norm_samples() -> Iterator[Sample]:
    def sample(id: str, x: Tensor, groups: int, *args: Any, eps: float = 1e-5) -> Sample:
        channels = x.shape[1]
        weight = torch.linspace(-1.5, 2.0, channels)
        return Sample("group_norm", id, (x, groups, weight, torch.linspace(-0.5, 0.5, channels), eps, *args))

    for layout, x in layouts(reals(2, 36, 7, 3)):
        yield sample(f"codes-{layout}", x, 4, scale(0.02), zero(117))
        yield sample(f"real-{layout}", x, 9, eps=1e-2)
    yield sample("instances", reals(3, 17, 5, 6), 17, scale(0.02), zero(117), 3, 250)
    yield sample("one-group", reals(3, 40, 5, 6), 1, scale(0.02), zero(-9), -128, 127)
    yield sample("bfloat16", reals(3, 16, 4, 4).bfloat16(), 8, scale(0.02), zero(100))
    yield sample("one-pixel", reals(4, 6, 1, 1), 2, scale(0.02), zero(100))
    yield sample("many", reals(3, 96, 30, 30), 32, scale(0.02), zero(100))
    yield sample("no-samples", reals(0, 4, 4, 4), 2, scale(0.02), zero(100))


def softmax_samples() -> Iterator[Sample]:
    def to_codes(id: str, x: Tensor, *output: Any) -> Sample:
        return Sample("softmax", f"codes-{id}", (x, False, *output))

    shares = (scale(1 / 256), zero())
    for layout, x in layouts(reals(2, 37, 7, 3)):
        yield to_codes(layout, x, *shares)
    yield to_codes("features", reals(7, 10), scale(0.004), zero(5), 9, 250)
    yield to_codes("int8", reals(3, 70), *(scale(0.001), zero(-128), -128, 127))
    yield to_codes("int8-image", reals(2, 5, 3, 7), *(scale(1 / 256), zero(-100), -101, 90))
    yield to_codes("bfloat16", reals(3, 16, 2, 5).bfloat16(), *shares)
    yield to_codes("float64", reals(3, 16, 2, 5).double(), *shares)
    yield to_codes("one-channel", reals(4, 1, 2, 2), *shares)
    yield to_codes("many", reals(3, 197, 12, 30, spread=1.0), scale(1 / 2048), zero())
    yield to_codes("no-samples", reals(0, 3, 4, 4), *shares)
    yield to_codes("no-pixels", reals(2, 3, 0, 4), *shares)
    yield to_codes("no-channels", reals(2, 0, 4, 4), *shares)
    yield Sample("softmax", "shares-no-classes", (reals(3, 0),))
    for log in (False, True):
        name = "log" if log else "shares"
        for layout, x in layouts(reals(7, 10)):
            yield Sample("softmax", f"{name}-{layout}", (x, log))
        for layout, x in layouts(reals(2, 37, 7, 3)):
            yield Sample("softmax", f"{name}-image-{layout}", (x, log))
        yield Sample("softmax", f"{name}-many", (reals(301, 100, spread=20.0), log))
        yield Sample("softmax", f"{name}-one-class", (reals(3, 1), log))
        yield Sample("softmax", f"{name}-one-channel", (reals(3, 1, 2, 5), log))
        yield Sample("softmax", f"{name}-long-rows", (reals(3, 2500), log))
        yield Sample("softmax", f"{name}-bfloat16", (reals(3, 17).bfloat16(), log))
        yield Sample("softmax", f"{name}-image-bfloat16", (reals(3, 17, 2, 5).bfloat16(), log))
        yield Sample("softmax", f"{name}-no-samples", (reals(0, 10), log))
        yield Sample("softmax", f"{name}-no-pixels", (reals(2, 3, 0, 4), log))


def pack_samples() -> Iterator[Sample]:
    for bits in range(1, 8):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
        for layout, x in layouts(s8(6, 3, 3, 5, low=low, high=high)):
            yield Sample("pack_codes", f"{bits}-bits-{layout}", (x, bits))
        yield Sample("pack_codes", f"{bits}-bits-long", (s8(3, 301, low=low, high=high), bits))
        yield Sample("pack_codes", f"{bits}-bits-empty", (s8(0, 5, low=low, high=high), bits))


def unpack_samples() -> Iterator[Sample]:
    for bits in range(1, 8):
        for sizes in ([6, 3, 3, 5], [3, 301], [0, 5], [4]):
            packed = u8(sizes[0], -(-math.prod(sizes[1:]) * bits // 8))
            yield Sample("unpack_codes", f"{bits}-bits-{'x'.join(map(str, sizes))}", (packed, bits, sizes))


# ---- a .ptqx file of two steps, written by hand from the format's description ----

ENGINE_SCALE, ENGINE_ZERO, ENGINE_WEIGHT = scale(0.04), zero(120), s8(4, 12)
ENGINE_WEIGHT_SCALE, ENGINE_BIAS = scales(4), bias_for(4)


def engine_program(output: Any = "classifier") -> Tensor:
    """quantize, then a linear layer with real results: [N, 12] -> [N, 4]."""
    tensors = {
        "classifier.bias": ("I32", ENGINE_BIAS),
        "classifier.weight": ("I8", ENGINE_WEIGHT),
        "classifier.weight_scale": ("F32", ENGINE_WEIGHT_SCALE),
        "input.quantize.output_scale": ("F32", ENGINE_SCALE),
        "input.quantize.output_zero_point": ("I32", ENGINE_ZERO),
    }
    codes_out = {"dtype": "uint8", "scale": "input.quantize.output_scale",
                 "zero_point": "input.quantize.output_zero_point", "qmin": 0, "qmax": 255}  # fmt: skip
    attrs = {
        "weight_shape": [4, 12],
        "weight_bits": 8,
        "group_size": 0,
        "activation": "none",
        "activation_args": [],
    }
    own = {key: f"classifier.{key}" for key in ("weight", "weight_scale", "bias")}
    graph = {
        "format": "ptqx",
        "version": 1,
        "producer": "a test",
        "info": {},
        "input": {"name": "input", "shape": [12]},
        "output": output,
        "nodes": [
            {
                "name": "input.quantize",
                "op": "quantize",
                "inputs": ["input"],
                "attrs": {},
                "tensors": {},
                "output": codes_out,
            },
            {
                "name": "classifier",
                "op": "linear",
                "inputs": ["input.quantize"],
                "attrs": attrs,
                "tensors": own,
                "output": {"dtype": "float32"},
            },
        ],
    }
    document = json.dumps(graph)
    checksum = hashlib.sha256(document.encode())
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, tensor) in sorted(tensors.items()):
        raw = tensor.numpy().tobytes()
        shape = list(tensor.shape)
        text = ",".join(map(str, shape))
        checksum.update(b"\0".join([name.encode(), dtype.encode(), text.encode(), raw]))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    header["__metadata__"] = {
        "format": "ptqx",
        "version": "1",
        "graph": document,
        "sha256": checksum.hexdigest(),
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return torch.frombuffer(bytearray(struct.pack("<Q", len(text)) + text + data), dtype=torch.uint8)


def engine_run_expected(input: Tensor, program: Tensor, output_shape: list[int]) -> Tensor:
    codes = op_oracle.quantize(input, ENGINE_SCALE, ENGINE_ZERO, 0, 255)
    return op_oracle.linear_f32(
        codes, ENGINE_SCALE, ENGINE_ZERO, ENGINE_WEIGHT, ENGINE_WEIGHT_SCALE, None, ENGINE_BIAS
    )


op_oracle.engine_run = engine_run_expected  # type: ignore[attr-defined]


def engine_run_samples() -> Iterator[Sample]:
    program = engine_program()
    for layout, x in layouts(reals(5, 12)):
        yield Sample("engine_run", layout, (x, program, [4]))
    yield Sample("engine_run", "no-samples", (reals(0, 12), program, [4]))


SEVERAL_OUTPUTS = {"tuple": ["classifier", {"dict": [["image", "input"]]}]}


def engine_run_outputs_expected(
    input: Tensor, program: Tensor, output_ranks: list[int], output_extents: list[int]
) -> list[Tensor]:
    return [engine_run_expected(input, program, [4]), input]


op_oracle.engine_run_outputs = engine_run_outputs_expected  # type: ignore[attr-defined]


def engine_run_outputs_samples() -> Iterator[Sample]:
    program = engine_program(SEVERAL_OUTPUTS)
    for layout, x in layouts(reals(5, 12)):
        yield Sample("engine_run_outputs", layout, (x, program, [1, 1], [4, 12]))
    yield Sample("engine_run_outputs", "no-samples", (reals(0, 12), program, [1, 1], [4, 12]))


def pack_signs_samples() -> Iterator[Sample]:
    for layout, x in layouts(reals(*IMAGES)):
        yield Sample("pack_signs", layout, (x,))
    for channels in (1, 31, 32, 33, 257):
        yield Sample("pack_signs", f"{channels}-channels", (reals(2, channels),))
    special = torch.tensor([[math.nan, -0.0, 0.0, math.inf, -math.inf, 1e-45, -1e-45]])
    yield Sample("pack_signs", "special-values", (special,))
    yield Sample("pack_signs", "bfloat16", (reals(3, 17).bfloat16(),))
    yield Sample("pack_signs", "no-samples", (reals(0, 3, 4, 4),))
    yield Sample("pack_signs", "many", (reals(30, 70, 13, 17),))


def signs(*shape: int, seed: int = 0) -> Tensor:
    return op_oracle.pack_signs(reals(*shape, seed=seed))


def s16(*shape: int, seed: int = 5) -> Tensor:
    return torch.randint(-(2**15), 2**15, shape, generator=generator(seed)).to(torch.int16)


def conv2d_s64_samples() -> Iterator[Sample]:
    for id, (x, w, rest) in GEOMETRIES.items():
        yield Sample("conv2d_s64", id, (s16(*x), s16(*w, seed=1)), rest)
    for layout, x in layouts(s16(2, 19, 7, 6)):
        yield Sample("conv2d_s64", layout, (x, s16(5, 19, 3, 3, seed=1)), {"padding": 1, "stride": 2})
    lowest = torch.full((1, 40, 3, 3), -(2**15), dtype=torch.int16)
    yield Sample("conv2d_s64", "largest-sums", (lowest, lowest), {"padding": 1})


def linear_s64_samples() -> Iterator[Sample]:
    for features in (1, 8, 45, 513):
        yield Sample("linear_s64", f"{features}-features", (s16(3, features), s16(33, features, seed=1)))
    yield Sample("linear_s64", "three-dimensions", (s16(2, 3, 9), s16(4, 9, seed=1)))
    yield Sample("linear_s64", "no-samples", (s16(0, 40), s16(33, 40, seed=1)))


def binary_conv2d_s32_samples() -> Iterator[Sample]:
    for id, (x, w, rest) in GEOMETRIES.items():
        if "groups" not in rest:
            yield Sample("binary_conv2d_s32", id, (signs(*x), signs(*w, seed=1), x[1]), rest)
    for channels in (31, 32, 33, 64, 200):
        args = (signs(2, channels, 6, 5), signs(66, channels, 3, 3, seed=1), channels)
        yield Sample("binary_conv2d_s32", f"{channels}-channels", args, {"padding": 1})
    for layout, x in layouts(signs(2, 40, 7, 6)):
        args = (x, signs(5, 40, 3, 3, seed=1), 40)
        yield Sample("binary_conv2d_s32", layout, args, {"padding": 1, "stride": 2})
    small_map = (signs(1, 2048, 2, 2), signs(16, 2048, 3, 3, seed=1), 2048)
    yield Sample("binary_conv2d_s32", "small-map", small_map, {"padding": 1})


def binary_conv2d_f32_samples() -> Iterator[Sample]:
    layer = (signs(2, 40, 7, 6), signs(70, 40, 3, 3, seed=1), 40)
    yield Sample("binary_conv2d_f32", "scale", (*layer, scale()), {"padding": 1})
    yield Sample("binary_conv2d_f32", "per-channel", (*layer, scales(70), reals(70)), {"padding": 1})
    no_samples = (signs(0, 40, 7, 6), *layer[1:], scale())
    yield Sample("binary_conv2d_f32", "no-samples", no_samples)


def binary_linear_samples(operator: str, *scale_and_bias: Tensor) -> Iterator[Sample]:
    for features in (1, 32, 45, 513):
        args = (signs(3, features), signs(33, features, seed=1), features, *scale_and_bias)
        yield Sample(operator, f"{features}-features", args)
    yield Sample(operator, "no-samples", (signs(0, 40), signs(33, 40, seed=1), 40, *scale_and_bias))


SAMPLES: dict[str, list[Sample]] = {
    "quantize": list(quantize_samples()),
    "requantize": list(requantize_samples()),
    "dequantize": list(dequantize_samples()),
    "dynamic_quantize": list(dynamic_quantize_samples()),
    "fake_quantize": list(fake_quantize_samples()),
    "fake_quantize_backward": list(fake_quantize_backward_samples()),
    "lsq": list(lsq_samples()),
    "lsq_backward": list(lsq_backward_samples()),
    "lsq_codes": list(lsq_codes_samples()),
    "sign_codes": list(sign_codes_samples()),
    "sign_codes_backward": list(sign_codes_backward_samples()),
    "min_max": list(statistics_samples("min_max")),
    "moments": list(statistics_samples("moments")),
    "histogram": list(statistics_samples("histogram", -4.0, 5.0, 37)),
    "conv2d_s32": list(conv2d_s32_samples()),
    "conv2d": list(conv2d_samples()),
    "conv2d_fixed_point": list(conv2d_fixed_point_samples()),
    "conv2d_f32": list(conv2d_f32_samples()),
    "linear_s32": list(linear_s32_samples()),
    "linear": list(linear_samples()),
    "linear_fixed_point": list(linear_fixed_point_samples()),
    "linear_f32": list(linear_f32_samples()),
    "matmul": list(matmul_samples()),
    "max_pool2d": list(max_pool2d_samples()),
    "avg_pool2d": list(avg_pool2d_samples()),
    "adaptive_avg_pool2d": list(adaptive_avg_pool2d_samples()),
    "add": list(arithmetic_samples("add")),
    "mul": list(arithmetic_samples("mul")),
    "cat": list(cat_samples()),
    "layer_norm": list(layer_norm_samples()),
    "group_norm": list(group_norm_samples()),
    "lookup": list(lookup_samples()),
    "softmax": list(softmax_samples()),
    "activation": list(activation_samples()),
    "upsample_bilinear2d": list(upsample_bilinear2d_samples()),
    "conv2d_s64": list(conv2d_s64_samples()),
    "linear_s64": list(linear_s64_samples()),
    "pack_signs": list(pack_signs_samples()),
    "binary_conv2d_s32": list(binary_conv2d_s32_samples()),
    "binary_conv2d_f32": list(binary_conv2d_f32_samples()),
    "binary_linear_s32": list(binary_linear_samples("binary_linear_s32")),
    "binary_linear_f32": list(binary_linear_samples("binary_linear_f32", scales(33), reals(33))),
    "pack_codes": list(pack_samples()),
    "unpack_codes": list(unpack_samples()),
    "pack_int4": [Sample("pack_int4", "long", (s8(3, 301, low=-8, high=8),))],
    "unpack_int4": [Sample("unpack_int4", "3x301", (u8(3, 151), [3, 301]))],
    "engine_run": list(engine_run_samples()),
    "engine_run_outputs": list(engine_run_outputs_samples()),
}
ALL: list[Sample] = [sample for samples in SAMPLES.values() for sample in samples]


def sample_id(sample: Sample) -> str:
    return f"{sample.operator}-{sample.id}"
