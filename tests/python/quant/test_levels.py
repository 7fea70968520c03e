from __future__ import annotations

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant import LEVELS, Scheme, Uniform, quantize_tensor, register_levels

SHIFT = Scheme(levels="shift", signed=False, symmetric=False)


def test_shift_and_scale_worked_example():
    quantized = quantize_tensor(torch.tensor([400.0, 500.0, 600.0]), SHIFT)
    assert quantized.codes.tolist() == [0, 128, 255]
    assert quantized.dequantize().tolist() == pytest.approx([400.0, 500.392, 600.0], abs=5e-4)


def test_shift_of_equal_values_is_exact():
    quantized = quantize_tensor(torch.full((3,), 7.25), SHIFT)
    assert quantized.codes.tolist() == [0, 0, 0]
    assert quantized.dequantize().tolist() == [7.25] * 3


def test_shift_per_channel_is_shift_of_each_channel():
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)) + 100
    whole = quantize_tensor(x, Scheme(levels="shift", signed=False, symmetric=False, granularity="channel"))
    rows = [quantize_tensor(row, SHIFT) for row in x]
    assert torch.equal(whole.codes, torch.stack([row.codes for row in rows]))
    assert torch.equal(whole.dequantize(), torch.stack([row.dequantize() for row in rows]))


def test_shift_of_the_widest_range_does_not_overflow():
    x = torch.tensor([-3e38, 0.0, 3e38])
    assert torch.allclose(quantize_tensor(x, SHIFT).dequantize(), x, atol=2e36)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"signed": True}, "signed=False"),
        ({"observer": "mse"}, "observer must be 'minmax'"),
        ({"rounding": "stochastic"}, "round to the nearest"),
    ],
    ids=str,
)
def test_shift_refuses_what_it_cannot_do(fields, message):
    with pytest.raises(PtqxError, match=message):
        Scheme(**{"levels": "shift", "signed": False, "symmetric": False, **fields})


def test_stochastic_rounding_is_unbiased_and_reproducible():
    x = torch.full((20000,), 0.3)
    x[0] = 127.0  # scale 1
    first, second = (quantize_tensor(x, Scheme(rounding="stochastic")) for _ in range(2))
    assert torch.equal(first.codes, second.codes)
    other = quantize_tensor(x, Scheme(rounding="stochastic", seed=1))
    assert not torch.equal(first.codes, other.codes)
    assert set(first.codes[1:].tolist()) == {0, 1}
    assert first.codes[1:].float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_new_levels_are_one_decorated_class():
    @register_levels("even_codes")
    class EvenCodes(Uniform):
        def codes(self, x, parameters, scheme):
            return (super().codes(x, parameters, scheme) / 2).round() * 2

    try:
        quantized = quantize_tensor(torch.linspace(-1, 1, 50), Scheme(levels="even_codes"))
        assert set((quantized.codes % 2).tolist()) == {0}
    finally:
        del LEVELS._entries["even_codes"]
