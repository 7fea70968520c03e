"""The schedule that is chosen, stages, and what is refused."""

from __future__ import annotations

import pytest
from ptqx.errors import PtqxError
from ptqx.graph import prepare
from ptqx.qat import QATConfig
from ptqx.qat.stages import at_least, plan_stages
from ptqx.quant import recipe
from torch import nn, zeros


def test_open_choices_follow_bits_and_given_ones_stay() -> None:
    by_bits = [QATConfig(epochs=12).resolved(name) for name in ("w8a8", "w5a5", "w4a4", "w3a3", "w2a2")]
    rates = [config.lr for config in by_bits]
    assert rates == sorted(rates) and rates[0] == rates[1]
    assert [config.progressive for config in by_bits] == [(), (), (), (4,), (4, 3)]
    assert [bool(config.freeze_oscillating) for config in by_bits] == [False, False, False, True, True]
    given = QATConfig(epochs=12, lr=0.3, progressive=(), freeze_oscillating=0.0, weight_decay=0.0)
    resolved = given.resolved("w2a2")
    assert (resolved.lr, resolved.progressive, resolved.weight_decay) == (0.3, (), 0.0)
    assert resolved.freeze_oscillating == 0.0
    assert resolved.resolved("w8a8") == resolved


def test_mixing_is_part_of_an_identity_where_it_is_done() -> None:
    """Results of runs from before there was mixing stay known."""
    assert "mixup" not in QATConfig().identity() and "mixup" not in QATConfig().loop(5).identity()
    assert QATConfig(mixup=0.5).identity()["mixup"] == QATConfig(mixup=0.5).loop(5).identity()["mixup"] == 0.5


def test_short_runs_have_one_stage_and_distilled_ones_plain_labels() -> None:
    assert QATConfig(epochs=2).resolved("w2a2").progressive == ()
    assert QATConfig(epochs=2).resolved("w2a2").freeze_batch_norm == 0
    assert QATConfig().resolved("w4a4").label_smoothing == 0.1
    assert QATConfig(distillation=0.5).resolved("w4a4").label_smoothing == 0


def test_stages_raise_every_width_that_is_lower() -> None:
    narrow = recipe("w2a4", edge_bits=3, overrides={"0": {"weights": {"bits": 2}}, "2": {"bits": 6}})
    raised = at_least(narrow, 4)
    assert (raised.weights.bits, raised.activations.bits, raised.edge_bits) == (4, 4, 4)
    assert raised.overrides["0"]["weights"]["bits"] == 4 and raised.overrides["2"]["bits"] == 6
    assert at_least(recipe("int8-weight-only"), 4) == recipe("int8-weight-only")
    ternary = at_least(recipe("ternary"), 4).weights
    assert (ternary.bits, ternary.levels) == (4, "uniform")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 10))
    prep = prepare(model, raised, zeros(1, 1, 8, 8), qat=True)
    assert prep.schemes["0"][0].bits == 4 and prep.schemes["2"][0].bits == 6
    assert all(quantizer.scheme.bits >= 4 for quantizer in prep.quantizers.values())


@pytest.mark.parametrize(
    ("progressive", "epochs", "message"),
    [
        ((3, 4), 9, "falling numbers of bits from 8 to above the recipe's 2, got 3, 4"),
        ((4, 4), 9, "falling numbers of bits"),
        ((9,), 9, "falling numbers of bits"),
        ((4, 2), 9, "falling numbers of bits"),
        ((8, 4, 3), 3, "3 widths before the recipe's own need at least 4 epochs, got 3"),
    ],
)
def test_stages_that_do_not_fit_are_errors(progressive: tuple[int, ...], epochs: int, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        plan_stages(recipe("w2a2"), progressive, epochs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distillation": 1.5}, r"distillation must be in \[0, 1\], got 1.5"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"val_split": 0.0}, r"val_split must be in \(0, 1\), got 0.0: the integer model is watched"),
        ({"freeze_oscillating": -0.1}, "freeze_oscillating must be in"),
        ({"scale_lr": -1.0}, "scale_lr must be in"),
        ({"epochs": 0}, r"epochs must be in \[1, inf\), got 0"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"optimizer": "sdg"}, "did you mean sgd"),
    ],
)
def test_bad_values_are_errors(change: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        QATConfig(**change)  # type: ignore[arg-type]
