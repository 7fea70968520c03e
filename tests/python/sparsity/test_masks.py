from __future__ import annotations

import ptqx
import pytest
import torch
from ptqx import models
from ptqx.errors import PtqxError
from ptqx.graph import quantize
from ptqx.qat.sparsity import GradualSparsity
from ptqx.quant import Scheme, recipe
from ptqx.sparsity import Pattern, apply_masks, layer_weights, parse_pattern, sparsify, zero_masks, zero_share
from torch import nn


def test_a_pattern_that_no_layer_can_have_is_refused() -> None:
    odd = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1))
    x = torch.zeros(1, 3, 8, 8)
    told = r"2:4 needs layers whose input channels are a multiple of 4; here they are 3, 5"
    with pytest.raises(PtqxError, match=told):
        sparsify(odd, x, "2:4")
    with pytest.raises(PtqxError, match=told):
        quantize(odd, [torch.randn(2, 3, 8, 8)], "int8+sparse:keep=2:of=4")
    hook = GradualSparsity(["0.weight", "2.weight"], Pattern(keep=2, of=4), 0.0, 1.0)
    with pytest.raises(PtqxError, match=told):
        hook.begin_step(odd, 0.0)
    assert zero_share(sparsify(odd, x, "0.5")) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_smallest_weights_of_every_layer_become_zero(share: float) -> None:
    model = models.cnn()
    x = torch.zeros(1, 1, 8, 8)
    sparse = sparsify(model, x, Pattern(share=share))
    for path in layer_weights(model, x):
        weight, left = model.get_parameter(path), sparse.get_parameter(path)
        gone = left == 0
        assert int(gone.sum()) == int(share * weight.numel())
        assert torch.equal(left[~gone], weight[~gone])
        assert weight[gone].abs().max() <= weight[~gone].abs().min()
    assert zero_share(model) == 0


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (3, 8)])
def test_of_neighbouring_input_channels_the_largest_stay(keep: int, of: int) -> None:
    weight = torch.randn(5, 16, 3, 3)
    mask = Pattern(keep=keep, of=of).mask(weight)
    for o, i, row, column in [(0, 0, 0, 0), (3, of, 1, 2), (4, 16 - of, 2, 2)]:
        group = weight[o, i : i + of, row, column].abs()
        expected = torch.zeros(of, dtype=torch.bool)
        expected[group.topk(keep).indices] = True
        assert torch.equal(mask[o, i : i + of, row, column], expected)
    assert int(mask.sum()) == weight.numel() * keep // of


def test_layers_without_groups_of_channels_stay_dense() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    sparse = sparsify(model, torch.zeros(1, 3, 8, 8), "2:4")
    assert [zero_share(layer) for layer in sparse] == [0, 0, 0.5]


def test_equal_weights_are_kept_in_order() -> None:
    assert Pattern(share=0.5).mask(torch.ones(1, 4)).tolist() == [[True, True, False, False]]
    assert Pattern(keep=1, of=2).mask(torch.zeros(1, 4)).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "expected a share such as 0.5, or a pattern such as 2:4, got 'half'"),
        ("2:", "expected a share"),
        ("4:4", "keep must be at least 1 and less than of"),
        ("0:4", "keep must be at least 1"),
        ("1.0", "share must be in"),
        ("-0.5", "share must be in"),
        ("nan", "share must be in"),
        ("0", "one of the two"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        parse_pattern(text)


def test_a_pattern_is_a_share_or_neighbours() -> None:
    with pytest.raises(PtqxError, match="one of the two"):
        Pattern(0.5, 2, 4)


def test_masks_hold_what_is_zero() -> None:
    model = sparsify(models.cnn(), torch.zeros(1, 1, 8, 8), "0.5")
    masks = zero_masks(model)
    assert masks.keys() == set(layer_weights(model, torch.zeros(1, 1, 8, 8)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert zero_share(model) < 0.01
    apply_masks(model, masks)
    assert zero_share(model) == pytest.approx(0.5, abs=0.01)


CHANNEL = {"granularity": "channel"}
WEIGHTS = {
    "8 bits": Scheme(**CHANNEL),
    "zero point": Scheme(signed=False, symmetric=False, **CHANNEL),
    "groups": Scheme(bits=4, granularity="group", group_size=4),
    "2 bits narrow": Scheme(bits=2, narrow=True, **CHANNEL),
    "apot": Scheme(bits=4, levels="apot", **CHANNEL),
    "ternary": Scheme(bits=2, levels="ternary", **CHANNEL),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_zero_stays_zero_in_integers(weights: Scheme) -> None:
    model = models.cnn().eval()
    batches = [torch.randn(32, 1, 8, 8)]
    sparse = sparsify(model, batches[0], "0.6")
    chosen = recipe("int8", weights=weights)
    integer = ptqx.quantize(sparse, batches, chosen)
    assert zero_share(integer) >= zero_share(sparse) > 0.59
    assert zero_share(ptqx.quantize(model, batches, chosen)) < zero_share(integer)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("int8+sparse:share=0.6", 0.59),
        ("int8-dynamic+sparse:keep=1:of=4", 0.70),
        ("int4-weight-only+sparse", 0.49),
        ("int8+sparse+bias_correction", 0.49),
    ],
)
def test_the_method_makes_integer_models_sparse(name: str, least: float) -> None:
    model = models.cnn().eval()
    assert zero_share(ptqx.quantize(model, [torch.randn(32, 1, 8, 8)], name)) > least


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("binary+sparse", "have no 0"),
        ("int4+sparse+gptq", "'gptq' would move the zeros of 'sparse'"),
        ("int4+gptq+sparse", "'sparse' would move the weights that 'gptq' has rounded"),
        ("int8+sparse:keep=5:of=4", "keep must be at least 1 and less than of"),
        ("int8+sparse:share=2", "share must be in"),
    ],
)
def test_what_would_not_be_sparse_is_refused(name: str, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        ptqx.quantize(models.cnn().eval(), [torch.randn(8, 1, 8, 8)], name)
