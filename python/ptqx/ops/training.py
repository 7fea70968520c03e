"""Quantization with derivatives, for training."""

from __future__ import annotations

import torch

from .compiled import operators


def fake_quantize(
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    axis: int = 0,
    group_size: int = 0,
) -> torch.Tensor:
    """Quantize and dequantize in float32; the result has the dtype and strides of `input`.

    NaN passes through and infinities saturate. Scales are as in `quantize`; `zero_point` may be float32: it
    is rounded, and gets a gradient. Gradients are straight-through (Bengio et al., 2013): the input's is
    passed where the code is within qmin..qmax; the scale's is `(q - zero_point) - input / scale` there and
    `bound - zero_point` elsewhere; the zero point's is `-scale` elsewhere. On devices other than the CPU it
    runs as a composition of PyTorch's own operations.

    >>> x = torch.tensor([-1.0, 0.3, 9.0], requires_grad=True)
    >>> y = fake_quantize(x, torch.tensor([0.5]), torch.tensor([0], dtype=torch.int32), 0, 15)
    >>> y.detach()
    tensor([0.0000, 0.5000, 7.5000])
    >>> y.sum().backward(); x.grad
    tensor([0., 1., 0.])
    """
    return operators.fake_quantize(input, scale, zero_point, qmin, qmax, axis, group_size)


def fake_quantize_backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    axis: int = 0,
    group_size: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `fake_quantize` with respect to input, scale and zero point. It has none of its own.

    Sums are taken in chunks of fixed size, so they do not depend on the number of threads.

    >>> x = torch.tensor([-1.0, 0.3, 9.0])
    >>> zero = torch.tensor([0], dtype=torch.int32)
    >>> fake_quantize_backward(torch.ones(3), x, torch.tensor([0.5]), zero, 0, 15)
    (tensor([0., 1., 0.]), tensor([15.4000]), tensor([-1.]))
    """
    return operators.fake_quantize_backward(grad, input, scale, zero_point, qmin, qmax, axis, group_size)


def lsq(
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    grad_factor: float = 0.0,
    axis: int = 0,
    group_size: int = 0,
) -> torch.Tensor:
    """`fake_quantize` whose gradients of scale and zero point are multiplied by `grad_factor`.

    0 stands for `1 / sqrt(elements per scale * qmax)`: learned step size quantization, Esser et al., ICLR
    2020.

    >>> scale = torch.tensor([0.5], requires_grad=True)
    >>> x = torch.tensor([-1.0, 0.3, 9.0, 0.0])
    >>> lsq(x, scale, torch.tensor([0], dtype=torch.int32), 0, 16, grad_factor=0.25).sum().backward()
    >>> scale.grad
    tensor([4.1000])
    """
    return operators.lsq(input, scale, zero_point, qmin, qmax, grad_factor, axis, group_size)


def lsq_backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    grad_factor: float = 0.0,
    axis: int = 0,
    group_size: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `lsq` with respect to input, scale and zero point. It has none of its own.

    >>> zero = torch.tensor([0], dtype=torch.int32)
    >>> lsq_backward(torch.ones(1), torch.tensor([9.0]), torch.tensor([0.5]), zero, 0, 15, grad_factor=0.1)[1]
    tensor([1.5000])
    """
    return operators.lsq_backward(grad, input, scale, zero_point, qmin, qmax, grad_factor, axis, group_size)


def lsq_codes(
    input: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor,
    qmin: int,
    qmax: int,
    grad_factor: float = 0.0,
) -> torch.Tensor:
    """`lsq(...) / scale` per tensor: `clamp(round(input / scale) + zero_point, qmin, qmax) - zero_point`.

    Whole numbers in the dtype of `input`; bfloat16 holds them exactly up to 256. Gradients are those of `lsq`
    for `grad / scale`, so a network learns as with `lsq` if it multiplies by `scale.detach()` later, after a
    convolution for instance.

    >>> lsq_codes(torch.tensor([-1.0, 0.3, 9.0]), torch.tensor([0.5]), torch.zeros(1).int(), 0, 15)
    tensor([ 0.,  1., 15.])
    """
    return operators.lsq_codes(input, scale, zero_point, qmin, qmax, grad_factor)


def sign_codes(
    input: torch.Tensor, scale: torch.Tensor, threshold: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """`sign(input - threshold)`, 1 at the threshold, per tensor; NaN stays NaN.

    The result is of `dtype`, by default that of `input`: every floating type holds it exactly.

    Gradients are those of `scale * sign(input - threshold)` for `grad / scale`, through the clipped identity:
    with u = (input - threshold) / scale, 1 for `input` where |u| <= 1 and 0 beyond; sign(u) - u for `scale`
    there, sign(u) beyond; the opposite of that of `input` for `threshold`. A network learns by them if it
    multiplies by `scale.detach()` later. Hubara et al., NeurIPS 2016; Liu et al., "ReActNet", ECCV 2020.

    >>> x = torch.tensor([-3.0, 0.25, 2.0], requires_grad=True)
    >>> signs = sign_codes(x, torch.tensor([0.5]), torch.tensor([0.25]))
    >>> signs.sum().backward()
    >>> signs.tolist(), x.grad.tolist()
    ([-1.0, 1.0, 1.0], [0.0, 2.0, 0.0])
    """
    return operators.sign_codes(input, scale, threshold, dtype)


def sign_codes_backward(
    grad: torch.Tensor, input: torch.Tensor, scale: torch.Tensor, threshold: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `sign_codes` with respect to input, scale and threshold. It has none of its own.

    `grad` may be of another dtype than `input`, whose gradient has the dtype of `input`.

    >>> one = torch.ones(1)
    >>> sign_codes_backward(one, torch.tensor([0.25]), one, torch.zeros(1))
    (tensor([1.]), tensor([0.7500]), tensor([-1.]))
    """
    return operators.sign_codes_backward(grad, input, scale, threshold)
