from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ptqx.errors import PtqxError
from ptqx.quant import (
    LEVELS,
    MIN_SCALE,
    Scheme,
    codes_f32,
    dequantize_codes,
    expand_to,
    observe_whole,
    qparams_from_range,
    quantize_tensor,
)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SCHEMES = st.builds(
    Scheme, bits=st.integers(2, 8), narrow=st.none() | st.booleans(), symmetric=st.booleans()
) | st.builds(Scheme, bits=st.integers(2, 8), signed=st.just(False), symmetric=st.just(False))


def qparams(low, high, scheme):
    return qparams_from_range(torch.tensor([low]), torch.tensor([high]), scheme)


@given(low=FLOATS, high=FLOATS, scheme=SCHEMES)
def test_zero_is_exact_and_parameters_are_valid_for_any_range(low, high, scheme):
    low, high = min(low, high), max(low, high)
    scale, zero_point = qparams(low, high, scheme)
    assert scale.dtype == torch.float32
    assert zero_point.dtype == torch.int32
    assert MIN_SCALE <= float(scale) < float("inf")
    code = codes_f32(torch.zeros(1), scale, zero_point, scheme.qmin, scheme.qmax)
    assert scheme.qmin <= int(code) <= scheme.qmax
    assert float(dequantize_codes(code, scale, zero_point)) == 0.0


@given(low=FLOATS, high=FLOATS)
def test_scale_is_the_float32_formula(low, high):
    low, high = np.float32(min(low, high, 0.0)), np.float32(max(low, high, 0.0))
    if low == high:
        return
    with np.errstate(over="ignore"):
        span = high - low
    if np.isinf(span):
        return
    symmetric = np.maximum(max(-low, high) / np.float32(127), np.float32(MIN_SCALE))
    assert qparams(low, high, Scheme())[0].item() == symmetric
    scale = np.maximum(span / np.float32(255), np.float32(MIN_SCALE))
    zero_point = int(np.clip(np.rint(np.float32(0) - low / scale), 0, 255))
    got_scale, got_zero_point = qparams(low, high, Scheme(signed=False, symmetric=False))
    assert got_scale.item() == scale
    assert got_zero_point.item() == zero_point


@given(values=st.lists(FLOATS, min_size=1, max_size=20), scheme=SCHEMES)
def test_quantization_is_idempotent_monotone_and_close(values, scheme):
    x = torch.tensor(sorted(values))
    quantized = quantize_tensor(x, scheme)
    restored = quantized.dequantize()
    codes = quantized.codes.int()
    assert bool((codes.diff() >= 0).all())
    again = LEVELS[scheme.levels]().codes(restored, quantized.parameters, scheme)
    if bool(restored.isfinite().all()):  # a code times the scale of values near 3e38 may overflow
        assert torch.equal(again.int(), codes)
        scale = quantized.parameters["scale"].double()
        midrise = quantized.parameters.get("midrise", torch.zeros(1))
        zero_point = quantized.parameters["zero_point"] - midrise / 2
        inside = x.double().clamp((scheme.qmin - zero_point) * scale, (scheme.qmax - zero_point) * scale)
        assert bool(((restored.double() - inside).abs() <= scale * 0.5 * (1 + 1e-4)).all())


@pytest.mark.parametrize(
    ("t", "code"),
    [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (126.5, 126), (200.0, 127)],
)
def test_ties_round_half_to_even(t, code):
    assert (
        codes_f32(torch.tensor([t * 0.25]), torch.tensor([0.25]), torch.tensor([0]), -127, 127).item() == code
    )


def test_codes_divide_by_the_scale_and_do_not_multiply_by_its_inverse():
    x, scale = torch.tensor([0.15000000596046448]), torch.tensor([0.10000000149011612])
    differing = [s for s in torch.linspace(0.001, 1.0, 5000) if (1.5 * s) / s != (1.5 * s) * (1 / s)]
    assert differing, "the sweep must hold scales where the two formulas differ"
    for s in differing:
        value = 1.5 * s
        expected = np.rint(np.float32(value) / np.float32(s))
        assert codes_f32(value, s, torch.tensor(0), -127, 127).item() == expected
    assert codes_f32(x, scale, torch.tensor([0]), -127, 127).item() == np.rint(x.numpy() / scale.numpy())


@pytest.mark.parametrize(
    "scheme", [Scheme(), Scheme(signed=False, symmetric=False), Scheme(symmetric=False)], ids=str
)
def test_all_zero_tensor_has_scale_one_and_zero_point_zero(scheme):
    quantized = quantize_tensor(torch.zeros(3, 4), scheme)
    assert quantized.parameters["scale"].tolist() == [1.0]
    assert quantized.parameters["zero_point"].tolist() == [0]
    assert torch.equal(quantized.dequantize(), torch.zeros(3, 4))


@pytest.mark.parametrize("constant", [3.0, -3.0, 1e-30, 3e38])
def test_constant_tensor_is_nearly_exact(constant):
    x = torch.full((5,), constant)
    for scheme in (Scheme(), Scheme(symmetric=False), Scheme(signed=False, symmetric=False)):
        restored = quantize_tensor(x, scheme).dequantize()
        assert torch.allclose(restored, x, rtol=1e-5, atol=MIN_SCALE), scheme


def test_range_far_from_zero_is_extended_to_zero():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) + 20
    quantized = quantize_tensor(x, Scheme(signed=False, symmetric=False))
    assert quantized.parameters["zero_point"].item() == 0
    assert (quantized.dequantize() - x).abs().max() <= quantized.parameters["scale"].item() / 2 * 1.0001


def test_shapes_of_scales_for_every_granularity():
    x = torch.randn(6, 10, 3, 3, generator=torch.Generator().manual_seed(0))
    shapes = {"tensor": (1,), "channel": (6,), "group": (6, 3), "sample": (6,)}
    for granularity, shape in shapes.items():
        scheme = Scheme(granularity=granularity, group_size=4 if granularity == "group" else 0)
        quantized = quantize_tensor(x, scheme)
        assert quantized.parameters["scale"].shape == shape
        assert quantized.codes.shape == x.shape
        assert (
            torch.broadcast_shapes(expand_to(quantized.parameters["scale"], x, scheme).shape, x.shape)
            == x.shape
        )


def test_group_scales_cover_their_input_channels_with_a_shorter_last_group():
    x = torch.randn(6, 10, 3, 3, generator=torch.Generator().manual_seed(0))
    _, high = observe_whole(x, Scheme(granularity="group", group_size=4))
    expected = [[x[o, g : g + 4].max().item() for g in (0, 4, 8)] for o in range(6)]
    assert high.tolist() == expected


def test_group_of_a_vector_is_an_error():
    with pytest.raises(PtqxError, match=r"at least 2 dimensions"):
        observe_whole(torch.ones(8), Scheme(granularity="group", group_size=4))


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 4)], ids=str)
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_empty_tensor_keeps_its_shape(shape, granularity):
    quantized = quantize_tensor(torch.zeros(shape), Scheme(granularity=granularity))
    assert quantized.dequantize().shape == shape


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_raise_with_their_count(bad):
    x = torch.zeros(4, 5)
    x[1, 2:4] = bad
    with pytest.raises(PtqxError, match=r"conv1: 2 of 20 values are NaN or infinite"):
        quantize_tensor(x, Scheme(granularity="channel"), name="conv1")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_quantize_as_their_float32(dtype):
    x = torch.randn(50, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(quantize_tensor(x, Scheme()).codes, quantize_tensor(x.float(), Scheme()).codes)
