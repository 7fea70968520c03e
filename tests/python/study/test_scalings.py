from __future__ import annotations

import pytest
import torch
from ptqx.data import ImageDataset
from ptqx.errors import PtqxError
from ptqx.quant import Scheme
from ptqx.study import scalings
from ptqx.study.scalings import with_rounded_weights
from torch import nn


def test_each_scaling_uses_its_own_formula() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(1000, 4, bias=False)
    nn.init.normal_(layer.weight)
    w = layer.weight.detach()
    bounds = {
        "minmax": w.abs().amax(dim=1),
        "ksigma": 3 * w.double().std(dim=1, correction=0).float(),
        "percentile": torch.quantile(w.abs().double(), 0.999, dim=1).float(),
    }
    for observer, bound in bounds.items():
        scale = (bound / 127)[:, None]
        expected = torch.round(w / scale).clamp(-127, 127) * scale
        rounded, _ = with_rounded_weights(layer, Scheme(granularity="channel", observer=observer))
        torch.testing.assert_close(rounded.weight, expected, rtol=0, atol=1e-5, msg=observer)


def test_table_covers_every_combination_and_leaves_the_model_alone(
    small_cnn: nn.Module, digits: tuple[ImageDataset, ImageDataset]
) -> None:
    before = small_cnn.features[0].weight.clone()
    table = scalings(small_cnn, digits[1])
    assert len({(row.scaling, row.granularity, row.bits) for row in table.rows}) == len(table.rows) == 12
    assert torch.equal(small_cnn.features[0].weight, before)
    at8 = [row.sqnr_db for row in table.rows if row.bits == 8 and row.scaling == "max-abs"]
    at4 = [row.sqnr_db for row in table.rows if row.bits == 4 and row.scaling == "max-abs"]
    assert min(at8) > max(at4)
    assert at8[1] >= at8[0], "per channel is at least as good as per tensor under max-abs"
    assert len(table.to_markdown().splitlines()) == 14
    assert table.to_dicts()[0]["scaling"] == "max-abs"


def test_model_without_layers_raises(digits: tuple[ImageDataset, ImageDataset]) -> None:
    with pytest.raises(PtqxError, match="no convolution or linear layer"):
        scalings(nn.ReLU(), digits[1])


def test_non_finite_weights_are_named(
    small_cnn: nn.Module, digits: tuple[ImageDataset, ImageDataset]
) -> None:
    with torch.no_grad():
        small_cnn.classifier.weight[0, 0] = float("nan")
    with pytest.raises(PtqxError):
        scalings(small_cnn, digits[1])
