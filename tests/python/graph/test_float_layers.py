"""Layers that a recipe leaves float, held in 32 or 16 bits, among integer ones."""

from __future__ import annotations

from pathlib import Path

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import calibrate, convert, coverage, load, prepare, quantize, save
from ptqx.quant import FLOAT_DTYPES, float_dtype, recipe, resolve
from ptqx.sparsity import zero_share
from torch import Tensor, nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
DTYPES = ["fp32", "fp16", "bf16"]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return networks.with_statistics(networks.Residual()).eval()


def held_in(dtype: str, *layers: str):
    return recipe("int8", overrides={layer: {"dtype": dtype} for layer in layers})


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_rounded_to_it_and_stored_so(dtype: str, network: nn.Module, tmp_path: Path) -> None:
    model = quantize(network, [X], held_in(dtype, "fc", "conv2"))
    kept = model.state_dict()["fc.weight"]
    assert kept.dtype == FLOAT_DTYPES[dtype]
    assert torch.equal(kept, network.fc.weight.detach().to(kept.dtype))
    values: dict[str, Tensor] = {}
    model.run(X, values)
    node = model.graph.nodes["fc"]
    expected = F.linear(values[node.inputs[0]], kept.float(), network.fc.bias)
    torch.testing.assert_close(values["fc"], expected)
    rows = {row.name: row for row in coverage(model).rows}
    assert rows["fc"].execution == "float" and rows["conv1"].execution == "integer"
    assert rows["fc"].reason == f"the recipe leaves its weights {dtype}"
    save(model, tmp_path / "m.ptqx")
    loaded = load(tmp_path / "m.ptqx")
    assert torch.equal(loaded(X), model(X))
    assert zero_share(loaded) < 0.2


def test_a_file_with_16_bits_is_smaller(network: nn.Module, tmp_path: Path) -> None:
    sizes = []
    for dtype in DTYPES:
        save(quantize(network, [X], held_in(dtype, "conv2")), tmp_path / "m.ptqx")
        sizes.append((tmp_path / "m.ptqx").stat().st_size)
    weights = network.conv2.weight.numel()
    assert sizes[0] - sizes[1] == pytest.approx(2 * weights, abs=64)  # headers
    assert sizes[1] == pytest.approx(sizes[2], abs=16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_training_sees_the_rounding_and_passes_gradients(dtype: str, network: nn.Module) -> None:
    prep = calibrate(prepare(network, held_in(dtype, "fc"), X, qat=True), [X])
    prep.train()
    before = prep.float_output(X)
    out = prep.fake_quantized(X)
    out.square().sum().backward()
    gradient = prep.tensor(prep.graph.nodes["fc"].params["weight"]).grad
    assert gradient is not None and gradient.abs().sum() > 0
    assert before.shape == out.shape
    integer = convert(prep.eval())
    torch.testing.assert_close(prep.fake_quantized(X), integer(X), rtol=1e-4, atol=1e-4)


def test_too_large_for_its_type_is_named(network: nn.Module) -> None:
    with torch.no_grad():
        network.fc.weight[0, 0] = 1e6
    with pytest.raises(PtqxError, match=r"fc\.weight"):
        quantize(network, [X], held_in("fp16", "fc"))
    assert quantize(network, [X], held_in("bf16", "fc"))(X).isfinite().all()


def test_later_overrides_win() -> None:
    mixed = recipe("int8", overrides={"*": {"dtype": "bf16"}, "f?": {"dtype": "fp16"}, "fc": {"bits": 4}})
    assert [float_dtype(mixed, name) for name in ("conv1", "f0", "fc")] == ["bf16", "fp16", "fp16"]
    assert resolve(mixed, "fc") == (None, None)
    again = recipe("int8", overrides={"f?": {"dtype": "fp16"}, "fc": {"weights": {"bits": 4}}})
    weights, _ = resolve(again, "fc")
    assert weights is not None and weights.bits == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"dtype": "fp15"}, r"dtype in overrides\['fc'\] 'fp15'; did you mean fp16"),
        ({"dtype": None}, r"unknown dtype in overrides\['fc'\] 'None'"),
        ({"dtype": "bf16", "bits": 4}, r"a dtype leaves the layer float; remove it or bits"),
    ],
)
def test_bad_types_are_refused(override: dict, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        recipe("int8", overrides={"fc": override})


def test_torchscript_inside_a_network_stays_float_and_says_so() -> None:
    script = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), script, nn.Conv2d(8, 4, 3)).eval()
    x = torch.randn(2, 3, 10, 10)
    qmodel = quantize(model, [x], "int8")
    [row] = [row for row in coverage(qmodel).rows if row.kind == "float"]
    assert row.name == "1" and row.reason.startswith("RecursiveScriptModule is TorchScript, which holds no")
    assert row.macs == 8 * 8 * 9 * 64
    with torch.no_grad():
        assert float((qmodel(x) - model(x)).abs().max()) < 0.05
    with pytest.raises(PtqxError, match=r"nothing to quantize: .*; what stays float: 0 \(.*TorchScript"):
        prepare(nn.Sequential(script), "int8", torch.randn(1, 8, 6, 6))
