"""fit and evaluate: learning, schedules, moving average, and what is refused."""

from __future__ import annotations

import copy
import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ptqx.data import ImageDataset, Loader
from ptqx.errors import PtqxError
from ptqx.models import cnn, vgg11_bn
from ptqx.train import TrainConfig, decay_groups, evaluate, fit
from ptqx.train.config import _cpu_has_bf16
from torch import nn

Digits = tuple[ImageDataset, ImageDataset]
SHORT = TrainConfig(epochs=2, batch_size=64, warmup_epochs=0.5)


def small_cnn(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return cnn(width=4)


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    for (name, left), right in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(left, right), f"{name} differs by up to {(left - right).abs().max()}"


def test_fit_learns_the_digits(digits: Digits) -> None:
    result = fit(cnn(), *digits, TrainConfig(epochs=8, batch_size=64), progress=False)
    assert result.evaluation.top1 >= 96
    assert result.evaluation.top1 == result.history[-1]["test_top1"]
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamw", "lr": 0.01},
        {"schedule": "one-cycle"},
        {"schedule": "constant", "momentum": 0.0, "clip_norm": 0.0},
        {"ema": 0.9},
        {"amp": "bf16"},
        {"channels_last": False, "augment": False},
        {"warmup_epochs": 0.0},
        {"mixup": 0.2},
    ],
    ids=lambda change: "-".join(map(str, change.values())),
)
def test_every_choice_learns_and_repeats(digits: Digits, change: dict[str, object]) -> None:
    config = replace(SHORT, **change)  # type: ignore[arg-type]
    models = [small_cnn(), small_cnn()]
    results = [fit(model, *digits, config, progress=False) for model in models]
    assert_same_weights(*models)
    assert results[0].history[1]["train_loss"] < results[0].history[0]["train_loss"] < 2.6


def test_seed_changes_the_result(digits: Digits) -> None:
    first, second = small_cnn(), small_cnn()
    fit(first, *digits, SHORT, progress=False)
    fit(second, *digits, replace(SHORT, seed=1), progress=False)
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def learning_rates(digits: Digits, config: TrainConfig) -> list[float]:
    """The rate of every step, seen by a criterion that is asked once per step."""
    rates: list[float] = []
    holder: dict[str, torch.optim.Optimizer] = {}

    class Spy(torch.optim.SGD):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            holder["optimizer"] = self

    def criterion(logits: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        rates.append(holder["optimizer"].param_groups[0]["lr"])
        return F.cross_entropy(logits, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Spy)
        fit(small_cnn(), *digits, config, criterion=criterion, progress=False)
    return rates


def test_cosine_schedule_is_the_formula(digits: Digits) -> None:
    steps, warmup, lr = 2 * 22, 11, 0.1
    expected = [lr * (i + 1) / warmup for i in range(warmup)]
    expected += [lr * 0.5 * (1 + math.cos(math.pi * i / (steps - warmup))) for i in range(steps - warmup)]
    assert learning_rates(digits, SHORT) == pytest.approx(expected, rel=1e-12)


def test_one_cycle_schedule_rises_to_the_peak_and_falls_to_zero(digits: Digits) -> None:
    rates = learning_rates(digits, replace(SHORT, schedule="one-cycle"))
    peak = rates.index(max(rates))
    assert (
        len(rates) == 44 and peak == pytest.approx(11, abs=1) and rates[peak] == pytest.approx(0.1, rel=0.02)
    )
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(
        rates[peak:], reverse=True
    )
    assert rates[-1] < 1e-3


def test_weight_decay_is_on_matrices_only() -> None:
    decayed, others = decay_groups(vgg11_bn(num_classes=10), 5e-4)
    assert decayed["weight_decay"] == 5e-4 and others["weight_decay"] == 0
    assert len(decayed["params"]) == 8 + 3 and {p.dim() for p in others["params"]} == {1}


def test_moving_average_is_the_result(digits: Digits) -> None:
    averaged, plain = small_cnn(), small_cnn()
    fit(averaged, *digits, replace(SHORT, ema=0.5), progress=False)
    fit(plain, *digits, SHORT, progress=False)
    assert not torch.equal(averaged.classifier.weight, plain.classifier.weight)
    # The rate ends at zero, so a fast average ends near the weights it follows.
    torch.testing.assert_close(averaged.classifier.weight, plain.classifier.weight, rtol=0, atol=1e-2)


def test_held_out_part_is_monitored_and_the_test_set_only_at_the_end(digits: Digits) -> None:
    train, test = digits
    result = fit(small_cnn(), train, test, replace(SHORT, val_split=0.1), progress=False)
    assert "val_top1" in result.history[0] and "test_top1" not in result.history[0]
    assert len(result.evaluation.labels) == len(test)


def test_log_has_a_row_per_epoch(digits: Digits, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    result = fit(small_cnn(), *digits, SHORT, out=tmp_path, tensorboard=True, progress=False)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    columns = ["epoch", "lr", "train_loss", "train_top1", "test_loss", "test_top1", "seconds"]
    assert list(rows[0]) == columns
    assert [{k: float(v) for k, v in row.items()} for row in rows] == result.history
    assert list((tmp_path / "tensorboard").iterdir())


def test_auto_amp_follows_the_cpu() -> None:
    assert TrainConfig(amp="auto").autocast(torch.device("cpu"))._enabled is _cpu_has_bf16()
    assert not TrainConfig(amp="off").autocast(torch.device("cpu"))._enabled


def test_compiled_model_learns_the_same(digits: Digits) -> None:
    plain, compiled = small_cnn(), small_cnn()
    with pytest.MonkeyPatch.context() as patch:
        original = torch.compile
        patch.setattr(torch, "compile", lambda module: original(module, backend="aot_eager"))
        fit(compiled, *digits, replace(SHORT, compile=True), progress=False)
    fit(plain, *digits, SHORT, progress=False)
    torch.testing.assert_close(compiled.classifier.weight, plain.classifier.weight, rtol=0, atol=1e-2)


def test_divergence_is_an_error(digits: Digits) -> None:
    config = replace(SHORT, lr=1e30, clip_norm=0.0, warmup_epochs=0.0)
    with pytest.raises(
        PtqxError, match=r"training diverged: loss is (nan|inf) in epoch \d+, step \d+; lower --lr"
    ):
        fit(small_cnn(), *digits, config, progress=False)


def test_model_that_does_not_fit_is_said_before_training(digits: Digits) -> None:
    with pytest.raises(PtqxError, match="VGG does not take digits's 1x8x8 images"):
        fit(vgg11_bn(num_classes=10), *digits, SHORT, progress=False)
    with pytest.raises(PtqxError, match="the model gives 7 classes, digits has 10"):
        fit(cnn(num_classes=7), *digits, SHORT, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"epochs must be in \[1, inf\), got 0"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"warmup_epochs": 3.0}, r"warmup_epochs must be in \[0, epochs\], got 3.0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"ema": -0.1}, r"ema must be in \[0, 1\)"),
        ({"optimizer": "sdg"}, r"unknown optimizer 'sdg'; did you mean sgd\?"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin'; did you mean cosine\?"),
        ({"amp": "fp16"}, "unknown amp 'fp16'"),
    ],
)
def test_bad_config_is_an_error(change: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        replace(SHORT, **change)  # type: ignore[arg-type]


def test_evaluate_is_the_formula_for_every_batch_size(digits: Digits) -> None:
    _, test = digits
    model = small_cnn().eval()
    with torch.no_grad():
        logits = model(test.normalize(test.images))
    for batch_size in (1, 359, 360, 1000):
        result = evaluate(model, test, batch_size)
        torch.testing.assert_close(result.logits, logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(result.predictions, result.logits.argmax(1))
        assert torch.equal(result.labels, test.labels)
        assert result.top1 == 100 * (result.predictions == test.labels).sum().item() / 360
        assert result.loss == pytest.approx(F.cross_entropy(logits, test.labels).item(), rel=1e-4)


def test_evaluate_takes_loaders_and_puts_the_training_flags_back(digits: Digits) -> None:
    _, test = digits
    model = small_cnn().train()
    model.features[1].eval()
    flags = [module.training for module in model.modules()]
    before = copy.deepcopy(model)
    listed = evaluate(model, [(x, y) for x, y in Loader(test, 100)])
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(listed.predictions, evaluate(model, test).predictions)
    assert_same_weights(model, before)


def test_evaluate_refuses_what_it_cannot_score(digits: Digits) -> None:
    _, test = digits
    with pytest.raises(PtqxError, match="nothing to evaluate"):
        evaluate(small_cnn(), test.subset(slice(0, 0)))
    with pytest.raises(PtqxError, match=r"needs batches \(x, y\) with labels, got Tensor"):
        evaluate(small_cnn(), [torch.zeros(2, 1, 8, 8)])  # type: ignore[list-item]
    images = nn.Sequential(nn.Conv2d(1, 10, 3))
    with pytest.raises(PtqxError, match=r"logits of shape \(N, classes\); the model gives \(360, 10, 6, 6\)"):
        evaluate(images, test)
    broken = small_cnn()
    nn.init.constant_(broken.classifier.weight, math.nan)
    with pytest.raises(PtqxError, match="360 of 360 images gave NaN logits"):
        evaluate(broken, test)
