"""What equalizations leave alone, and what they even out."""

from __future__ import annotations

import pytest
import torch
from ptqx.graph import apply_methods, calibrate, prepare
from ptqx.graph.simulated import SimulatedModel
from ptqx.methods.pairs import pairs
from ptqx.quant import Scheme, recipe
from torch import Tensor, nn


def uneven() -> nn.Sequential:
    """Output channels a thousand times larger than others; a depthwise layer, pooling, flattening."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.LeakyReLU(0.1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 9, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    )
    with torch.no_grad():
        for layer in (model[0], model[2], model[6]):
            layer.weight *= torch.logspace(-1.5, 1.5, len(layer.weight)).reshape(
                -1, *[1] * (layer.weight.dim() - 1)
            )
            layer.bias += 0.5 * layer.weight.abs().flatten(1).sum(1)
    return model.eval()


X = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def prepared(method: str, weights: Scheme | None = None) -> tuple[SimulatedModel, Tensor]:
    """After the method, and the float model's output."""
    model = uneven()
    chosen = recipe(f"int8+{method}", weights=weights or Scheme())
    prep = apply_methods(calibrate(prepare(model, chosen, X), [X]), [X])
    with torch.no_grad():
        return prep, model(X)


@pytest.mark.parametrize(
    "method", ["equalization", "equalization:absorb_bias=true", "activation_equalization"]
)
def test_the_float_network_computes_the_same(method):
    prep, wanted = prepared(method)
    with torch.no_grad():
        torch.testing.assert_close(
            prep.float_output(X), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max())
        )


def test_paired_channels_have_the_same_range():
    prep, _ = prepared("equalization")
    first, second = (prep.tensor(prep.graph.nodes[name].params["weight"]) for name in ("0", "2"))
    torch.testing.assert_close(first.abs().amax((1, 2, 3)), second.abs().amax((1, 2, 3)), rtol=1e-3, atol=0.0)


def test_one_scale_per_tensor_loses_less():
    def error(prep: SimulatedModel, wanted: Tensor) -> float:
        with torch.no_grad():
            return float((prep.eval()(X) - wanted).square().mean())

    plain, equalized = error(*prepared("nearest")), error(*prepared("equalization+nearest"))
    assert equalized < 0.25 * plain


def test_scales_are_found_again():
    plain, _ = prepared("nearest")
    prep, _ = prepared("activation_equalization")
    assert float(plain.activation_quantizer("0").scale) != float(prep.activation_quantizer("0").scale)


def test_pairs_skip_what_others_read():
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x))
            return self.c(torch.relu(self.b(x)) + x)

    from ptqx.graph.workbench import Workbench

    x = torch.randn(8, 4, 3, 3)
    bench = Workbench(calibrate(prepare(Branch(), "int8", x), [x]), [x])
    found = [(pair.first.name, pair.second.name) for pair in pairs(bench)]
    assert found == []
