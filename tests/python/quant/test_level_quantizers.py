"""Training with levels that are a list: gradients by hand, what follows the weight, what is learned."""

from __future__ import annotations

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant import (
    LearnedLevels,
    LearnedScale,
    LearnedSides,
    LearnedSign,
    RefittedLevels,
    Scheme,
    make_quantizer,
    quantize_tensor,
)
from torch import Tensor


def train_once(levels: str, bits: int, x: Tensor, kind: str = "lsq", **fields: object):
    quantizer = make_quantizer(Scheme(bits=bits, levels=levels, **fields), kind)
    quantizer.fit(x)
    quantizer.train()
    return quantizer


def test_learned_scale_gets_the_gradient_of_lsq() -> None:
    x = torch.tensor([4.0, 1.2, -2.9, -0.1], requires_grad=True)
    quantizer = train_once("pow2", 3, x)
    assert isinstance(quantizer, LearnedScale) and quantizer.scale.item() == 1.0
    with torch.no_grad():
        quantizer.learned_scale.fill_(0.5)  # steps 8, 2.4, -5.8, -0.2: levels 4, 2, -4, 0
    y = quantizer(x)
    assert y.tolist() == [2.0, 1.0, -2.0, 0.0]
    y.sum().backward()
    expected = (4 + (2 - 2.4) - 4 + (0 + 0.2)) / (4 * 4) ** 0.5
    assert quantizer.learned_scale.grad.item() == pytest.approx(expected, rel=1e-5)
    assert x.grad.tolist() == [1.0] * 4


def test_learned_levels_get_the_gradients_of_their_values() -> None:
    x = torch.tensor([0.9, 1.0, -2.0, -2.0, 5.0, 0.0], requires_grad=True)
    quantizer = train_once("kmeans", 2, x, levels_args={"snapped": False})
    assert isinstance(quantizer, LearnedLevels)
    quantizer(x).backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert (quantizer.levels[0] * quantizer.scale).tolist() == pytest.approx([-2.0, 0.0, 0.95, 5.0])
    assert quantizer.learned_levels.grad[0].tolist() == [35.0, 30.0, 15.0, 25.0]  # sums times the scale, 5
    assert x.grad.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_learned_sign_gets_the_gradients_of_the_formula(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=layout).requires_grad_()
    scheme = Scheme(bits=1, levels="sign", signed=False, symmetric=False)
    quantizer = make_quantizer(scheme, "lsq")
    assert isinstance(quantizer, LearnedSign)
    quantizer.fit(x)
    with torch.no_grad():
        quantizer.learned_scale.fill_(0.5)
        quantizer.learned_threshold.fill_(0.25)
        x[0, 0, 0, 0], x[0, 0, 0, 1] = 0.25, 0.75  # at the threshold, at the end of the gradient's window
    grad = torch.randn(2, 3, 4, 5)
    y = quantizer(x)
    assert torch.equal(y, torch.where(x >= 0.25, 0.5, -0.5))
    y.backward(grad)
    u = ((x - 0.25) / 0.5).detach()
    sign, inside = torch.where(u >= 0, 1.0, -1.0), u.abs() <= 1
    assert x.grad is not None and torch.allclose(x.grad, grad * inside)
    factor = x.numel() ** -0.5
    of_scale = (grad * torch.where(inside, sign - u, sign)).sum() * factor
    assert quantizer.learned_scale.grad.item() == pytest.approx(of_scale.item(), rel=1e-5)
    assert quantizer.learned_threshold.grad.item() == pytest.approx(
        -(grad * inside).sum().item() * factor, rel=1e-5
    )
    codes, of_values = quantizer.forward_codes(x.detach().requires_grad_()), x.grad.clone()
    assert torch.equal(codes, sign)
    x.grad = None
    quantizer.forward_codes(x).backward(grad * 0.5)  # what a reader gives that multiplies by the scale
    assert torch.allclose(x.grad, of_values)


def test_minus_zero_at_a_threshold_of_zero_is_above_it() -> None:
    quantizer = make_quantizer(Scheme(bits=1, levels="sign", signed=False, symmetric=False), "fixed")
    quantizer.fit(torch.tensor([-1.0, 1.0]))
    assert quantizer(torch.tensor([-0.0, 0.0, -1e-30])).tolist() == [1.0, 1.0, -1.0]


def test_trained_ternary_gets_the_gradients_of_the_paper() -> None:
    x = torch.tensor([2.0, 4.0, -1.0, 0.01], requires_grad=True)
    quantizer = train_once("ttq", 2, x)
    assert isinstance(quantizer, LearnedSides)
    assert (quantizer.positive.item(), quantizer.negative.item()) == pytest.approx((3.0, 1.0), rel=0.01)
    quantizer(x).backward(torch.tensor([1.0, 2.0, 5.0, 7.0]))
    assert quantizer.positive.grad.item() == pytest.approx(3.0 / 4**0.5)
    assert quantizer.negative.grad.item() == pytest.approx(-5.0 / 4**0.5)
    assert x.grad.tolist() == pytest.approx([3.0, 6.0, 5.0, 7.0], rel=0.01)


@pytest.mark.parametrize(("levels", "bits"), [("ternary", 2), ("binary", 1)])
def test_scales_of_signs_follow_the_weight_in_training_and_rest_after_it(levels: str, bits: int) -> None:
    x = torch.randn(64, generator=torch.Generator().manual_seed(0))
    quantizer = train_once(levels, bits, x)
    assert isinstance(quantizer, RefittedLevels)
    assert torch.equal(quantizer(3 * x), quantize_tensor(3 * x, quantizer.scheme).dequantize())
    quantizer.eval()
    assert not torch.equal(quantizer(x), quantize_tensor(x, quantizer.scheme).dequantize())
    quantizer.train()
    quantizer.frozen = True
    scale = quantizer.scale.clone()
    quantizer(x)
    assert torch.equal(quantizer.scale, scale)


def test_nan_in_a_weight_shows_in_training() -> None:
    quantizer = train_once("apot", 4, torch.randn(16))
    assert quantizer(torch.tensor([float("nan"), 1.0])).isnan().tolist() == [True, False]


def test_kmeans_beats_every_other_four_bit_level_set_and_obeys_importance() -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    errors = {
        levels: float((quantize_tensor(x, Scheme(bits=4, levels=levels)).dequantize() - x).square().mean())
        for levels in ("uniform", "pow2", "apot", "kmeans")
    }
    assert min(errors, key=errors.__getitem__) == "kmeans"
    assert errors["kmeans"] < 1.1 * 0.009497  # Max, "Quantizing for Minimum Distortion", 1960, 16 levels
    importance = torch.where(x > 1, 1.0, 1e-6)
    scheme = Scheme(bits=4, levels="kmeans")
    plain, weighted = (
        (quantize_tensor(x, scheme, importance=i).dequantize() - x)[x > 1].square().mean()
        for i in (None, importance)
    )
    assert weighted < plain / 5


def test_kmeans_says_what_it_needs() -> None:
    scheme = Scheme(bits=4, levels="kmeans")
    with pytest.raises(PtqxError, match=r"conv1: k-means of 4 bits needs at least 16 values, got 9"):
        quantize_tensor(torch.randn(9), scheme, "conv1")
    with pytest.raises(PtqxError, match=r"importance: expected shape \(20,\), got \(3,\)"):
        quantize_tensor(torch.randn(20), scheme, importance=torch.ones(3))
    with pytest.raises(PtqxError, match=r"importance: expected numbers >= 0, got -1"):
        quantize_tensor(torch.randn(20), scheme, importance=-torch.ones(20))
    with pytest.raises(PtqxError, match=r"levels 'apot' do not weigh values; these do: 'kmeans'"):
        quantize_tensor(torch.randn(20), Scheme(bits=4, levels="apot"), importance=torch.ones(20))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": "pow2", "bits": 5}, r"bits: expected 3 to 4 for levels 'pow2', got 5"),
        ({"levels": "ternary", "bits": 4}, r"bits: expected 2 for levels 'ternary', got 4"),
        ({"levels": "apot", "bits": 4, "symmetric": False}, "levels 'apot' need signed=True, symmetric=True"),
        ({"levels": "kmeans", "bits": 4, "observer": "mse"}, "observer must be 'minmax', got 'mse'"),
        ({"levels": "binary", "bits": 1, "narrow": True}, "narrow must be None"),
        ({"levels": "pow2", "bits": 4, "rounding": "stochastic"}, "stochastic' needs levels='uniform'"),
        ({"levels": "kmeans", "bits": 4, "levels_args": {"snaped": 1}}, "did you mean snapped"),
        ({"levels": "apot", "bits": 4, "granularity": "sample"}, "expected 'tensor', 'channel' or 'group'"),
        ({"seed": -1}, r"seed: expected 0 to 2\*\*31 - 1, got -1"),
    ],
    ids=str,
)
def test_impossible_combinations_say_which_is_possible(fields: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        Scheme(**fields)


def test_least_squares_scale_is_no_worse_than_the_largest_value() -> None:
    x = torch.randn(8, 200, generator=torch.Generator().manual_seed(0))
    for levels in ("pow2", "apot"):
        spans, fits = (
            quantize_tensor(x, Scheme(bits=4, levels=levels, granularity="channel", observer=o)).dequantize()
            for o in ("minmax", "mse")
        )
        assert bool(((fits - x).square().sum(1) <= (spans - x).square().sum(1)).all())
        assert (fits - x).square().sum() < 0.9 * (spans - x).square().sum()


def test_stochastic_rounding_takes_other_noise_at_every_step_and_none_from_threads() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    quantizer = make_quantizer(Scheme(bits=4, rounding="stochastic"), "lsq")
    quantizer.fit(x)
    with torch.no_grad():
        scale = quantizer.scale.item()
        passes = torch.stack([quantizer(x) for _ in range(200)])
    inside = x.abs() < 6 * scale
    assert not torch.equal(passes[0], passes[1])
    assert float((passes.mean(0) - x)[inside].abs().max()) < 5 * scale / 200**0.5
    quantizer.eval()
    once = quantizer(x)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert torch.equal(quantizer(x), once)
    torch.set_num_threads(before)
    assert torch.equal(quantizer.codes_f32(x) * quantizer.scale, once)
