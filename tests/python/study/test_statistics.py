from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ptqx.errors import PtqxError
from ptqx.study import activation_distributions, distribution, sqnr_db, weight_distributions
from ptqx.study.statistics import Sqnr
from torch import nn


@given(bits=st.integers(2, 12))
def test_sqnr_of_uniform_noise_is_six_decibel_a_bit(bits: int) -> None:
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    step = 2.0 ** (1 - bits)
    rounded = torch.round(x / step) * step
    assert sqnr_db(x, rounded) == pytest.approx(6.02 * bits, abs=0.6)


def test_sqnr_over_batches_is_that_of_all() -> None:
    x = torch.arange(12.0)
    y = x + torch.tensor([0.1, -0.2, 0.3]).repeat(4)
    split = Sqnr().update(x[:5], y[:5]).update(x[5:], y[5:])
    assert split.db == pytest.approx(sqnr_db(x, y))


def test_sqnr_at_the_ends() -> None:
    x = torch.ones(3)
    assert sqnr_db(x, x) == math.inf
    assert sqnr_db(torch.zeros(3), x) == -math.inf
    with pytest.raises(PtqxError, match="shapes differ"):
        sqnr_db(x, torch.ones(1, 3))


def test_distribution_of_a_known_sample() -> None:
    d = distribution(torch.tensor([0.0, 0.0, 0.0, 4.0]), "layer", "weight", bins=4)
    assert (d.mean, d.low, d.high, d.count, d.counts) == (1.0, 0.0, 4.0, 4, [3, 0, 0, 1])
    assert d.std == pytest.approx(math.sqrt(3))
    assert d.skewness == pytest.approx(1.1547, abs=1e-4)
    assert d.kurtosis == pytest.approx(-2 / 3)
    assert d.max_over_std == pytest.approx(4 / math.sqrt(3))


def test_distribution_of_equal_values() -> None:
    d = distribution(torch.full((5,), 2.0))
    assert (d.std, d.skewness, d.kurtosis, d.max_over_std, d.counts) == (0.0, 0.0, 0.0, 0.0, [5])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]], ids=["empty", "nan", "inf"])
def test_distribution_of_unusable_values_raises(values: list[float]) -> None:
    with pytest.raises(PtqxError, match="conv1: expected finite values"):
        distribution(torch.tensor(values), "conv1")


def test_layers_are_described_in_order_and_the_model_is_unchanged(small_cnn: nn.Module) -> None:
    state = copy.deepcopy(small_cnn.state_dict())
    weights = weight_distributions(small_cnn)
    inputs = activation_distributions(small_cnn, torch.randn(4, 1, 8, 8))
    names = ["features.0", "features.3", "features.7", "classifier"]
    assert [d.layer for d in weights] == [d.layer for d in inputs] == names
    assert inputs[1].low == 0.0  # behind a ReLU
    assert all(torch.equal(value, state[key]) for key, value in small_cnn.state_dict().items())
    assert not any(module._forward_pre_hooks for module in small_cnn.modules())
