from __future__ import annotations

import pytest
import torch
from ptqx import graph
from ptqx.errors import PtqxError
from ptqx.models import cnn
from ptqx.qat import GradualSparsity, KeepZeros, QATConfig, train_quantized
from ptqx.sparsity import Pattern, layer_weights, sparsify, zero_masks, zero_share
from ptqx.train import Interrupted, TrainConfig, fit
from torch import nn

X = torch.zeros(1, 1, 8, 8)
FLOAT = TrainConfig(epochs=3, batch_size=100, lr=0.05, amp="off")


def trained_sparse(few, config: TrainConfig, pattern: Pattern, **arguments) -> nn.Module:
    torch.manual_seed(0)
    model = cnn(width=4)
    hook = GradualSparsity(layer_weights(model, X), pattern, begin=0.5, end=2.0)
    fit(model, *few, config, hooks=[hook], device="cpu", progress=False, **arguments)
    return model


@pytest.mark.parametrize(("pattern", "share"), [(Pattern(share=0.8), 0.795), (Pattern(keep=2, of=4), 0.48)])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_ends_as_sparse_as_was_asked(few, pattern: Pattern, share: float, ema: float) -> None:
    model = trained_sparse(few, TrainConfig(epochs=3, batch_size=100, lr=0.05, amp="off", ema=ema), pattern)
    assert share <= zero_share(model) <= share + 0.02


def test_sparsity_rises_and_what_is_gone_stays_gone_after_its_end(few) -> None:
    shares: list[float] = []
    masks: list[dict[str, torch.Tensor]] = []

    class Watch(KeepZeros):
        def end_step(self, model: nn.Module, position: float) -> None:
            shares.append(zero_share(model))
            if position > 2.0:
                masks.append(zero_masks(model))

    model = cnn(width=4)
    hook = GradualSparsity(layer_weights(model, X), Pattern(share=0.8), 0.5, 2.0)
    fit(model, *few, FLOAT, hooks=[hook, Watch()], device="cpu", progress=False)
    assert shares[0] == 0 and shares == sorted(shares)
    assert len({round(share, 3) for share in shares}) > 4
    assert all(torch.equal(later[key], masks[0][key]) for later in masks for key in masks[0])


def test_a_stopped_run_goes_on_with_the_same_masks(few, tmp_path, monkeypatch) -> None:
    whole = trained_sparse(few, FLOAT, Pattern(share=0.8))

    class Stop(KeepZeros):
        def end_step(self, model: nn.Module, position: float) -> None:
            if position >= 1.5:
                raise KeyboardInterrupt

    torch.manual_seed(0)
    model = cnn(width=4)
    hook = GradualSparsity(layer_weights(model, X), Pattern(share=0.8), begin=0.5, end=2.0)
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        fit(model, *few, FLOAT, hooks=[hook, Stop()], device="cpu", progress=False, out=tmp_path)
    torch.manual_seed(0)
    again = cnn(width=4)
    hook = GradualSparsity(layer_weights(again, X), Pattern(share=0.8), begin=0.5, end=2.0)
    fit(again, *few, FLOAT, hooks=[hook, KeepZeros()], device="cpu", progress=False, out=tmp_path)
    for key, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


@pytest.mark.parametrize("recipe", ["int8", "int4", "ternary"])
def test_zeros_survive_quantization_aware_training(trained, few, calibration, recipe: str) -> None:
    sparse = sparsify(trained, X, "2:4")
    config = QATConfig(epochs=2, lr=0.01, progressive=())
    prepared = train_quantized(sparse, recipe, *few, config, calibration, hooks=[KeepZeros()], progress=False)
    masks = zero_masks(sparse)
    for name, mask in masks.items():
        weight = prepared.get_parameter(name)
        assert not bool(weight[~mask].any())
        assert not torch.equal(weight[mask], sparse.get_parameter(name)[mask])  # the others were trained
    assert zero_share(graph.convert(prepared)) >= zero_share(sparse)


@pytest.mark.parametrize("arguments", [(-1.0, 2.0, 0.1), (2.0, 1.0, 0.1), (0.0, 1.0, 0.0)])
def test_a_schedule_that_makes_no_sense_is_refused(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(PtqxError, match="expected 0 <= begin <= end and every > 0"):
        GradualSparsity([], Pattern(share=0.5), *arguments)
