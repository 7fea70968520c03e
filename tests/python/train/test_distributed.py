"""Two processes under torchrun: a run that one of them stops continues bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Torchrun = Callable[..., str]

WORKER = """
import os, signal, sys
import torch
from pathlib import Path
from torch import nn
from ptqx.data import load
from ptqx.train import Interrupted, TrainConfig, distributed, fit

STEPS, STOP = 22, 22 + 5
config = TrainConfig(epochs=3, batch_size=64, ema=0.9, label_smoothing=0.0)
digits = load("digits"), load("digits", split="test")
calls = 0

def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)]
    return nn.Sequential(*body, nn.Linear(144, 10))

def stopping(logits, y, x):
    global calls
    calls += 1
    if calls == STOP and distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return nn.functional.cross_entropy(logits, y)

def rows(result):
    return [(row["epoch"], row["lr"], row["train_loss"], row["train_top1"]) for row in result.history]

with distributed.process_group(torch.device("cpu")):
    whole, resumed = network(), network()
    expected = fit(whole, *digits, config, progress=False)
    try:
        fit(network(), *digits, config, out=sys.argv[1], criterion=stopping, progress=False)
        raise SystemExit("not stopped")
    except Interrupted as interruption:
        assert f"epoch 2 after step {STOP - STEPS}" in str(interruption), interruption
    distributed.gather(None)
    result = fit(resumed, *digits, config, out=sys.argv[1], progress=False)
    assert rows(result) == rows(expected), (rows(result), rows(expected))
    if distributed.rank() == 0:
        for name, tensor in whole.state_dict().items():
            assert torch.equal(tensor, resumed.state_dict()[name]), name
        print("equal")
"""


def test_run_stopped_by_one_process_continues_bit_identically(tmp_path: Path, torchrun: Torchrun) -> None:
    assert torchrun(WORKER, tmp_path / "out") == "equal\n"
