"""A run that was stopped anywhere continues to the same weights, bit by bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ptqx.data import ImageDataset
from ptqx.errors import PtqxError
from ptqx.files import read_tensors
from ptqx.train import Interrupted, TrainConfig, fit
from torch import Tensor, nn

Digits = tuple[ImageDataset, ImageDataset]
CONFIG = TrainConfig(epochs=3, batch_size=64, ema=0.9)
STEPS = 22  # per epoch


def network() -> nn.Module:
    """With dropout, so that the global random generator matters."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(288, 10),
    ]
    return nn.Sequential(*layers)


def signal_at(step: int, number: int):  # type: ignore[no-untyped-def]
    """A criterion that sends this process a signal when it is asked for the step-th time."""
    calls = 0

    def criterion(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), number)
        return nn.functional.cross_entropy(logits, y, label_smoothing=CONFIG.label_smoothing)

    return criterion


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), (
            f"{name} differs by {(left[name] - right[name]).abs().max()}"
        )


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_stopped_run_continues_bit_identically(
    digits: Digits, tmp_path: Path, step: int, number: int, optimizer: str
) -> None:
    config = replace(CONFIG, optimizer=optimizer, lr=0.01)
    whole = network()
    expected = fit(whole, *digits, config, progress=False)
    stopped = signal_at(step, number)
    with pytest.raises(
        Interrupted, match=r"stopped in epoch \d after step \d+; the same command continues"
    ) as caught:
        fit(network(), *digits, config, out=tmp_path, criterion=stopped, progress=False)
    assert caught.value.signal_number == number
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    continued = network()
    torch.manual_seed(999)
    result = fit(continued, *digits, config, out=tmp_path, progress=False)
    assert_same(continued.state_dict(), whole.state_dict())
    assert without_seconds(result.history) == without_seconds(expected.history)


def test_finished_run_gives_its_result_again(digits: Digits, tmp_path: Path) -> None:
    first, second = network(), network()
    expected = fit(first, *digits, CONFIG, out=tmp_path, progress=False)
    again = fit(second, *digits, CONFIG, out=tmp_path, progress=False)
    assert_same(second.state_dict(), first.state_dict())
    assert without_seconds(again.history) == without_seconds(expected.history)


def test_without_a_folder_ctrl_c_is_pythons_own(digits: Digits) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(network(), *digits, CONFIG, criterion=signal_at(3, signal.SIGINT), progress=False)


def test_another_config_is_refused_and_no_resume_starts_anew(digits: Digits, tmp_path: Path) -> None:
    fit(network(), *digits, CONFIG, out=tmp_path, progress=False)
    other = replace(CONFIG, lr=0.05, epochs=1)
    message = r"is of another run: epochs 3 \(now 1\), lr 0\.1 \(now 0\.05\); give the same options"
    with pytest.raises(PtqxError, match=message):
        fit(network(), *digits, other, out=tmp_path, progress=False)
    assert len(fit(network(), *digits, other, out=tmp_path, resume=False, progress=False).history) == 1


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_damaged_checkpoint_is_an_error(digits: Digits, tmp_path: Path, keep: float) -> None:
    fit(network(), *digits, CONFIG, out=tmp_path, progress=False)
    path = tmp_path / "checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(PtqxError, match=r"checkpoint\.pt"):
        fit(network(), *digits, CONFIG, out=tmp_path, progress=False)


def test_checkpoint_of_another_model_or_version_is_an_error(digits: Digits, tmp_path: Path) -> None:
    fit(network(), *digits, CONFIG, out=tmp_path, progress=False)
    wider = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(PtqxError, match=r"checkpoint\.pt is damaged \(RuntimeError"):
        fit(wider, *digits, CONFIG, out=tmp_path, progress=False)
    torch.save({"version": 99}, tmp_path / "checkpoint.pt")
    with pytest.raises(PtqxError, match="not a checkpoint of this version"):
        fit(network(), *digits, CONFIG, out=tmp_path, progress=False)


def test_killed_command_continues_bit_identically(
    tmp_path: Path, train_command: list[str], run_train
) -> None:  # type: ignore[no-untyped-def]
    options = ["--epochs", "8", "--batch-size", "32", "--ema", "0.99", "--threads", "1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_train(*options, "--out", whole).returncode == 0
    kills, moments = 0, random.Random(0)
    for _ in range(50):
        process = subprocess.Popen(
            [*train_command, *options, "--out", str(killed)], stderr=subprocess.DEVNULL
        )
        checkpoint = killed / "checkpoint.pt"
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.8) if kills < 2 else 0)
        if kills < 2 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait(timeout=300) == 0:
            break
    assert kills > 0, "the run ended before it could be killed"
    expected, about = read_tensors(whole / "model.safetensors")
    continued, about_continued = read_tensors(killed / "model.safetensors")
    assert_same(continued, expected)
    assert about_continued == about
    assert not list(killed.glob(".*.partial"))


def test_interrupted_command_says_one_line(tmp_path: Path, train_command: list[str]) -> None:
    command = [*train_command, "--epochs", "500", "--threads", "1", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert output.startswith("stopped in epoch ") and output.count("\n") == 1
    assert "Traceback" not in errors


def test_unfinished_write_is_removed_on_resume(digits: Digits, tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.pt.abc.partial").write_bytes(b"half")
    fit(network(), *digits, replace(CONFIG, epochs=1), out=tmp_path, progress=False)
    assert not list(tmp_path.glob(".*.partial"))
