"""One tensor of gradients in few bits: codes by the written formulas, sizes, rounding, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant.noise import uniform_noise
from ptqx.train.gradients import GradientFormat
from torch import Tensor

SIZES = [1, 2, 7, 8, 9, 1000]
FORMATS = [GradientFormat(8), GradientFormat(4), GradientFormat(1)]


def gradients(size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(size)) * 1e-3


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("size", SIZES)
def test_uniform_codes_are_those_of_the_formula(bits: int, size: int) -> None:
    x = gradients(size)
    scale, packed = GradientFormat(bits).encode(x)
    largest_code = 2 ** (bits - 1) - 1
    expected_scale = np.abs(x.numpy()).max() / np.float32(largest_code)
    codes = np.rint(x.numpy() / expected_scale).astype(np.int64)
    assert scale.item() == expected_scale and np.abs(codes).max() == largest_code
    expected = codes % 2**bits  # two's complement
    if bits == 4:
        pairs = np.append(expected, [0] * (size % 2)).reshape(-1, 2)
        expected = pairs[:, 0] + 16 * pairs[:, 1]
    assert packed.tolist() == expected.tolist()
    decoded = GradientFormat(bits).decode(scale, packed, size)
    assert decoded.tolist() == (codes.astype(np.float32) * expected_scale).tolist()


@pytest.mark.parametrize("size", SIZES)
def test_one_bit_is_the_sign_and_the_mean(size: int) -> None:
    x = gradients(size)
    x[0] = 0.0 if size > 1 else x[0]
    scale, packed = GradientFormat(1).encode(x)
    assert scale.item() == np.float32(np.abs(x.double().numpy()).mean())
    assert packed.tolist() == np.packbits(x.numpy() < 0, bitorder="little").tolist()
    decoded = GradientFormat(1).decode(scale, packed, size)
    assert decoded.tolist() == np.where(x.numpy() < 0, -scale.item(), scale.item()).tolist()


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_packed_size_is_as_computed(format: GradientFormat, size: int) -> None:
    _, packed = format.encode(gradients(size))
    assert packed.dtype == torch.uint8 and packed.nbytes == format.packed_bytes(size)
    assert format.packed_bytes(size) == {8: size, 4: (size + 1) // 2, 1: (size + 7) // 8}[format.bits]


@pytest.mark.parametrize("bits", [8, 4])
def test_stochastic_rounding_is_right_on_average(bits: int) -> None:
    format, x, draws = GradientFormat(bits, "stochastic"), gradients(50), 4000
    decoded = []
    for step in range(draws):
        scale, packed = format.encode(x, uniform_noise(x.shape, 0, step=step))
        decoded.append(format.decode(scale, packed, 50))
    values = torch.stack(decoded).double()
    assert ((values - x).abs() < scale).all()
    # A value between two codes is Bernoulli's: its deviation is at most half a step.
    assert ((values.mean(0) - x).abs() <= 4.5 * 0.5 * scale / math.sqrt(draws)).all()
    assert (values.std(0) > 0).sum() > 45


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_zeros_stay_zero(format: GradientFormat) -> None:
    scale, packed = format.encode(torch.zeros(11))
    assert format.decode(scale, packed, 11).tolist() == [0.0] * 11


@pytest.mark.parametrize("format", [*FORMATS, GradientFormat(4, "stochastic")], ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_gives_the_scale_nan(format: GradientFormat, value: float) -> None:
    x = gradients(9)
    x[4] = value
    scale, packed = format.encode(x, uniform_noise(x.shape, 0) if format.rounding == "stochastic" else None)
    assert scale.isnan() and packed.nbytes == format.packed_bytes(9)


@pytest.mark.parametrize("format", [*FORMATS, GradientFormat(4, "stochastic")], ids=str)
def test_threads_make_no_difference(format: GradientFormat) -> None:
    x, results = gradients(300_000), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        noise = uniform_noise(x.shape, 0) if format.rounding == "stochastic" else None
        results.append(format.encode(x, noise))
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2,), "bits of gradients must be 8, 4 or 1, got 2"),
        ((8, "up"), "unknown rounding of gradients 'up'"),
        ((1, "stochastic"), "their rounding must be nearest, got stochastic"),
    ],
)
def test_other_formats_are_refused(arguments: tuple[int, str], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        GradientFormat(*arguments)
