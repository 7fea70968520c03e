from __future__ import annotations

import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import apply_methods, calibrate, convert, prepare, quantize
from ptqx.quant import Scheme, recipe
from torch import Tensor, nn

WEIGHTS = Scheme(bits=3, levels="kmeans", granularity="channel")


SIZES = torch.tensor([10.0, 3.0, *[0.05] * 6]).reshape(-1, 1, 1)


def inputs(seed: int) -> Tensor:
    """A few channels say nearly everything."""
    return SIZES * torch.randn(64, 8, 6, 6, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    """Small weights where the inputs are large."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=2), nn.Flatten(), nn.Linear(64, 5)
    )
    with torch.no_grad():
        model[0].weight /= SIZES.clamp(min=1.0)
    return model.eval()


def error(*methods: str) -> float:
    chosen = recipe("kmeans", weights=WEIGHTS, edge_bits=None, methods=methods)
    model, test = network().requires_grad_(False), inputs(1)
    return float((quantize(model, [inputs(0)], chosen)(test) - model(test)).square().mean())


def test_outputs_err_less_than_with_weights_that_count_alike() -> None:
    assert error("hessian_kmeans") < 0.7 * error()


def test_simulated_and_integer_stay_equal() -> None:
    chosen = recipe("kmeans", weights=WEIGHTS, methods=("hessian_kmeans",))
    prep = calibrate(prepare(network(), chosen, inputs(0)), [inputs(0)])
    prep = apply_methods(prep, [inputs(0)]).eval()
    assert torch.equal(convert(prep)(inputs(1)), prep(inputs(1)))


def test_other_levels_are_refused() -> None:
    with pytest.raises(
        PtqxError, match=r"'hessian_kmeans' needs weights with levels='kmeans' .* got 'uniform'"
    ):
        quantize(network(), [inputs(0)], recipe("int4", methods=("hessian_kmeans",)))
