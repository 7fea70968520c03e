"""Gradients between processes: what is sent, kept and averaged; training by it, stopped and continued."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ptqx.data import ImageDataset
from ptqx.errors import PtqxError
from ptqx.models import cnn
from ptqx.train import TrainConfig, fit
from ptqx.train.gradients import GradientExchange, GradientFormat
from torch import Tensor, nn

Torchrun = Callable[..., str]
NAMES, SIZES = ("weight", "bias"), (15, 5)
FORMATS = [
    GradientFormat(8),
    GradientFormat(8, "stochastic"),
    GradientFormat(4),
    GradientFormat(4, "stochastic"),
    GradientFormat(1),
]


def exchange(format: GradientFormat, seed: int = 0) -> GradientExchange:
    return GradientExchange(nn.Linear(3, 5), format, seed)


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(size, generator=generator) for size in SIZES]


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_message_has_the_bytes_of_its_codes_and_scales(format: GradientFormat) -> None:
    message = exchange(format).write_message(NAMES, gradients(0))
    assert message.nbytes == exchange(format).message_bytes(SIZES)
    assert message.nbytes == 8 + {8: 15 + 5, 4: 8 + 3, 1: 2 + 1}[format.bits]


@pytest.mark.parametrize("format", [f for f in FORMATS if f.rounding == "nearest"], ids=str)
def test_what_is_not_sent_now_is_sent_later(format: GradientFormat) -> None:
    sender = exchange(format)
    sent, wanted = [torch.zeros(size) for size in SIZES], [torch.zeros(size) for size in SIZES]
    for step in range(30):
        given = gradients(step)
        arrived = sender.read_messages(NAMES, SIZES, [sender.write_message(NAMES, given)])
        sent = [a + b for a, b in zip(sent, arrived, strict=True)]
        wanted = [a + b for a, b in zip(wanted, given, strict=True)]
    for name, total, goal in zip(NAMES, sent, wanted, strict=True):
        torch.testing.assert_close(total + sender.errors[name], goal, rtol=1e-5, atol=1e-5)
        assert sender.errors[name].abs().max() > 0


def test_stochastic_rounding_keeps_nothing_and_takes_other_numbers_every_step() -> None:
    sender = exchange(GradientFormat(4, "stochastic"))
    messages = []
    for sender.step in (0, 1, 0):
        messages.append(sender.write_message(NAMES, gradients(0)))
    assert not sender.errors
    assert torch.equal(messages[0], messages[2]) and not torch.equal(messages[0], messages[1])
    other_seed = exchange(GradientFormat(4, "stochastic"), seed=1)
    assert not torch.equal(other_seed.write_message(NAMES, gradients(0)), messages[0])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_result_is_the_mean_and_does_not_depend_on_the_buckets(format: GradientFormat) -> None:
    messages = [exchange(format).write_message(NAMES, gradients(rank)) for rank in (0, 1)]
    together = exchange(format).read_messages(NAMES, SIZES, messages)
    single = [exchange(format).read_messages(NAMES, SIZES, [message]) for message in messages]
    for mean, first, second in zip(together, *single, strict=True):
        assert torch.equal(mean, (first + second) / 2)
    for index, name in enumerate(NAMES):
        alone = [exchange(format).write_message([name], [gradients(rank)[index]]) for rank in (0, 1)]
        assert torch.equal(exchange(format).read_messages([name], [SIZES[index]], alone)[0], together[index])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_gradient_that_is_not_finite_is_named_to_every_rank_and_its_error_kept(
    format: GradientFormat,
) -> None:
    sender, healthy = exchange(format), exchange(format)
    sender.write_message(NAMES, gradients(0))
    kept = {name: error.clone() for name, error in sender.errors.items()}
    bad = gradients(1)
    bad[1][2] = math.nan
    messages = [healthy.write_message(NAMES, gradients(1)), sender.write_message(NAMES, bad)]
    for receiver in (sender, healthy):
        with pytest.raises(PtqxError, match="the gradient of bias on rank 1 is not finite"):
            receiver.read_messages(NAMES, SIZES, messages)
    if format.error_feedback:
        assert torch.equal(sender.errors["bias"], kept["bias"])


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_state_goes_on_as_if_nothing_had_happened(format: GradientFormat) -> None:
    first, second = exchange(format), exchange(format)
    for step in range(3):
        first.step = step
        first.write_message(NAMES, gradients(step))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.write_message(NAMES, gradients(9)), second.write_message(NAMES, gradients(9)))


def test_state_of_another_format_or_model_is_refused() -> None:
    state = exchange(GradientFormat(4)).state_dict()
    with pytest.raises(PtqxError, match="'bits': 4"):
        exchange(GradientFormat(8)).load_state_dict(state)
    sender = exchange(GradientFormat(8))
    sender.write_message(NAMES, gradients(0))
    with pytest.raises(PtqxError, match="another model: it has errors of weight"):
        GradientExchange(nn.Linear(2, 5), GradientFormat(8)).load_state_dict(sender.state_dict())


def test_one_process_has_nobody_to_send_to(digits: tuple[ImageDataset, ImageDataset]) -> None:
    config = TrainConfig(epochs=1, gradients=GradientFormat(1))
    with pytest.raises(PtqxError, match="gradients of 1 bit are what several processes send each other"):
        fit(cnn(), *digits, config, progress=False)
    assert replace(config, gradients=None).gradients is None


HOOK = """
import gc
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from ptqx.train import distributed
from ptqx.train.gradients import GradientExchange, GradientFormat

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10))

def backward(model, step, poison=0.0):
    torch.manual_seed(100 * step + distributed.rank())
    model.zero_grad()
    (model(torch.randn(4, 1, 6, 6)).square().mean() * (1 + poison)).backward()

def check():
    with distributed.process_group(torch.device("cpu")):
        rank = distributed.rank()
        formats = GradientFormat(8), GradientFormat(4), GradientFormat(4, "stochastic"), GradientFormat(1)
        for format in formats:
            # Buckets of a kilobyte: several a step, and others after the first step.
            model, own = DistributedDataParallel(network(), bucket_cap_mb=0.001), network()
            exchange, by_hand = GradientExchange(model.module, format), GradientExchange(own, format)
            exchange.attach(model)
            for step in range(4):
                by_hand.step = step
                backward(model, step)
                backward(own, step)
                for name, parameter in own.named_parameters():
                    message = by_hand.write_message([name], [parameter.grad.flatten()])
                    messages = distributed.gather(message)
                    mean, = by_hand.read_messages([name], [parameter.numel()], messages)
                    arrived = dict(model.module.named_parameters())[name].grad
                    assert torch.equal(arrived.flatten(), mean), (format, step, name)
            sizes = [p.numel() for p in own.parameters()]
            assert exchange.bytes_sent == 4 * exchange.message_bytes(sizes), exchange.bytes_sent
            assert exchange.float32_bytes_sent == 4 * 4 * sum(sizes), exchange.float32_bytes_sent
            try:
                backward(model, 4, poison=float("nan") if rank == 1 else 0.0)
                raise SystemExit("NaN went through")
            except RuntimeError as error:
                assert "on rank 1 is not finite" in str(error), error
            assert "on rank 1 is not finite" in str(exchange.failure)
            backward(model, 5)
            exchange.raise_failure()
            assert all(p.grad.isfinite().all() for p in model.parameters())
        distributed.gather(None)
        if rank == 0:
            print("equal")

check()
gc.collect()  # gloo's threads are to find nothing of Python's to release while it ends
"""

TRAINING = """
import os, signal, sys
import torch
from pathlib import Path
from torch import nn
from ptqx.data import load
from ptqx.errors import PtqxError
from ptqx.models import cnn
from ptqx.train import Interrupted, TrainConfig, distributed, fit
from ptqx.train.gradients import GradientFormat

digits = load("digits"), load("digits", split="test")

def network():
    torch.manual_seed(0)
    return cnn(width=4)

class Calls:
    def __init__(self, at, action):
        self.left, self.action = at, action

    def __call__(self, logits, y, x):
        self.left -= 1
        if self.left == 0 and distributed.rank() == 1:
            logits = self.action(logits)
        return nn.functional.cross_entropy(logits, y, label_smoothing=0.1)

def stop(logits):
    os.kill(os.getpid(), signal.SIGTERM)
    return logits

def die(logits):
    os._exit(0)

def poison(logits):  # the loss is finite, its gradient is not
    logits.register_hook(lambda gradient: gradient * float("nan"))
    return logits

def rows(result):
    names = ("epoch", "lr", "train_loss", "train_top1", "gradient_bytes", "float32_gradient_bytes")
    return [[row[name] for name in names] for row in result.history]

def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))

out = Path(sys.argv[1])
with distributed.process_group(torch.device("cpu")):
    for format in GradientFormat(4, "stochastic"), GradientFormat(1):
        config = TrainConfig(epochs=2, batch_size=64, gradients=format)
        folder = out / str(format.bits)
        whole, resumed = network(), network()
        expected = fit(whole, *digits, config, progress=False)
        try:
            fit(network(), *digits, config, out=folder, criterion=Calls(27, stop), progress=False)
            raise SystemExit("not stopped")
        except Interrupted as interruption:
            assert "epoch 2 after step 5" in str(interruption), interruption
        distributed.gather(None)
        result = fit(resumed, *digits, config, out=folder, progress=False)
        assert rows(result) == rows(expected), (rows(result), rows(expected))
        assert same(whole, resumed)
        ranks = distributed.gather([p.detach() for p in whole.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*ranks))
    failing, criterion = network(), Calls(27, poison)
    try:
        fit(failing, *digits, config, out=out / "poisoned", criterion=criterion, progress=False)
        raise SystemExit("NaN went through")
    except PtqxError as error:
        assert "on rank 1 is not finite" in str(error), error
    assert all(p.isfinite().all() for p in failing.parameters())
    distributed.gather(None)
    resumed = network()
    result = fit(resumed, *digits, config, out=out / "poisoned", progress=False)
    assert rows(result) == rows(expected) and same(whole, resumed)
    try:  # rank 1 is gone after this
        fit(network(), *digits, config, out=out / "alone", criterion=Calls(27, die), progress=False)
        raise SystemExit("nobody noticed")
    except PtqxError as error:
        assert "another process of this run ended" in str(error) and "continues from" in str(error), error
    assert (out / "alone" / "checkpoint.pt").is_file()
    print("equal", flush=True)
    os._exit(0)
"""


def test_hook_sends_what_was_computed_by_hand_in_any_buckets_and_names_nan(torchrun: Torchrun) -> None:
    assert torchrun(HOOK) == "equal\n"


def test_stopped_training_continues_bit_identically_and_nan_loses_nothing(
    torchrun: Torchrun, tmp_path: Path
) -> None:
    assert torchrun(TRAINING, tmp_path / "out") == "equal\n"
