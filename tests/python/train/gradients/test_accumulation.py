"""Gradients summed up in int8: error bound, small contributions, the optimizer's step, training."""

from __future__ import annotations

import copy
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from ptqx.data import ImageDataset
from ptqx.errors import PtqxError
from ptqx.models import cnn
from ptqx.train import Interrupted, TrainConfig, distributed, fit
from ptqx.train.gradients import Accumulation, GradientPath, Int8Gradients
from ptqx.train.gradients.accumulation import CHUNK, GROUP
from torch import Tensor, nn

Digits = tuple[ImageDataset, ImageDataset]


class Given(nn.Module):
    """Its gradient is whatever forward gets."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape).contiguous())

    def forward(self, gradient: Tensor) -> Tensor:
        return (self.weight * gradient).sum()


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [1, GROUP - 1, GROUP, CHUNK, CHUNK + GROUP + 3])
def test_one_gradient_is_off_by_less_than_a_step_of_its_group(size: int) -> None:
    model, gradient = Given(size), randn(size) * torch.logspace(-3, 3, size)
    gradients = Int8Gradients(model)
    model(gradient).backward()
    padded = nn.functional.pad(gradient, (0, -size % GROUP)).reshape(-1, GROUP)
    step = (padded.abs().amax(1) / 127).repeat_interleave(GROUP)[:size]
    assert ((gradients.sum_of("weight") - gradient).abs() < 1.0001 * step).all()
    assert gradients.nbytes == size + 4 * math.ceil(size / GROUP)
    assert model.weight.grad is None


def test_contributions_below_half_a_step_are_not_lost() -> None:
    model, micro_batches = Given(GROUP), 400
    gradients = Int8Gradients(model)
    small = torch.full((GROUP,), 0.2 / 127)  # of a step that the first value sets
    small[0] = 0.0
    first = torch.zeros(GROUP)
    first[0] = 1.0
    model(first).backward()
    for _ in range(micro_batches):
        model(small).backward()
    total = gradients.sum_of("weight")[1:]
    expected = micro_batches * 0.2 / 127  # 80 steps, each addition with a deviation of sqrt(0.16)
    deviation = math.sqrt(0.16 * micro_batches) / 127
    assert total.mean().item() == pytest.approx(expected, abs=5 * deviation / math.sqrt(GROUP - 1))
    assert ((total - expected).abs() < 6 * deviation).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_sum_has_the_shape_and_memory_order_of_its_parameter(memory_format: torch.memory_format) -> None:
    model = nn.Conv2d(3, 5, 2).to(memory_format=memory_format)  # type: ignore[call-overload]
    plain = copy.deepcopy(model)
    gradients = Int8Gradients(model)
    for network in (model, plain):
        network(randn(2, 3, 4, 4)).square().sum().backward()
    for name, parameter in plain.named_parameters():
        total = gradients.sum_of(name)
        assert total.stride() == parameter.stride()
        assert (total - parameter.grad).abs().max() <= parameter.grad.abs().max() / 127
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in plain.parameters()))
    assert gradients.norm() == pytest.approx(norm, rel=0.01)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_step_is_that_of_all_parameters_at_once(optimizer: str, clip_norm: float) -> None:
    options = {"lr": 0.1, "weight_decay": 0.01} | ({"momentum": 0.9} if optimizer == "SGD" else {})
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    together = copy.deepcopy(model)
    gradients = Int8Gradients(model)
    one = getattr(torch.optim, optimizer)(model.parameters(), **options)
    all_at_once = getattr(torch.optim, optimizer)(together.parameters(), **options)
    for step in range(3):
        model(randn(5, 4, seed=step)).square().sum().backward()
        for name, parameter in together.named_parameters():
            parameter.grad = gradients.sum_of(name)
        if clip_norm:
            nn.utils.clip_grad_norm_(together.parameters(), clip_norm)
        gradients.step(one, clip_norm)
        all_at_once.step()
        for left, right in zip(model.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-7)
    assert gradients.nbytes == 0


def test_gradient_that_is_not_finite_is_named_and_nothing_is_kept() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    gradients = Int8Gradients(model)
    with pytest.raises(PtqxError, match=r"the gradient of 1\.bias is not finite"):
        (model(torch.ones(1, 2)).sum() * math.nan).backward()
    assert gradients.nbytes == 0 and all(p.grad is None for p in model.parameters())


def test_threads_and_repetition_make_no_difference() -> None:
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        model = Given(2 * CHUNK + 5)
        gradients = Int8Gradients(model, seed=3)
        for seed in range(3):
            model(randn(2 * CHUNK + 5, seed=seed)).backward()
        results.append(gradients.sum_of("weight"))
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "micro_batches must be at least 1, got 0"), ((2, 4), "must be 32 or 8, got 4")],
)
def test_other_accumulations_are_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        Accumulation(*arguments)


def test_several_processes_are_told_that_int8_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(PtqxError, match="8 bits save memory in one process alone"):
        GradientPath(cnn(), TrainConfig(accumulation=Accumulation(2, 8)))


def test_micro_batches_of_float32_are_the_whole_batch(digits: Digits) -> None:
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # without batch norm, which sees the micro-batch
    parts = copy.deepcopy(whole)
    config = TrainConfig(epochs=1, batch_size=64, lr=0.01, amp="off")
    fit(whole, *digits, config, progress=False)
    accumulated = TrainConfig(epochs=1, batch_size=64, lr=0.01, amp="off", accumulation=Accumulation(3))
    fit(parts, *digits, accumulated, progress=False)
    for left, right in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-5)


def test_int8_accumulation_learns_as_float32_does(digits: Digits) -> None:
    top1 = {}
    for bits in (32, 8):
        torch.manual_seed(0)
        config = TrainConfig(epochs=5, batch_size=64, accumulation=Accumulation(4, bits))
        top1[bits] = fit(cnn(width=8), *digits, config, progress=False).evaluation.top1
    assert top1[32] > 85 and top1[8] > top1[32] - 2.5


def test_stopped_run_continues_bit_identically(digits: Digits, tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, batch_size=256, accumulation=Accumulation(3, 8))
    calls = 0

    def stopping(logits: Tensor, y: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 20:  # the second micro-batch of step 7; there are 5 steps an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return nn.functional.cross_entropy(logits, y, label_smoothing=config.label_smoothing)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return cnn(width=2)

    whole, resumed = network(), network()
    fit(whole, *digits, config, progress=False)
    with pytest.raises(Interrupted, match="epoch 2 after step 2"):
        fit(network(), *digits, config, out=tmp_path, criterion=stopping, progress=False)
    fit(resumed, *digits, config, out=tmp_path, progress=False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_run_leaves_gradients_alone_afterwards(digits: Digits) -> None:
    model = cnn(width=2)
    config = TrainConfig(epochs=1, batch_size=512, accumulation=Accumulation(2, 8))
    fit(model, *digits, config, progress=False)
    model(torch.ones(2, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
