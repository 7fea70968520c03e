"""Every set of levels, every width and granularity that it allows, keeps what its description promises.

A new set of levels needs one entry in PROMISES; a test fails while it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.quant import LEVELS, Scheme, expand_to, make_levels, make_quantizer, quantize_tensor
from torch import Tensor

SHAPE = (6, 8, 3, 3)
GROUP = 4


@dataclass(frozen=True)
class Promise:
    """zero: 0 is a level. odd: q(-x) = -q(x). error: the largest |q(x) - x| of every x, from the theory.
    level_set: every level in units of scale; None where it depends on the data."""

    zero: bool
    odd: bool
    error: Callable[[Tensor, Tensor, Scheme], Tensor] | None
    level_set: Callable[[int], set[float]] | None


def half_a_step(x: Tensor, scale: Tensor, scheme: Scheme) -> Tensor:
    """Of a scale that spans the data. A full range has no level at +max: a whole step may be missing."""
    return scale * (1.0 if scheme.signed and scheme.qmin != -scheme.qmax else 0.5) * torch.ones_like(x)


def a_third(x: Tensor, scale: Tensor, scheme: Scheme) -> Tensor:
    return torch.maximum(x.abs() / 3, scale / 2)


def half_the_widest_gap(x: Tensor, scale: Tensor, scheme: Scheme) -> Tensor:
    levels = torch.tensor(sorted(additive(scheme.bits)))
    return scale * float(levels.diff().max()) / 2 * torch.ones_like(x)


def the_value_and_a_scale(x: Tensor, scale: Tensor, scheme: Scheme) -> Tensor:
    """Of levels on both sides of 0, wherever the values are."""
    return x.abs() + scale


def additive(bits: int) -> set[float]:
    """By the paper's construction: powers dealt out in turn, the odd bit a set of its own."""
    sets = {
        3: [[2, 1, 0]],
        4: [[3, 2, 0], [1]],
        5: [[5, 3, 1], [4, 2, 0]],
        6: [[6, 4, 1], [5, 3, 0], [2]],
    }[bits]
    sums = {sum(terms) for terms in product(*[[0, *(2.0**power for power in powers)] for powers in sets])}
    return sums | {-s for s in sums}


def powers(bits: int) -> set[float]:
    magnitudes = [2.0**k for k in range(2 ** (bits - 1) - 1)]
    return {0.0, *magnitudes, *(-m for m in magnitudes)}


PROMISES = {
    "uniform": Promise(
        True, False, half_a_step, lambda bits: set(map(float, range(-(2 ** (bits - 1)), 2 ** (bits - 1))))
    ),
    "fixed": Promise(
        True, False, half_a_step, lambda bits: set(map(float, range(-(2 ** (bits - 1)), 2 ** (bits - 1))))
    ),
    "shift": Promise(False, False, half_a_step, None),
    "pow2": Promise(True, True, a_third, powers),
    "apot": Promise(True, True, half_the_widest_gap, additive),
    "kmeans": Promise(False, False, None, None),
    "ternary": Promise(True, True, None, lambda bits: {-1.0, 0.0, 1.0}),
    "ttq": Promise(True, False, None, lambda bits: set(map(float, range(-127, 128)))),
    "binary": Promise(False, False, None, lambda bits: {-1.0, 1.0}),
    "sign": Promise(False, False, the_value_and_a_scale, lambda bits: {-1.0, 1.0}),
}


def schemes() -> Iterator[Scheme]:
    for name, levels in LEVELS.items():
        widths = {levels.allowed_bits[0], levels.allowed_bits[-1], 4} & set(levels.allowed_bits)
        for bits, granularity in product(sorted(widths), levels.granularities):
            if granularity == "sample":
                continue
            fields = {
                "bits": bits,
                "levels": name,
                "granularity": granularity,
                "group_size": GROUP if granularity == "group" else 0,
            }
            try:
                yield Scheme(**fields)
            except PtqxError:
                yield Scheme(**fields, signed=False, symmetric=False)
    yield Scheme(bits=4, levels="kmeans", granularity="channel", levels_args={"snapped": False})
    yield Scheme(bits=4, rounding="stochastic", granularity="channel")


SCHEMES = {f"{s.levels}{s.bits}-{s.granularity}-{s.rounding}-{s.on_grid}": s for s in schemes()}
NEAREST = {name: scheme for name, scheme in SCHEMES.items() if scheme.rounding == "nearest"}
each = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
each_nearest = pytest.mark.parametrize("scheme", NEAREST.values(), ids=NEAREST)


def weight(seed: int = 0) -> Tensor:
    """Normal channels of different sizes, one nearly empty, one on one side of 0."""
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    w = w * torch.logspace(-2, 1, SHAPE[0]).reshape(-1, 1, 1, 1)
    w[1] = torch.where(w[1].abs() > w[1].abs().amax() / 2, w[1], 0.0)
    w[2] = w[2].abs()
    return w


def promise(scheme: Scheme) -> Promise:
    return PROMISES[scheme.levels]


def requantized(x: Tensor, scheme: Scheme, of: Tensor) -> Tensor:
    """x in the levels that were fitted to `of`."""
    levels = make_levels(scheme)
    parameters = levels.fit(of, scheme)
    return levels.values(levels.codes(x, parameters, scheme), parameters, scheme)


def test_every_set_of_levels_has_its_promises() -> None:
    assert set(PROMISES) == set(LEVELS)


@each
def test_codes_fit_and_parameters_have_the_shapes_of_blank(scheme: Scheme) -> None:
    quantized = quantize_tensor(weight(), scheme)
    assert quantized.codes.dtype == scheme.dtype and quantized.codes.shape == SHAPE
    assert scheme.qmin <= int(quantized.codes.min()) and int(quantized.codes.max()) <= scheme.qmax
    shape = {"tensor": (1,), "channel": (6,), "group": (6, 2)}[scheme.granularity]
    blank = make_levels(scheme).blank(shape, scheme)
    assert {k: v.shape for k, v in blank.items()} == {k: v.shape for k, v in quantized.parameters.items()}
    assert {k: v.dtype for k, v in blank.items()} == {k: v.dtype for k, v in quantized.parameters.items()}
    assert bool((quantized.parameters["scale"] >= 2.0**-64).all())


@each
def test_level_set_is_the_described_one(scheme: Scheme) -> None:
    quantized = quantize_tensor(weight(), scheme)
    real, scale = quantized.dequantize(), expand_to(quantized.parameters["scale"], weight(), scheme)
    if promise(scheme).level_set is not None:
        steps = real.double() / scale.double()
        offset = 0.5 if "midrise" in quantized.parameters else 0.0
        whole = {round(2 * step, 4) for step in steps.flatten().tolist()}
        allowed = {2 * level for level in promise(scheme).level_set(scheme.bits)}
        assert whole <= allowed | ({level + 2 * offset for level in allowed} if offset else set())
    for channel in real:
        groups = 1 if scheme.granularity != "group" else 2
        assert channel.unique().numel() <= 2**scheme.bits * groups


@each
def test_error_is_bounded_by_the_theory(scheme: Scheme) -> None:
    x = weight()
    quantized = quantize_tensor(x, scheme)
    error = (quantized.dequantize() - x).abs()
    if promise(scheme).error is None:
        assert bool(error.square().sum() <= x.square().sum())
        return
    bound = promise(scheme).error(x, expand_to(quantized.parameters["scale"], x, scheme), scheme)
    bound = bound * (2.0 if scheme.rounding == "stochastic" else 1.0)
    assert bool((error <= bound * (1 + 1e-5)).all())


@each_nearest
def test_quantizing_twice_changes_nothing(scheme: Scheme) -> None:
    once = requantized(weight(), scheme, weight())
    assert torch.equal(requantized(once, scheme, weight()), once)


@each
def test_stays_monotone(scheme: Scheme) -> None:
    """Ascending values that share a scale (and a position in the noise) stay in order."""
    x = weight()
    levels = make_levels(scheme)
    parameters = levels.fit(x, scheme)
    lines = torch.linspace(-1.2, 1.2, 201).reshape(-1, 1, 1, 1, 1) * x.abs().amax()
    values = [
        levels.values(levels.codes(line, parameters, scheme), parameters, scheme)
        for line in lines * torch.ones(SHAPE)
    ]
    assert bool((torch.stack(values).diff(dim=0) >= 0).all())


@each
def test_zero_is_exact_where_promised(scheme: Scheme) -> None:
    if promise(scheme).zero and not scheme.chooses_levels:
        assert bool((requantized(torch.zeros(SHAPE), scheme, weight()) == 0).all())
    all_zero = quantize_tensor(torch.zeros(SHAPE), scheme).dequantize()
    assert bool((all_zero.abs() <= 2.0**-64).all())


@each_nearest
def test_symmetric_where_promised(scheme: Scheme) -> None:
    if promise(scheme).odd:
        x = weight()
        assert torch.equal(requantized(-x, scheme, x), -requantized(x, scheme, x))


@each
def test_equal_values_stay_what_they_are(scheme: Scheme) -> None:
    if scheme.of_activations:  # which side of the threshold, not where
        assert quantize_tensor(torch.full(SHAPE, 0.75), scheme).codes.unique().numel() == 1
        return
    equal = torch.full(SHAPE, 0.75)
    quantized = quantize_tensor(equal, scheme)
    off = (quantized.dequantize() - equal).abs().max()
    step = float(quantized.parameters["scale"].max()) if scheme.levels in ("uniform", "fixed") else 0.0
    assert float(off) <= max(step / 2, 1e-5)


@each
def test_not_a_number_is_refused_with_a_count(scheme: Scheme) -> None:
    x = weight()
    x[0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(PtqxError, match="conv1: 2 of 432 values are NaN or infinite"):
        quantize_tensor(x, scheme, "conv1")


@each
@pytest.mark.parametrize("kind", ["fixed", "moving_average", "lsq"])
def test_quantizer_agrees_with_the_tensor_and_survives_its_state_dict(scheme: Scheme, kind: str) -> None:
    x = weight()
    quantizer, other = (make_quantizer(scheme, kind, 6, 2, "w") for _ in range(2))
    quantizer.fit(x)
    quantizer.eval(), other.eval()
    codes = quantizer.codes_f32(x)
    assert torch.equal(quantizer.quantize(x).float(), codes)
    if scheme.rounding == "nearest":
        expected = quantize_tensor(x, scheme)
        assert torch.equal(codes, expected.codes.float())
        torch.testing.assert_close(quantizer(x), expected.dequantize(), rtol=1e-6, atol=0.0)
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(x), quantizer(x))


@each
def test_weights_get_their_gradient_straight_through(scheme: Scheme) -> None:
    x = weight().requires_grad_()
    quantizer = make_quantizer(scheme, "fixed", 6, 2)
    quantizer.fit(x)
    upstream = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    quantizer(x).backward(upstream)
    if scheme.levels != "uniform" and not scheme.of_activations:
        assert torch.equal(x.grad, upstream)
    else:  # 0 where the code was clamped
        passed = torch.isclose(x.grad, upstream)
        assert bool((passed | (x.grad == 0)).all())
        assert float(passed.float().mean()) > (0.9 if scheme.bits > 2 else 0.3)
