"""Whole runs on the digits: what they recover, log, keep, resume and refuse."""

from __future__ import annotations

import copy
import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ptqx import graph
from ptqx.data import ImageDataset
from ptqx.errors import PtqxError
from ptqx.qat import KeepZeros, QATConfig, train_control, train_quantized
from ptqx.quant import LSQPlus, presets, recipe
from ptqx.train import Interrupted, TrainConfig, decay_groups, evaluate, fit
from torch import Tensor, nn

Digits = tuple[ImageDataset, ImageDataset]
Batches = list[tuple[Tensor, Tensor]]
SHORT = QATConfig(epochs=2, batch_size=64, amp="off")
EVERYTHING = QATConfig(
    epochs=6,
    batch_size=32,
    amp="off",
    lr=0.02,
    ema=0.9,
    distillation=0.5,
    progressive=(4, 3),
    freeze_oscillating=0.005,
    freeze_batch_norm=0.4,
)


def trained_on(
    trained: nn.Module, digits: Digits, calibration: Batches, config: QATConfig, name: Any, **options: Any
) -> graph.SimulatedModel:
    return train_quantized(trained, name, *digits, config, calibration, **{"progress": False, **options})


def same_state(a: nn.Module, b: nn.Module) -> None:
    for (name, left), right in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(left, right), name


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def test_two_bits_recover(trained: nn.Module, digits: Digits, calibration: Batches) -> None:
    config = QATConfig(epochs=6, batch_size=64, amp="off")
    prep = trained_on(trained, digits, calibration, config, "w2a2")
    start, end = prep.history[0], prep.history[-1]
    assert [row["weight_bits"] for row in prep.history] == [2, 4, 3, 2, 2, 2, 2]
    integer = graph.convert(prep)
    final = evaluate(integer, digits[1]).top1
    assert final > start["test_top1"] + 15
    assert final in [row["test_top1"] for row in prep.history[3:]]  # integer execution, in the log too
    assert end["train_loss"] < prep.history[3]["train_loss"]


@pytest.mark.parametrize("name", presets())
def test_every_preset_trains_in_stages_and_converts(
    trained: nn.Module, few: Digits, calibration: Batches, name: str
) -> None:
    narrow = name in ("w3a3", "w2a4", "w2a2", "ternary", "ttq", "binary", "w1a1")
    config = replace(SHORT, lr=0.005, progressive=(4,) if narrow else (), freeze_oscillating=0.01)
    prep = trained_on(trained, few, calibration, config, name)
    assert [row["epoch"] for row in prep.history] == [0, 1, 2]
    assert graph.convert(prep).report.samples > 0
    assert prep.history[-1]["val_top1"] > 20


def test_model_is_not_changed_and_the_run_repeats(
    trained: nn.Module, few: Digits, calibration: Batches
) -> None:
    before = copy.deepcopy(trained.state_dict())
    runs = [trained_on(trained, few, calibration, SHORT, "w3a3") for _ in range(2)]
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    same_state(*runs)
    assert without_seconds(runs[0].history) == without_seconds(runs[1].history)


def test_test_set_decides_nothing(trained: nn.Module, few: Digits, calibration: Batches) -> None:
    train, test = few
    shuffled = replace(test, labels=(test.labels + 1) % 10)
    honest = trained_on(trained, few, calibration, SHORT, "w3a3")
    blind = trained_on(trained, (train, shuffled), calibration, SHORT, "w3a3")
    same_state(honest, blind)
    assert blind.history[-1]["test_top1"] < 20


class Teacher(nn.Module):
    """Another model's logits; sends a signal when asked for the `stop`-th time."""

    asked = 0
    stop = 0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        Teacher.asked += 1
        if Teacher.asked == Teacher.stop:
            os.kill(os.getpid(), signal.SIGINT)
        return self.model(x)


@pytest.mark.parametrize("quantizer", ["lsq_plus", "pact"])
def test_run_with_everything_on_continues_bit_identically(
    trained: nn.Module, few: Digits, calibration: Batches, tmp_path: Path, quantizer: str
) -> None:
    chosen, teacher = recipe("w2a2", quantizer=quantizer), Teacher(trained)
    options: dict[str, Any] = {"teacher": teacher, "identity": {"data": "digits"}}
    Teacher.asked, Teacher.stop = 0, 0
    whole = trained_on(trained, few, calibration, EVERYTHING, chosen, **options)
    steps = Teacher.asked // 6
    options["out"] = tmp_path
    Teacher.asked = 0
    for stop in (3, steps + 4, 2 * steps + 6, 4 * steps):  # the last at the end of an epoch
        Teacher.stop = stop
        with pytest.raises(Interrupted, match="the same command continues"):
            trained_on(trained, few, calibration, EVERYTHING, chosen, **options)
    Teacher.stop = 0
    torch.manual_seed(123)
    continued = trained_on(trained, few, calibration, EVERYTHING, chosen, **options)
    assert Teacher.asked == 6 * steps  # no step was done twice
    same_state(continued, whole)
    assert without_seconds(continued.history) == without_seconds(whole.history)
    assert 0 < whole.history[-1]["frozen"] < 1
    assert {path.name for path in tmp_path.iterdir()} >= {
        *("1-w4a4", "2-w3a3"),
        *("best.ptqx", "log.csv", "checkpoint.pt", "config.json"),
    }
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(7))
    assert [float(row["val_top1"]) for row in rows] == [row["val_top1"] for row in whole.history]
    kept = graph.load(tmp_path / "best.ptqx")
    assert torch.equal(evaluate(kept, few[1]).logits, evaluate(graph.convert(whole), few[1]).logits)


def test_stages_begin_with_the_weights_of_the_last(
    trained: nn.Module, few: Digits, calibration: Batches, tmp_path: Path
) -> None:
    config = replace(SHORT, progressive=(4,), lr=1e-9, ema=0.0)
    prep = trained_on(trained, few, calibration, config, "w2a2", out=tmp_path)
    assert json.loads((tmp_path / "1-w4a4" / "config.json").read_text())["progressive"] == [4]
    state = torch.load(tmp_path / "1-w4a4" / "checkpoint.pt", weights_only=True)["model"]
    weights = {name: t for name, t in state.items() if name.endswith("weight")}
    assert weights and not any(name.startswith("quantizers") for name in weights)
    for name, tensor in weights.items():
        torch.testing.assert_close(prep.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_other_options_are_another_run(
    trained: nn.Module, few: Digits, calibration: Batches, tmp_path: Path
) -> None:
    config = replace(SHORT, epochs=1)
    trained_on(trained, few, calibration, config, "w4a4", out=tmp_path)
    for change, name, message in (
        ({"scale_lr": 0.5}, "w4a4", r"scale_lr 1.0 \(now 0.5\)"),
        ({}, "w3a3", "recipe"),
        ({"distillation": 0.5}, "w4a4", r"teacher None \(now "),
    ):
        with pytest.raises(PtqxError, match=f"is of another run: .*{message}"):
            trained_on(trained, few, calibration, replace(config, **change), name, out=tmp_path)
    with pytest.raises(PtqxError, match=r"is of another run: .*keep_zeros None \(now True\)"):
        trained_on(trained, few, calibration, config, "w4a4", out=tmp_path, hooks=[KeepZeros()])


def test_batch_norm_statistics_rest_at_the_end(trained: nn.Module, few: Digits, calibration: Batches) -> None:
    frozen = trained_on(trained, few, calibration, replace(SHORT, freeze_batch_norm=1.0), "w8a8")
    learning = trained_on(trained, few, calibration, replace(SHORT, freeze_batch_norm=0.0), "w8a8")
    before = trained.state_dict()
    for name in (name for name in before if name.endswith("running_mean")):
        assert torch.equal(frozen.state_dict()[name], before[name])
        assert not torch.equal(learning.state_dict()[name], before[name])


def test_scales_have_a_rate_of_their_own_and_no_decay(
    trained: nn.Module, few: Digits, calibration: Batches
) -> None:
    rest = replace(SHORT, scale_lr=0.0, weight_decay=0.9, epochs=1, freeze_oscillating=0.0)
    chosen = recipe("w4a4", quantizer="lsq_plus")
    prep = trained_on(trained, few, calibration, rest, chosen)
    start = graph.calibrate(graph.prepare(trained, chosen, calibration[0][0], qat=True), calibration)
    names = [name for name, _ in start.named_parameters() if name.startswith("quantizers.")]
    assert any(isinstance(q, LSQPlus) for q in start.quantizers.values()) and names
    for name in names:
        assert torch.equal(prep.state_dict()[name], start.state_dict()[name]), name


def test_pact_clips_have_a_decay_of_their_own(trained: nn.Module, few: Digits, calibration: Batches) -> None:
    chosen = recipe("w4a4", quantizer="pact")
    runs = [
        trained_on(trained, few, calibration, replace(SHORT, clip_decay=decay), chosen)
        for decay in (0.0, 0.5)
    ]
    clips = [
        torch.cat([p for name, p in run.named_parameters() if name.endswith("learned_clip")]) for run in runs
    ]
    assert bool((clips[1].abs() < clips[0].abs()).all())


def test_collapse_stops_and_says_what_to_do(
    trained: nn.Module, few: Digits, calibration: Batches, tmp_path: Path
) -> None:
    config = replace(
        SHORT, epochs=4, lr=0.1, scale_lr=1000.0, clip_norm=0.0, momentum=0.0, freeze_oscillating=0.0
    )
    with pytest.raises(PtqxError, match=r"collapsed in epoch \d \(w4a4, learning rate 0.1\)") as caught:
        trained_on(trained, few, calibration, config, "w4a4", out=tmp_path)
    for advice in ("held-out images right", "Lower the learning rate", "progressive"):
        assert advice in str(caught.value)


def test_control_is_the_float_model_with_the_same_run(trained: nn.Module, few: Digits) -> None:
    config = replace(SHORT, lr=0.01, weight_decay=1e-4, freeze_batch_norm=0.5)
    control, result = train_control(trained, "w4a4", *few, config, progress=False)
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.evaluation.top1 == evaluate(control, few[1]).top1 == result.history[-1]["test_top1"]
    assert not any(isinstance(module, graph.SimulatedModel) for module in control.modules())
    assert not torch.equal(control.classifier.weight, trained.classifier.weight)
    taught, _ = train_control(trained, "w4a4", *few, replace(config, distillation=1.0), progress=False)
    assert not torch.equal(control.classifier.weight, taught.classifier.weight)


def test_teacher_without_distillation_is_an_error(
    trained: nn.Module, few: Digits, calibration: Batches
) -> None:
    with pytest.raises(PtqxError, match="teacher: distillation is 0, so it would not be asked"):
        trained_on(trained, few, calibration, SHORT, "w4a4", teacher=trained)
    with pytest.raises(PtqxError, match="calibration: expected at least one batch"):
        trained_on(trained, few, [], SHORT, "w4a4")


def test_decay_groups_leave_out_what_they_are_told(trained: nn.Module) -> None:
    every = decay_groups(trained, 1e-4)
    fewer = decay_groups(trained, 1e-4, without=[trained.classifier.weight])
    assert len(fewer[0]["params"]) == len(every[0]["params"]) - 1


def test_images_of_a_run_go_on_where_the_last_ended(few: Digits) -> None:
    """fit(earlier=...) counts epochs, and with them order and augmentation, on."""
    seen: list[Tensor] = []

    def criterion(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        seen.append(x[0].clone())
        return nn.functional.cross_entropy(logits, y)

    def model() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    config = TrainConfig(epochs=2, batch_size=1024, amp="off")
    fit(model(), *few, config, criterion=criterion, device="cpu", progress=False)
    one = replace(config, epochs=1)
    earlier = [{"epoch": 1}]
    result = fit(model(), *few, one, criterion=criterion, earlier=earlier, device="cpu", progress=False)
    assert torch.equal(seen[1], seen[2]) and not torch.equal(seen[0], seen[1])
    assert [row["epoch"] for row in result.history] == [1, 2]
