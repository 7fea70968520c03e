"""What every method must do: less error, codes on the grid, parity, the same result twice."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ptqx import PtqxError
from ptqx.graph import apply_methods, calibrate, convert, prepare, quantize
from ptqx.quant import METHODS, Scheme, recipe
from torch import Tensor, nn

LEARN = {"steps": 40, "batch": 16, "rate": 0.05}
FAST = {"adaround": LEARN, "reconstruction": LEARN}


class Net(nn.Module):
    """Plain, grouped, depthwise and strided convolutions, a residual addition, pooling, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.conv4 = nn.Conv2d(16, 24, 3, stride=2)
        self.fc1 = nn.Linear(24 * 4, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.depthwise(x)))
        x = F.relu(self.bn3(self.conv3(y)) + x)
        x = F.max_pool2d(F.relu(self.conv4(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


@pytest.fixture
def model() -> nn.Module:
    """Channels of very different size, as trained networks have."""
    net = Net().train()
    net(images(64, seed=3))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.exp(0.7 * torch.randn(len(module.weight), generator=generator)))
                module.bias.normal_(0.0, 0.3, generator=generator)
    return net.eval()


def images(count: int, seed: int) -> Tensor:
    """Smooth, so that neighbouring inputs are correlated."""
    generator = torch.Generator().manual_seed(seed)
    return F.avg_pool2d(torch.randn(count, 3, 10, 10, generator=generator), 5, 1, 2).contiguous() * 3


def error(model: nn.Module, name: str, **changes: object) -> float:
    """Mean squared error of the integer model's logits on images that no method has seen."""
    test = images(128, seed=9)
    with torch.no_grad():
        wanted = model(test)
    got = quantize(model, images(128, seed=1).split(64), recipe(name, **changes))(test)
    return float((got - wanted).square().mean() / wanted.square().mean())


def methods(*names: str) -> list[tuple[str, dict[str, object]]]:
    return [(name, FAST.get(name, {})) for name in names]


ALONE = ("gptq", "adaround", "reconstruction", "error_feedback", "bias_correction", "range_search")


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("base", ["w3a8", "int3-weight-only", "int3-dynamic"])
def test_the_error_falls_well_below_that_of_plain_rounding(model, name, base):
    margin = 0.97 if name in ("bias_correction", "range_search") else 0.8
    plain = error(model, base, edge_bits=None)
    assert error(model, base, edge_bits=None, methods=methods(name)) < margin * plain


@pytest.mark.parametrize("name", ["gptq", "reconstruction"])
def test_two_bits(model, name):
    plain = error(model, "w2a8", edge_bits=None)
    assert error(model, "w2a8", edge_bits=None, methods=methods(name)) < 0.8 * plain


@pytest.mark.parametrize(
    "weights",
    [
        Scheme(bits=4),
        Scheme(bits=4, granularity="group", group_size=4),
        Scheme(bits=4, granularity="channel", symmetric=False),
        Scheme(bits=2, granularity="channel"),
    ],
    ids=["tensor", "group", "asymmetric", "four levels"],
)
@pytest.mark.parametrize("name", [n for n in METHODS if METHODS[n].rounds])
def test_rounded_weights_lie_on_the_grid_and_convert_agrees(model, name, weights):
    chosen = recipe("w4a8", weights=weights, methods=methods(name))
    batches = images(64, seed=1).split(32)
    prep = apply_methods(calibrate(prepare(model, chosen, batches[0]), batches), batches)
    for node in prep.graph:
        if node.kind == "static" and "weight" in node.params:
            weight = prep.tensor(node.params["weight"])
            torch.testing.assert_close(prep.weight_quantizer(node)(weight), weight, rtol=1e-6, atol=0.0)
    report = convert(prep).report
    assert report.compared == len(list(prep.graph))


@pytest.mark.parametrize("name", [n for n in METHODS if "uniform" in (METHODS[n].levels or ("uniform",))])
def test_twice_the_same(model, name):
    batches = images(64, seed=1).split(32)
    chosen = recipe("w4a8", methods=methods(name))
    first, second = (quantize(model, batches, chosen).state_dict() for _ in range(2))
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_another_seed_gives_other_weights(model):
    batches = images(64, seed=1).split(32)
    first, second = (
        quantize(model, batches, f"w4a8+adaround:steps=30:rate=0.1:seed={seed}").state_dict()
        for seed in (0, 1)
    )
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_the_model_stays_as_it_was(model):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quantize(model, images(32, seed=1).split(16), "w4a8+equalization+gptq")
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_generator_of_batches_is_enough(model):
    listed = quantize(model, images(64, seed=1).split(16), "w4a8+gptq")
    streamed = quantize(model, iter(images(64, seed=1).split(16)), "w4a8+gptq")
    x = images(8, seed=2)
    assert torch.equal(listed(x), streamed(x))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w4a8+gptk", "unknown method 'gptk'; did you mean gptq"),
        ("w4a8+gptq:dampin=1", "argument of method 'gptq' 'dampin'; did you mean damping"),
        ("w4a8+gptq:damping", "expected name:option=value"),
    ],
)
def test_unknown_names_come_with_the_nearest(text, message):
    with pytest.raises(PtqxError, match=message):
        recipe(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int4-weight-only+activation_equalization", "works with static or dynamic recipes.*bias_correction"),
        ("w4a8+gptq+equalization", "'equalization' would move the weights that 'gptq' has rounded"),
        ("w4a8+gptq+adaround", "'adaround' would move the weights that 'gptq' has rounded"),
        ("w4a8+adaround:steps=0", "steps: expected at least 1"),
        ("w4a8+reconstruction:drop=1.5", "drop: expected a number in"),
        ("w4a8+equalization:iterations=0", "iterations: expected at least 1"),
        ("w4a8+activation_equalization:strength=2", "strength: expected 0 to 1"),
        ("w4a8+range_search:candidates=1", "expected candidates >= 2"),
        ("w4a8+batch_norm_reestimation:largest_change=0.5", "largest_change: expected at least 1"),
    ],
)
def test_what_a_method_cannot_do_is_said(model, text, message):
    with pytest.raises(PtqxError, match=message):
        quantize(model, images(16, seed=1).split(8), text)


def test_batch_norm_reestimation_needs_a_scale_per_channel(model):
    chosen = recipe("w4a8", weights=Scheme(bits=4), methods=["batch_norm_reestimation"])
    with pytest.raises(PtqxError, match="needs weights with granularity='channel' or 'group'"):
        quantize(model, images(16, seed=1).split(8), chosen)


def test_methods_need_a_model_for_post_training(model):
    x = images(16, seed=1)
    prep = calibrate(prepare(model, "w4a8+gptq", x, qat=True), [x])
    with pytest.raises(PtqxError, match="prepared with qat=False"):
        apply_methods(prep, [x])
