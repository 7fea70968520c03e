"""Gradients of fake_quantize, lsq and sign_codes by autograd, against formulas and the composite fallback."""

from __future__ import annotations

from typing import Any

import op_oracle
import pytest
import torch
from op_samples import SAMPLES, Sample, reals, sample_id, scale, scales, zero
from torch import Tensor

# float32 terms, of which the largest here are about 1e2, summed over up to 3e5 elements
SUM_RTOL = 1e-5

FORWARD = SAMPLES["fake_quantize"] + SAMPLES["lsq"]
BACKWARD = SAMPLES["fake_quantize_backward"] + SAMPLES["lsq_backward"] + SAMPLES["sign_codes_backward"]


def leaf(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_(tensor.is_floating_point())


def on_other_devices(operator: str, *args: Any) -> Any:
    """What runs on CUDA tensors: the kernel that the dispatcher finds for them, called on CPU ones."""
    op = getattr(torch.ops.ptqx, operator).default
    defaults = [argument.default_value for argument in op._schema.arguments[len(args) :]]
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
    return torch.library.get_kernel(op, "CUDA").call_boxed(keys, *args, *defaults)


def assert_gradients_equal(results: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(results[0], expected[0], rtol=0, atol=0)
    for result, wanted in zip(results[1:], expected[1:], strict=True):
        largest = wanted.abs().max().item()
        torch.testing.assert_close(result, wanted, rtol=SUM_RTOL, atol=SUM_RTOL * largest)


@pytest.mark.parametrize("sample", [s for s in FORWARD if s.id != "special-values"], ids=sample_id)
def test_autograd_equals_formula(sample: Sample) -> None:
    x, s, z = (leaf(t) for t in sample.args[:3])
    y = getattr(torch.ops.ptqx, sample.operator)(x, s, z, *sample.args[3:])
    grad = reals(*x.shape, seed=11, spread=1.0).to(x.dtype)
    y.backward(grad)
    expected = getattr(op_oracle, f"{sample.operator}_backward")(grad, *sample.args)
    assert x.grad is not None and s.grad is not None
    results = (x.grad, s.grad)
    if z.is_floating_point():
        assert z.grad is not None
        results += (z.grad,)
    assert_gradients_equal(results, expected[: len(results)])
    assert y.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("operator", ["fake_quantize", "lsq"])
def test_gradient_of_zero_point_counts_what_is_clipped(operator: str) -> None:
    z = torch.tensor([2.0], requires_grad=True)
    x = torch.tensor([-100.0, 0.0, 1.0, 100.0, 200.0])
    factor = (1.0,) if operator == "lsq" else ()
    getattr(torch.ops.ptqx, operator)(x, scale(0.5), z, 0, 15, *factor).sum().backward()
    assert z.grad is not None
    assert z.grad.item() == -0.5 * 3


def test_lsq_factor_zero_is_the_papers() -> None:
    x = reals(40, 10)
    s = scale(0.1).requires_grad_()
    torch.ops.ptqx.lsq(x, s, zero(), -8, 7).sum().backward()
    plain = scale(0.1).requires_grad_()
    torch.ops.ptqx.fake_quantize(x, plain, zero(), -8, 7).sum().backward()
    assert s.grad is not None and plain.grad is not None
    torch.testing.assert_close(s.grad, plain.grad / (400 * 7) ** 0.5)


@pytest.mark.parametrize("operator", ["fake_quantize", "lsq"])
def test_double_backward_says_it_cannot(operator: str) -> None:
    x = reals(3, 4).requires_grad_()
    y = getattr(torch.ops.ptqx, operator)(x, scale().requires_grad_(), zero(), 0, 15)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=f"derivative for ptqx::{operator}_backward is not implemented"):
        grad.sum().backward()


@pytest.mark.parametrize("operator", ["dequantize", "conv2d_f32", "linear_f32", "min_max"])
def test_backward_of_what_has_no_derivative_says_so(operator: str) -> None:
    sample = SAMPLES[operator][0]
    args = tuple(leaf(a) if isinstance(a, Tensor) else a for a in sample.args)
    result = getattr(torch.ops.ptqx, operator)(*args, **sample.kwargs)
    result = result[0] if isinstance(result, tuple) else result
    with pytest.raises(RuntimeError, match=f"derivative for ptqx::{operator} is not implemented"):
        result.sum().backward()


@pytest.mark.parametrize("sample", FORWARD, ids=sample_id)
def test_composite_value_equals_kernel(sample: Sample) -> None:
    composite, kernel = on_other_devices(sample.operator, *sample.args), sample.run()
    torch.testing.assert_close(composite, kernel, rtol=0, atol=0, equal_nan=True)
    assert composite.stride() == kernel.stride()
    floats = [t.float().nan_to_num() for t in (composite, kernel)]
    assert torch.equal(*(t.contiguous().view(torch.int32) for t in floats)), "a zero has another sign"


@pytest.mark.parametrize("sample", BACKWARD, ids=sample_id)
def test_composite_gradients_equal_kernel(sample: Sample) -> None:
    assert_gradients_equal(on_other_devices(sample.operator, *sample.args), sample.run())


def test_unequal_layout_of_gradient_is_read_right() -> None:
    x = reals(2, 6, 5, 4).contiguous(memory_format=torch.channels_last)
    grad = reals(2, 6, 5, 4, seed=5)
    args = (scales(6), torch.full((6,), 8, dtype=torch.int32), 0, 15, 1)
    results = torch.ops.ptqx.fake_quantize_backward(grad, x, *args)
    expected = torch.ops.ptqx.fake_quantize_backward(grad, x.contiguous(), *args)
    torch.testing.assert_close(results, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learned_zero_point", [False, True])
def test_codes_times_the_constant_scale_learn_as_lsq(dtype: torch.dtype, learned_zero_point: bool) -> None:
    grad = reals(4, 30, seed=7, spread=1.0)
    gradients = []
    for codes in (False, True):
        x, s = reals(4, 30).to(dtype).requires_grad_(), scale(0.0625).requires_grad_()
        z = torch.tensor([2.0], requires_grad=True) if learned_zero_point else zero(2)
        if codes:
            y = torch.ops.ptqx.lsq_codes(x, s, z, 0, 15).float() * s.detach()
        else:
            y = torch.ops.ptqx.lsq(x, s, z, 0, 15).float()
        y.backward(grad)
        gradients.append([t.grad for t in (x, s, z) if t.is_floating_point()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sample", SAMPLES["lsq_codes"] + SAMPLES["sign_codes"], ids=sample_id)
def test_codes_on_other_devices(sample: Sample) -> None:
    result = on_other_devices(sample.operator, *sample.args, *sample.kwargs.values())
    torch.testing.assert_close(result, sample.expected(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("sample", SAMPLES["sign_codes_backward"], ids=sample_id)
def test_autograd_of_signs_equals_formula(sample: Sample) -> None:
    grad, *args = sample.args
    x, s, threshold = (leaf(t) for t in args)
    torch.ops.ptqx.sign_codes(x, s, threshold, dtype=grad.dtype).backward(grad)
    assert x.grad is not None and s.grad is not None and threshold.grad is not None
    assert_gradients_equal((x.grad, s.grad, threshold.grad), sample.expected())
