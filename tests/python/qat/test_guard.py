"""Which epoch is kept, and what counts as a collapse."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from ptqx import graph
from ptqx.errors import PtqxError
from ptqx.qat.guard import IntegerGuard
from torch import Tensor, nn

Epoch = tuple[float, float]  # val_top1, train_top1


def kept_after(
    epochs: Sequence[Epoch], images: int = 10_000, classes: int = 10, start: float = 0.0
) -> IntegerGuard:
    """The guard after a run; the model's weight is the epoch's number."""
    guard = IntegerGuard(len(epochs), classes, images, "w4a4", None, start)
    model = nn.Linear(1, 1, bias=False)
    for number, (val, train) in enumerate(epochs, start=1):
        nn.init.constant_(model.weight, number)
        guard.end_epoch(model, {"epoch": number, "val_top1": val, "train_top1": train})
    guard.finish(model)
    assert model.weight.item() == guard.kept_epoch
    return guard


def test_latest_epoch_within_one_standard_error_of_the_best_of_the_last_third() -> None:
    # one standard error of 80 % on 10,000 images is 0.4
    learned = [(99.0, 70.0)] * 4
    assert kept_after([*learned, (80.0, 70.0), (79.7, 70.0)]).kept_epoch == 6
    assert kept_after([*learned, (80.0, 70.0), (79.5, 70.0)]).kept_epoch == 5
    assert kept_after([(80.0, 70.0)]).kept_epoch == 1
    assert kept_after([*learned, (80.0, 70.0), (79.5, 70.0)], images=1000).kept_epoch == 6


@pytest.mark.parametrize(
    ("epochs", "collapsed_in", "message"),
    [
        ([(80.0, 80.0), (39.0, 60.0)], 2, "gets 39.0 % .* after 80.0 % in the epoch before"),
        ([(30.0, 80.0)], 1, "while training reaches 80.0 %: its batch norm statistics or scales are off"),
        ([(79.0, 80.0)] * 3 + [(30.0, 80.0)], 4, "while training reaches 80.0 %"),
        ([(10.0, 11.0), (10.0, 11.0)], 2, r"no better than guessing \(10.0 %\)"),
    ],
)
def test_collapse(epochs: list[Epoch], collapsed_in: int, message: str) -> None:
    with pytest.raises(PtqxError, match=f"training collapsed in epoch {collapsed_in} .*{message}"):
        kept_after(epochs)


def test_collapse_in_the_first_epoch_of_what_was_alive() -> None:
    with pytest.raises(PtqxError, match=r"collapsed in epoch 1 .*no better than guessing \(10.0 %\)"):
        kept_after([(10.0, 11.0)], start=86.0)
    assert kept_after([(10.0, 11.0)], start=29.0).epochs == 1  # began near chance: one more epoch to learn
    assert kept_after([(25.0, 30.0)], start=86.0).epochs == 1


@pytest.mark.parametrize(
    "epochs",
    [
        [(95.0, 90.0), (70.0, 90.0), (50.0, 90.0)],  # forgets what it knew by heart
        [(11.0, 12.0), (40.0, 30.0)],  # late, but learns
        [(20.0, 10.0), (16.0, 11.0)],
    ],
)
def test_no_collapse(epochs: list[Epoch]) -> None:
    assert kept_after(epochs).epochs == len(epochs)


def test_state_goes_on_and_the_kept_model_is_written(
    trained: nn.Module, calibration: list[tuple[Tensor, Tensor]], tmp_path: Path
) -> None:
    prep = graph.calibrate(
        graph.prepare(trained, "w4a4", calibration[0][0][:1], qat=True), calibration
    ).eval()
    guard = IntegerGuard(3, 10, 1000, "w4a4", tmp_path)
    module = guard.score(prep)
    guard.end_epoch(prep, {"epoch": 1, "val_top1": 90.0, "train_top1": 90.0})
    x = calibration[0][0]
    assert torch.equal(graph.load(tmp_path / "best.ptqx")(x), module(x))
    again = IntegerGuard(3, 10, 1000, "w4a4", tmp_path)
    again.load_state_dict(copy.deepcopy(guard.state_dict()))
    with pytest.raises(PtqxError, match=r"epoch 1 is in .*best\.ptqx"):
        again.end_epoch(prep, {"epoch": 2, "val_top1": 20.0, "train_top1": 30.0})
