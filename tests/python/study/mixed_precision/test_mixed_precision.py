"""Widths under budgets, and what was foreseen against what the converted model has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ptqx import data, models
from ptqx.data import Loader
from ptqx.errors import PtqxError
from ptqx.graph import load, quantize
from ptqx.quant import recipe
from ptqx.study import layer_costs
from ptqx.study.compare import calibration_batches
from ptqx.study.formats import Task, maker
from ptqx.study.mixed_precision import (
    Budget,
    MeasuredLayers,
    costs,
    fewest_bits,
    measure_layers,
    mixed_precision,
    pareto,
)
from ptqx.study.mixed_precision.losses import Evidence, layer_losses
from ptqx.train import TrainConfig, evaluate, fit
from torch import nn

Digits = tuple[data.ImageDataset, data.ImageDataset]


@pytest.fixture(scope="module", autouse=True)
def short() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_costs, "ROUNDS", 2)
        yield


@pytest.fixture(scope="module")
def trained(digits: Digits) -> nn.Module:
    torch.manual_seed(0)
    model = models.cnn(width=8)
    config = TrainConfig(epochs=3, batch_size=64, amp="off")
    fit(model, *digits, config, device="cpu", progress=False)
    return model.eval()


@pytest.fixture(scope="module")
def measured(trained: nn.Module, digits: Digits) -> MeasuredLayers:
    widths = (2, 3, 4, 6, 8, "bf16", "fp32")
    return measure_layers(trained, digits[0], widths=widths, calibration=64, images=64, batch=2)


def test_foreseen_bytes_are_those_of_the_converted_model(
    trained: nn.Module,
    digits: Digits,
    measured: MeasuredLayers,
    tmp_path: Path,
) -> None:
    batches = calibration_batches(digits[0], 64, 0)
    budgets = [Budget(bits=b) for b in (2, 2.5, 3, 4, 5.5, 8, 9, 15)]
    budgets += [Budget(bytes=3000), Budget(milliseconds=1e3), Budget(bits=4, bytes=2500)]
    table = pareto(trained, batches, digits[1], measured, budgets, save_to=tmp_path / "new")
    for budget, row in zip(budgets, table.rows, strict=True):
        assert row.real_bytes == row.bytes
        assert row.bits <= (budget.bits or 32)
        assert row.bytes <= (budget.bytes or row.bytes)
        in_float = "fp32" in row.widths or "bf16" in row.widths
        assert (row.milliseconds is None) == (row.real_milliseconds is None) == in_float
    losses = [row.loss for row in table.rows[:8]]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[5]
    assert table.rows[0].drop > table.rows[5].drop
    written = load(tmp_path / "new" / "mixed-2.5-bits.ptqx")
    assert written.graph.image is not None
    assert sum(layer_costs.layer_bytes(written).values()) == table.rows[1].bytes
    assert len(json.loads(json.dumps([*table.to_dicts(), *measured.to_dicts()]))) == 11 + 4
    assert table.to_markdown().splitlines()[3].startswith("| 2.5 bits ")
    assert table.check().startswith("real bytes are those foreseen, all of them; real milliseconds are ")
    wrong = replace(table, rows=(replace(table.rows[0], real_bytes=1), *table.rows[1:]))
    assert wrong.check().startswith(f"real bytes differ for {table.rows[0].budget}; ")


def test_bytes_are_packed_as_the_files_are(trained: nn.Module, measured: MeasuredLayers) -> None:
    for layer in measured.parameters:
        weight = trained.get_submodule(layer).weight
        rows, columns = len(weight), weight[0].numel()
        scales_and_biases = 4 * rows + 4 * rows
        sizes = measured.costs.bytes[layer]
        packed = {bits: rows * -(-columns * bits // 8) for bits in (2, 3, 4, 6, 8)}
        for bits in (3, 4, 6, 8):
            assert sizes[bits] == packed[bits] + scales_and_biases
        levels = sizes[2] - packed[2] - scales_and_biases
        assert levels in (0, 4, 4 * rows)
        assert (sizes["bf16"], sizes["fp32"]) == (
            2 * rows * columns + 4 * rows,
            4 * rows * columns + 4 * rows,
        )


def test_losses_never_fall_with_fewer_bits(measured: MeasuredLayers) -> None:
    for losses in measured.losses.values():
        by_width = [losses[width] for width in measured.widths]
        assert by_width == sorted(by_width, reverse=True)
        assert losses["fp32"] == 0.0


@pytest.mark.parametrize("by", ["hessian", "fisher"])
def test_curvature_foresees_the_error_of_a_quadratic_loss(
    by: str, trained: nn.Module, digits: Digits
) -> None:
    batches = list(data.Loader(digits[0].subset(slice(0, 128)), 64))
    evidence = Evidence(trained, [x for x, _ in batches], batches)
    found = layer_losses(evidence, by, (2, 4, 8, "bf16", "fp16"))
    for losses in found.values():
        assert 0 <= losses["fp16"] < losses["bf16"] < losses[8] < losses[4] < losses[2]
        assert losses[4] / losses[8] > 50  # four bits are a factor of 256 in squared error


def test_fewest_bits_keep_to_the_drop_and_an_eighth_less_does_not(
    trained: nn.Module, digits: Digits, measured: MeasuredLayers
) -> None:
    batches, held_out = calibration_batches(digits[0], 64, 0), digits[0].subset(slice(64, 1064))
    reference = evaluate(trained, held_out).top1

    def lost(bits: float) -> float:
        converted = quantize(trained, batches, measured.choose(Budget(bits=bits)).recipe)
        return reference - evaluate(converted, held_out).top1

    narrowest = lost(2.0)
    assert narrowest > 1, "else nothing is left to find"
    found = fewest_bits(trained, batches, held_out, measured, narrowest / 2)
    assert found.budget.bits is not None and 2 < found.budget.bits < 8
    assert found.drop == lost(found.budget.bits) <= narrowest / 2 < lost(found.budget.bits - 1 / 8)
    assert fewest_bits(trained, batches, held_out, measured, 100.0).budget == Budget(bits=2.0)


def test_a_drop_that_nothing_keeps_to_is_refused(
    trained: nn.Module, digits: Digits, measured: MeasuredLayers
) -> None:
    batches = calibration_batches(digits[0], 64, 0)
    own = [(x, trained(x).argmax(1)) for x, _ in Loader(digits[0].subset(slice(0, 64)), 64)]
    coarse = replace(measured, widths=(2,))
    with pytest.raises(PtqxError, match=r"drop: 0 percent points, but the widest widths lose \d"):
        fewest_bits(trained, batches, own, coarse, 0)
    for drop in (-0.5, float("nan")):
        with pytest.raises(PtqxError, match="drop: expected 0 or more percent points, got"):
            fewest_bits(trained, batches, own, measured, drop)


def test_sensitive_layer_keeps_its_bits(measured: MeasuredLayers) -> None:
    layers = list(measured.parameters)
    losses = {layer: dict.fromkeys(measured.widths, 0.0) for layer in layers}
    losses[layers[1]] = {w: float(32 - w) if isinstance(w, int) else 0.0 for w in measured.widths}
    chosen = MeasuredLayers(measured.widths, measured.parameters, losses, measured.costs, measured.base)
    bits = 2 + 6 * measured.parameters[layers[1]] / sum(measured.parameters.values())
    assert chosen.choose(Budget(bits=bits)).widths[layers[1]] == 8
    assert set(chosen.choose(Budget(bits=2)).widths.values()) == {2}


def test_recipe_has_the_widths_as_overrides(trained: nn.Module, digits: Digits) -> None:
    choice = mixed_precision(
        trained, digits[0], bits=3, by="hessian", calibration=64, images=64, methods=["gptq"], activations=6
    )
    assert choice.recipe.activations == recipe("w4a6").activations
    assert choice.recipe.methods == ("gptq",) and choice.milliseconds is None
    for layer, width in choice.widths.items():
        if width != 8:
            assert choice.recipe.overrides[layer]["weights"]["bits"] == width


def test_format_takes_options_and_methods(trained: nn.Module, digits: Digits, tmp_path: Path) -> None:
    from ptqx.qat import QATConfig

    model = trained.to(memory_format=torch.channels_last)
    batches = calibration_batches(digits[0], 64, 0)
    task = Task(model, batches, batches[0][:2], tmp_path, digits[0], digits[1], QATConfig())
    name = "mixed:bits=3:by=hessian+gptq:sweeps=0"
    candidate = maker(name)(name, task)
    assert (candidate.kind, candidate.execution, candidate.coverage) == ("ptq", "integer", 100.0)
    assert "bits on average: features.0 " in candidate.detail and candidate.detail.startswith("w2-8a8 static")
    smaller = maker("mixed")("mixed:bits=2:by=hessian", task).file.stat().st_size
    assert smaller < candidate.file.stat().st_size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixed:bit=3", "unknown option of 'mixed' 'bit'; did you mean bits"),
        ("mixed:bits=three", "expected bits=NUMBER, got 'bits=three'"),
        ("mixed:by", "expected by=VALUE, got 'by'"),
        ("mixed:by=hesian", "unknown measure 'hesian'; did you mean hessian"),
        ("mixed+gptk", "unknown method 'gptk'; did you mean gptq"),
        ("mixed-int8", "unknown format 'mixed-int8'"),
    ],
)
def test_names_that_mean_nothing_are_refused(name: str, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        maker(name)


def test_budgets_that_cannot_be_kept_are_named(measured: MeasuredLayers) -> None:
    with pytest.raises(PtqxError, match=r"widths 2, 3, .* the cheapest take \d+ bytes, more than 9"):
        measured.choose(Budget(bytes=9))
    with pytest.raises(PtqxError, match=r"cheapest take 2 bits, more than 1\.5"):
        measured.choose(Budget(bits=1.5))
    least = sum(min(times.values()) for times in measured.costs.milliseconds.values())
    least += measured.costs.other_milliseconds
    with pytest.raises(
        PtqxError, match="milliseconds, the steps between them included, more than 1e-06"
    ) as told:
        measured.choose(Budget(milliseconds=1e-6))
    assert f"the cheapest take {least:.4g}"[:-1] in str(told.value)
    with pytest.raises(PtqxError, match="nothing would be quantized"):
        measured.choose(Budget(bits=32))
    untimed = MeasuredLayers(
        *(measured.widths, measured.parameters, measured.losses),
        costs.LayerCosts(measured.costs.bytes),
        measured.base,
    )
    with pytest.raises(PtqxError, match="nothing was timed"):
        untimed.choose(Budget(milliseconds=1.0))
    with pytest.raises(PtqxError, match="a budget needs bits, bytes or milliseconds"):
        Budget()
    with pytest.raises(PtqxError, match="bits: expected a positive budget, got -1"):
        Budget(bits=-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (1, 4)}, "widths: expected 2 to 8 bits, 'bf16', 'fp16', 'fp32'; got 1"),
        ({"widths": ()}, "widths: expected at least one"),
        ({"by": "los"}, "unknown measure 'los'; did you mean loss"),
    ],
)
def test_bad_arguments_raise(
    trained: nn.Module,
    digits: Digits,
    options: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(PtqxError, match=message):
        measure_layers(trained, digits[0], calibration=16, images=16, **options)  # type: ignore[arg-type]
