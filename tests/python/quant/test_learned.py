"""LSQ+ and PACT: gradients against their papers' formulas, and what they may become in training."""

from __future__ import annotations

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant import LSQ, PACT, LSQPlus, Quantizer, Scheme, make_quantizer
from torch import Tensor

SIGNED = Scheme(bits=4, symmetric=False)
UNSIGNED = Scheme(bits=4, signed=False, symmetric=False)


def made(kind: str, scheme: Scheme, scale: float, zero_point: int) -> Quantizer:
    quantizer = make_quantizer(scheme, kind)
    quantizer.set_qparams(torch.tensor([scale]), torch.tensor([zero_point]))
    return quantizer


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, weights = 3 * torch.randn(2, 500, generator=generator)
    return x.requires_grad_(), weights


def lsq_plus_by_the_paper(x: Tensor, scale: Tensor, offset: Tensor, qmin: int, qmax: int) -> Tensor:
    """Bhalgat et al., equations 3 and 4, with straight-through rounding, as autograd differentiates them.

    Rounded before the clamp: the range ends half a step beyond its last level, as for LSQ.
    """
    steps = (x - offset) / scale
    codes = (steps + (steps.round() - steps).detach()).clamp(qmin, qmax)
    return codes * scale + offset


@pytest.mark.parametrize(("scheme", "zero_point"), [(UNSIGNED, 5), (UNSIGNED, 0), (SIGNED, -3)])
def test_lsq_plus_gradients_equal_the_papers(scheme: Scheme, zero_point: int) -> None:
    quantizer = made("lsq_plus", scheme, 0.25, zero_point)
    x, weights = samples()
    (quantizer(x) * weights).sum().backward()
    twin_x = x.detach().requires_grad_()
    scale = torch.tensor([0.25], requires_grad=True)
    offset = torch.tensor([-zero_point * 0.25], requires_grad=True)
    y = lsq_plus_by_the_paper(twin_x, scale, offset, scheme.qmin, scheme.qmax)
    assert torch.equal(quantizer(x), y)
    (y * weights).sum().backward()
    factor = 1 / (x.numel() * scheme.qmax) ** 0.5
    assert isinstance(quantizer, LSQPlus)
    torch.testing.assert_close(x.grad, twin_x.grad)
    torch.testing.assert_close(quantizer.learned_scale.grad, factor * scale.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(quantizer.learned_offset.grad, factor * offset.grad, rtol=1e-4, atol=1e-4)


def test_lsq_plus_learns_an_offset_that_calibration_missed() -> None:
    x = torch.randn(2000, generator=torch.Generator().manual_seed(1)) - 1.0
    quantizer = make_quantizer(Scheme(bits=3, signed=False, symmetric=False), "lsq_plus")
    quantizer.set_qparams(torch.tensor([0.5]), torch.tensor([1]))
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.05)
    errors = []
    for _ in range(150):
        error = (quantizer(x) - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 4
    assert quantizer.zero_point.item() > 3


def test_lsq_plus_keeps_zero_a_level_whatever_the_offset() -> None:
    quantizer = made("lsq_plus", UNSIGNED, 0.5, 4)
    assert isinstance(quantizer, LSQPlus)
    for offset in (-1.3, -100.0, 5.0, 0.0):
        with torch.no_grad():
            quantizer.learned_offset.fill_(offset)
        assert 0 <= quantizer.zero_point.item() <= 15
        assert quantizer(torch.zeros(1)).item() == 0.0
        assert torch.equal(quantizer.codes_f32(torch.zeros(1)), quantizer.zero_point.float())


def pact_by_the_paper(x: Tensor, clip: Tensor, low: Tensor, steps: int) -> Tensor:
    """Choi et al., equations 1 and 2; `low` is 0 there."""
    clipped = torch.where(x < low, low, torch.where(x > clip, clip, x))
    scale = (clip / steps).detach()
    return clipped + ((clipped / scale).round() * scale - clipped).detach()


@pytest.mark.parametrize(("zero_point", "end"), [(0, 0.0), (3, -3 / 12), (12, 3 / -12)])
def test_pact_gradients_equal_the_papers(zero_point: int, end: float) -> None:
    quantizer = made("pact", UNSIGNED, 0.25, zero_point)
    assert isinstance(quantizer, PACT)
    steps = max(15 - zero_point, zero_point)
    assert quantizer.learned_clip.item() == steps * 0.25
    x, weights = samples()
    (quantizer(x) * weights).sum().backward()
    twin_x = x.detach().requires_grad_()
    clip = torch.tensor([steps * 0.25], requires_grad=True)
    sign = 1 if zero_point < 8 else -1  # the far end may be the negative one
    y = sign * pact_by_the_paper(sign * twin_x, clip, end * clip, steps)
    assert torch.equal(quantizer(x), y)
    (y * weights).sum().backward()
    torch.testing.assert_close(x.grad, twin_x.grad)
    torch.testing.assert_close(quantizer.learned_clip.grad, clip.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["lsq", "lsq_plus", "pact"])
def test_codes_have_the_gradients_of_the_values(kind: str) -> None:
    quantizer = made(kind, UNSIGNED, 0.25, 5)
    x, weights = samples()
    gradients = []
    for codes in (False, True):
        quantizer.zero_grad()
        x.grad = None
        y = quantizer.forward_codes(x) * quantizer.scale.detach() if codes else quantizer(x)
        (y * weights).sum().backward()
        gradients.append([y.detach(), x.grad, *(p.grad for p in quantizer.parameters())])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["lsq_plus", "pact"])
def test_scale_stays_positive_under_any_step(kind: str) -> None:
    quantizer = made(kind, UNSIGNED, 0.25, 5)
    for value in (-1.0, 0.0, -1e-30, 5.0):
        with torch.no_grad():
            next(quantizer.parameters()).fill_(value)
        assert quantizer.scale.item() >= 2.0**-64
        assert bool(quantizer(torch.linspace(-3, 3, 9)).isfinite().all())


@pytest.mark.parametrize("kind", ["lsq_plus", "pact"])
def test_symmetric_schemes_are_learned_by_lsq(kind: str) -> None:
    weights = make_quantizer(Scheme(bits=4, granularity="channel"), kind, channels=3)
    assert type(weights) is LSQ
    with pytest.raises(PtqxError, match="needs symmetric=False; 'lsq' takes"):
        {"lsq_plus": LSQPlus, "pact": PACT}[kind](Scheme())
