from __future__ import annotations

import copy

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import SimulatedModel, calibrate, convert, prepare
from ptqx.quant import recipe
from torch import nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def calibrated(qat: bool = False, quantizer: str | None = None) -> SimulatedModel:
    torch.manual_seed(0)
    model = networks.with_statistics(networks.Residual())
    return calibrate(prepare(model, recipe("int8", quantizer=quantizer), X, qat), [X])


def test_prepare_keeps_float_keys_submodules_and_modes_and_does_not_change_its_argument() -> None:
    model = networks.with_statistics(networks.Residual()).train()
    before = copy.deepcopy(model.state_dict())
    prep = prepare(model, "int8", X)
    assert set(before) <= set(prep.state_dict())
    assert all(k in before or k.startswith("quantizers.") for k in prep.state_dict())
    assert isinstance(prep.conv1, nn.Conv2d) and prep.training
    calibrate(prep, [X])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert prep.conv1.weight is not model.conv1.weight


@pytest.mark.parametrize("qat", [False, True], ids=["ptq", "qat"])
def test_state_dict_loads_strictly_before_and_after_calibration(qat: bool) -> None:
    fresh = prepare(networks.Residual(), "int8", X, qat)
    uncalibrated = copy.deepcopy(fresh)
    done = calibrated(qat)
    uncalibrated.load_state_dict(fresh.state_dict())
    fresh.load_state_dict(done.state_dict())
    assert torch.equal(fresh.eval()(X), done.eval()(X))


def test_eval_before_calibration_says_what_to_do() -> None:
    with pytest.raises(PtqxError, match=r"input.quantize.*not calibrated.*calibrate"):
        prepare(networks.Residual(), "int8", X).eval()(X)


def test_training_forward_has_gradients_for_every_parameter() -> None:
    prep = calibrated(qat=True, quantizer="lsq").train()
    prep(X).square().sum().backward()
    without = [name for name, p in prep.named_parameters() if p.grad is None or not p.grad.any()]
    # The bias of a convolution before a batch norm in training cancels out.
    assert [n for n in without if n != "conv2.bias"] == []


def test_qat_learns_statistics_and_lowers_the_loss() -> None:
    prep = calibrated(qat=True).train()
    labels = torch.tensor([0, 1, 2, 3])
    mean = prep.bn1.running_mean.clone()
    optimizer = torch.optim.Adam(prep.parameters(), 0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(prep(X), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert not torch.equal(mean, prep.bn1.running_mean)
    model = convert(prep)
    assert torch.equal(model(X), prep.eval()(X))


def test_training_forward_of_qat_equals_folded_fake_quantization_while_batch_norm_rests() -> None:
    prep, folded = calibrated(qat=True).eval(), calibrated(qat=False).eval()
    torch.testing.assert_close(prep.fake_quantized(X), folded.fake_quantized(X), rtol=1e-4, atol=1e-4)


def test_batch_norm_with_gamma_zero_trains_without_nan() -> None:
    prep = calibrated(qat=True)
    with torch.no_grad():
        prep.bn2.weight.zero_()
    prep.fit_weights()
    prep.train()(X).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in prep.parameters() if p.grad is not None)


@pytest.mark.parametrize("qat", [False, True], ids=["ptq", "qat"])
@pytest.mark.parametrize("quantizer", ["fixed", "moving_average", "lsq"])
def test_training_forward_compiles_as_one_graph(quantizer: str, qat: bool) -> None:
    prep = calibrated(qat, quantizer).train()
    compiled = torch.compile(copy.deepcopy(prep), fullgraph=True, backend="aot_eager")
    expected, got = prep(X), compiled(X)
    assert torch.equal(got, expected)
    got.sum().backward()


def test_eval_compiles_with_a_dynamic_batch_and_exports() -> None:
    prep = calibrated().eval()
    compiled = torch.compile(prep, fullgraph=True, backend="aot_eager", dynamic=True)
    exported = torch.export.export(prep, (X,), dynamic_shapes=({0: torch.export.Dim("n")},)).module()
    for batch in (X, X[:3], torch.cat([X, X])):
        assert torch.equal(compiled(batch), prep(batch))
        assert torch.equal(exported(batch), prep(batch))


def test_bfloat16_autocast_passes_codes_exactly() -> None:
    prep = calibrated(qat=True).train()
    inputs: list[torch.Tensor] = []
    original = F.conv2d

    def recorded(x: torch.Tensor, weight: torch.Tensor, *args: object) -> torch.Tensor:
        inputs.extend((x.detach(), weight.detach()))
        return original(x, weight, *args)

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        patch.setattr(F, "conv2d", recorded)
        prep(X).float().sum().backward()
    assert len(inputs) == 6
    for codes in inputs:
        rounded = codes.bfloat16().float()
        assert torch.equal(rounded, rounded.round()) and rounded.abs().max() <= 255


def test_autocast_does_not_change_eval() -> None:
    prep = calibrated().eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(prep(X), prep(X))
        inside = prep(X)
    assert torch.equal(inside, prep(X))


def test_copies_and_averaged_models_run() -> None:
    prep = calibrated(qat=True)
    average = torch.optim.swa_utils.AveragedModel(prep)
    average.update_parameters(prep)
    average.update_parameters(prep)
    assert torch.allclose(average.module.eval()(X), prep.eval()(X), atol=1e-4)
    assert torch.equal(copy.deepcopy(prep)(X), prep(X))


def test_eval_raises_for_nan_in_the_input_with_the_count() -> None:
    x = X.clone()
    x[0, 0, 0, :2] = float("nan")
    with pytest.raises(PtqxError, match=r"input.quantize: 2 of 768 values are NaN"):
        calibrated().eval()(x)
