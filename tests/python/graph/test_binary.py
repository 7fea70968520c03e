"""Networks of signs: binary weights and activations by XNOR and popcount."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import (
    IntegerModel,
    SimulatedModel,
    calibrate,
    compile,
    convert,
    explain,
    explain_value,
    level_usage,
    load,
    prepare,
    save,
)
from ptqx.graph.convert import IntegerGraph
from ptqx.models import lenet5
from ptqx.quant import Recipe, Scheme, recipe
from torch import Tensor, nn

X = torch.randn(4, 3, 9, 8, generator=torch.Generator().manual_seed(0))
NO_EDGES = recipe("w1a1", edge_bits=None)


class Everything(nn.Module):
    """Padding, strides, a residual addition, groups, pools and features that binary layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 40, 3, padding=1)
        self.bn = nn.BatchNorm2d(40)
        self.same = nn.Conv2d(40, 40, 3, padding=1, bias=False)
        self.bn_same = nn.BatchNorm2d(40)
        self.depthwise = nn.Conv2d(40, 40, 3, padding=1, groups=40)
        self.down = nn.Conv2d(40, 33, 3, stride=2, padding=(2, 1), dilation=2)
        self.fc1 = nn.Linear(33 * 2 * 1, 17)
        self.fc2 = nn.Linear(17, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.first(x)))
        x = F.hardtanh(self.bn_same(self.same(x)) + x)
        x = F.leaky_relu(self.depthwise(x))
        x = F.max_pool2d(self.down(x), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def network() -> nn.Module:
    torch.manual_seed(1)
    return networks.with_statistics(Everything()).eval()


def converted(chosen: str | Recipe, model: nn.Module) -> tuple[SimulatedModel, IntegerModel]:
    prep = calibrate(prepare(model, chosen, X), [X]).eval()
    return prep, convert(prep)


def operations(model: IntegerModel) -> dict[str, str]:
    return {node.name: node.op for node in model.graph if "weight" in node.tensors}


@pytest.mark.parametrize("chosen", [recipe("w1a1"), NO_EDGES, replace(NO_EDGES, bias="float32")])
def test_simulated_integer_engine_and_file_are_equal(chosen: Recipe, tmp_path: Path) -> None:
    prep, model = converted(chosen, network())
    binary = {"same": "binary_conv2d", "down": "binary_conv2d", "fc1": "binary_linear"}
    edges = {"first": "conv2d", "fc2": "linear"}
    if chosen.edge_bits is None:
        edges = {"first": "binary_conv2d", "fc2": "binary_linear"}
    assert operations(model) == {**binary, **edges, "depthwise": "conv2d"}
    x = 2 * torch.randn(3, 3, 9, 8)
    expected = prep(x)
    assert torch.equal(model(x), expected)
    assert torch.equal(compile(model, X)(x), expected)
    save(model, tmp_path / "m.ptqx")
    assert torch.equal(load(tmp_path / "m.ptqx")(x), expected)


def test_sums_are_those_of_signs_with_zeros_around_them() -> None:
    """Padded taps count for nothing, neither +1 nor -1."""
    prep, model = converted("w1a1", network())
    values: dict[str, Tensor] = {}
    model.run(X, values)
    node = model.graph.nodes["down"]
    codes = values[node.inputs[0]]
    assert set(codes.unique().tolist()) == {0, 2}
    signs = codes.float() - 1
    weight = torch.where(prep.tensor("down.weight") >= 0, 1.0, -1.0)
    sums = F.conv2d(signs, weight, stride=2, padding=(2, 1), dilation=2)
    bias = model.tensor(node, "bias").float().reshape(-1, 1, 1)
    x_scale, _ = model.qparams(node.inputs[0])
    scale, zero_point = model.qparams("down")
    unit = (x_scale * model.tensor(node, "weight_scale")) / scale
    expected = ((sums + bias) * unit.reshape(-1, 1, 1)).round() + zero_point
    assert torch.equal(values["down"].float(), expected.clamp(0, 255))


def test_a_bit_is_which_side_of_the_threshold_the_code_lies() -> None:
    prep, model = converted("w1a1", network())
    values: dict[str, Tensor] = {}
    model.run(X, values)
    signs = model.graph.nodes["down"].inputs[0]
    (read,) = model.graph.nodes[signs].inputs
    scale, zero_point = model.qparams(read)
    real = (values[read].float() - zero_point) * scale
    threshold = prep.activation_quantizer(signs).threshold
    assert torch.equal(values[signs] == 2, real >= threshold)
    assert 0.1 < float((values[signs] == 2).float().mean()) < 0.9


def test_thresholds_and_scales_learn_and_the_integers_stay_equal() -> None:
    prep = calibrate(prepare(network(), "w1a1", X, qat=True), [X]).train()
    before = copy.deepcopy(prep.state_dict())
    optimizer = torch.optim.SGD(prep.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(prep(X), torch.arange(4)).backward()
        optimizer.step()
    learned = [key for key in before if key.endswith(("learned_threshold", "first.weight"))]
    assert len(learned) == 5
    assert all(not torch.equal(before[key], prep.state_dict()[key]) for key in learned)
    model = convert(prep)
    assert torch.equal(model(X), prep.eval()(X))
    assert torch.equal(compile(model, X)(X), prep(X))


def test_bfloat16_training_passes_signs_as_codes() -> None:
    prep = calibrate(prepare(network(), "w1a1", X, qat=True), [X]).train()
    with torch.autocast("cpu", torch.bfloat16):
        prep(X).float().square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in prep.parameters())


def test_ternary_weights_multiply_signs_in_bytes() -> None:
    weights = Scheme(bits=2, levels="ternary", granularity="channel")
    prep, model = converted(recipe("w1a1", weights=weights), network())
    assert not any(op.startswith("binary") for op in operations(model).values())
    assert torch.equal(model(X), prep(X))
    assert torch.equal(compile(model, X)(X), prep(X))


def test_lenet_takes_a_thirtieth_of_the_bytes() -> None:
    """LeNet's middle layers have most of its weights; first and last keep 8 bits."""
    x = torch.randn(2, 1, 28, 28)
    model = convert(calibrate(prepare(lenet5(), "w1a1", x), [x]))
    weights = {n.name: model.tensor(n, "weight") for n in model.graph if "weight" in n.tensors}
    packed = {name: w.numel() * w.element_size() for name, w in weights.items()}
    shapes = {n.name: n.attrs["weight_shape"] for n in model.graph if n.name in packed}
    for name, op in operations(model).items():
        values = torch.Size(shapes[name]).numel()
        rows = shapes[name][0]
        expected = rows * -(-values // rows // 8) if op.startswith("binary") else values
        assert packed[name] == expected
    assert torch.equal(compile(model, x)(x), model(x))


def test_one_value_is_followed_through_its_signs() -> None:
    _, model = converted("w1a1", network())
    trace = explain_value(model, X, "down", channel=32, y=0, x=1, sample=2)
    assert {tap.product for tap in trace.taps} == {-1, 1} and trace.padding > 0
    assert trace.accumulator == sum(tap.product for tap in trace.taps) + trace.bias
    values: dict[str, Tensor] = {}
    model.run(X, values)
    assert trace.code == int(values["down"][2, 32, 0, 1])
    assert [row.layer for row in level_usage(model, X).rows] == list(operations(model))


def test_explain_names_the_popcount_kernel() -> None:
    _, model = converted("w1a1", network())
    kernels = {row.name: row.kernel for row in explain(model).rows if row.kind.startswith("binary")}
    assert len(kernels) == 3 and all("binary" in kernel for kernel in kernels.values())


def test_files_with_weights_that_are_no_signs_are_refused() -> None:
    _, model = converted("w1a1", network())
    node = model.graph.nodes["same"]
    levels = torch.tensor([[-2, 1]], dtype=torch.int8)
    tensors = {**model.tensors(), node.tensors["weight_levels"]: levels}
    changed = IntegerModel(IntegerGraph(**vars(model.graph)), tensors)
    with pytest.raises(ValueError, match=re.escape("weights must be -1 and 1")):
        compile(changed, X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": recipe("w1a1").activations}, "levels 'sign' are for activations"),
        ({"requantize": "shift", "residual": "requantized"}, "needs levels='fixed'"),
    ],
)
def test_what_can_not_be_is_said(change: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        recipe("w1a1", **change)


def test_sign_levels_say_what_they_need() -> None:
    with pytest.raises(PtqxError, match="codes are 0 and 1"):
        Scheme(bits=1, levels="sign")
    with pytest.raises(PtqxError, match="for evenly spaced levels"):
        Scheme(bits=1, levels="sign", signed=False, symmetric=False, observer="mse")
