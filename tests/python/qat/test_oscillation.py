"""Tracking against the paper's step-by-step algorithm; frozen weights keep their codes."""

from __future__ import annotations

import pytest
import torch
from ptqx.graph import calibrate, prepare
from ptqx.qat.oscillation import FIRST_THRESHOLD, MOMENTUM, FreezeOscillating, _Layer, _Track
from ptqx.quant import recipe
from torch import Tensor, nn


def by_the_paper(steps: list[Tensor], thresholds: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1, dense: codes, frequencies and what is frozen after the last step."""
    codes = steps[0].float()
    average, frequency = codes.clone(), torch.zeros_like(codes)
    direction, frozen = torch.zeros_like(codes), torch.zeros_like(codes, dtype=torch.bool)
    for new, threshold in zip(steps[1:], thresholds, strict=True):
        new = torch.where(frozen, codes, new.float())
        change = (new - codes).sign()
        swung = (change != 0) & (change * direction < 0)
        frequency = torch.where(frozen, frequency, MOMENTUM * swung.float() + (1 - MOMENTUM) * frequency)
        average = torch.where(frozen, average, MOMENTUM * new + (1 - MOMENTUM) * average)
        direction = torch.where(change != 0, change, direction)
        stops = (frequency > threshold) & (change != 0) & ~frozen
        codes = torch.where(stops, average.round(), new)
        frozen = frozen | stops
    return codes, frequency, frozen


@pytest.mark.parametrize("count", [400, 403])
def test_tracking_equals_the_dense_algorithm(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = [torch.randint(-2, 2, (count,), generator=generator).to(torch.int8)]
    for _ in range(200):
        moves = torch.rand(count, generator=generator) < torch.linspace(0, 0.3, count)
        new = torch.randint(-2, 2, (count,), generator=generator).to(torch.int8)
        steps.append(torch.where(moves, new, steps[-1]))
    thresholds = [0.12 - 0.0003 * step for step in range(200)]
    track = _Track.of(steps[0].clone())
    for step, (codes, threshold) in enumerate(zip(steps[1:], thresholds, strict=True), start=1):
        track.follow(codes, step, threshold)
    codes, frequency, frozen = by_the_paper(steps, thresholds)
    assert 20 < int(frozen.sum()) < 380
    assert torch.equal(track.frozen, frozen)
    assert torch.equal(track.codes.float(), codes)
    now = track.frequency * (1 - MOMENTUM) ** (200 - track.changed).float()
    torch.testing.assert_close(now[~frozen], frequency[~frozen], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["w2a2", "w3a3", "w4a4", "int4-weight-only"])
def test_frozen_weights_keep_their_codes_whatever_the_optimizer_does(
    trained: nn.Module, calibration: list[tuple[Tensor, Tensor]], name: str
) -> None:
    chosen = recipe(name, edge_bits=None)
    prep = calibrate(prepare(trained, chosen, calibration[0][0][:1], qat=True), calibration).train()
    prep.to(memory_format=torch.channels_last)
    hook = FreezeOscillating(0.02, 1.0)
    hook.begin_step(prep, 0.0)
    assert set(hook.layers) == {node.name for node in prep.graph if prep.schemes.get(node.name, (0, 0))[0]}
    for track in hook.layers.values():
        track.frozen[::3] = True
    before = {layer: track.codes.clone() for layer, track in hook.layers.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in prep.parameters():
            parameter.mul_(1 + 0.2 * torch.randn(parameter.shape, generator=generator))
    hook.end_step(prep, 1.0)
    moved = 0
    for layer, codes in before.items():
        now = _Layer(prep, layer).codes()
        assert torch.equal(now[::3], codes[::3]), layer
        moved += int((now != codes).sum())
    assert moved > 0


def test_threshold_falls_by_a_cosine() -> None:
    hook = FreezeOscillating(0.01, 10.0)
    assert hook._threshold(0.0) == pytest.approx(0.01 * FIRST_THRESHOLD)
    assert hook._threshold(5.0) == pytest.approx(0.01 * (1 + FIRST_THRESHOLD) / 2)
    assert hook._threshold(10.0) == pytest.approx(0.01)


def test_layers_of_8_bits_are_left_alone(trained: nn.Module) -> None:
    prep = prepare(trained, "w4a4", torch.zeros(1, 1, 8, 8), qat=True)
    prep.fit_weights()
    hook = FreezeOscillating(0.01, 1.0)
    hook.begin_step(prep, 0.0)
    tracked = set(hook.layers)
    assert tracked == {name for name, (weights, _) in prep.schemes.items() if weights.bits < 8} != set()
