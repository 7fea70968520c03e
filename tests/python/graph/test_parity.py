"""Simulated = integer = engine, bit by bit, over random networks, instruction sets, threads and batch
sizes."""

from __future__ import annotations

from collections.abc import Iterator

import networks
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ptqx import _C
from ptqx.graph import IntegerModel, SimulatedModel, calibrate, compile, convert, prepare
from ptqx.quant import Scheme, recipe

RECIPES = {
    "int8": recipe("int8"),
    "w4a8": recipe("int4"),
    "w2a4": recipe("w2a4"),
    "requantized": recipe("int8", residual="requantized"),
    "per tensor": recipe("int8", weights=Scheme(bits=8)),
    "per group": recipe("int4", weights=Scheme(bits=4, granularity="group", group_size=4)),
    "weight zero points": recipe(
        "int8", weights=Scheme(bits=8, signed=False, symmetric=False, granularity="channel")
    ),
    "int8 activations": recipe("int8", activations=Scheme(bits=8)),
    "float bias": recipe("int8", bias="float32"),
    "no wider edges": recipe("w4a4", edge_bits=None),
}


@pytest.fixture
def ceiling() -> Iterator[None]:
    before = _C.isa_ceiling()
    yield
    _C.set_isa_ceiling(before)


def converted(
    seed: int, name: str = "int8", size: tuple[int, int] = (9, 10)
) -> tuple[SimulatedModel, IntegerModel]:
    model = networks.RandomNetwork(seed)
    batches = networks.random_batches((3, model.in_channels, *size), seed=seed)
    prep = calibrate(prepare(model, RECIPES[name], batches[0][:1]), batches).eval()
    return prep, convert(prep)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**16),
    name=st.sampled_from(sorted(RECIPES)),
    height=st.integers(6, 12),
    width=st.integers(6, 12),
)
def test_random_network_is_equal_simulated_integer_and_engine(
    seed: int, name: str, height: int, width: int
) -> None:
    prep, model = converted(seed, name, (height, width))
    channels = model.graph.input_shape[0]
    engine = compile(model, torch.randn(1, channels, height, width))
    for batch in (0, 1, 3):
        x = torch.randn(batch, channels, height, width) * 2
        expected = prep(x)
        assert torch.equal(model(x), expected)
        assert torch.equal(engine(x), expected)


@pytest.mark.parametrize("isa", _C.isas_supported())
@pytest.mark.parametrize("threads", [1, 2])
def test_network_is_equal_on_every_isa_and_thread_count(isa: str, threads: int, ceiling: None) -> None:
    prep, model = converted(11)
    x = torch.randn(3, *model.graph.input_shape)
    engine = compile(model, x)
    expected = prep(x)
    _C.set_isa_ceiling(isa)
    torch.set_num_threads(threads)
    assert torch.equal(model(x), expected)
    assert torch.equal(engine(x), expected)


@pytest.mark.parametrize("seed", [4, 6])
def test_batch_split_changes_nothing(seed: int) -> None:
    prep, model = converted(seed)
    x = torch.randn(5, *model.graph.input_shape)
    whole = model(x)
    assert torch.equal(torch.cat([model(part) for part in x.split(2)]), whole)
    assert torch.equal(torch.cat([prep(part) for part in x.split(1)]), whole)


def test_weight_only_does_not_depend_on_the_memory_format() -> None:
    model = (
        torch.nn.Sequential(torch.nn.Conv2d(32, 64, 3, padding=1), torch.nn.ReLU())
        .eval()
        .to(memory_format=torch.channels_last)
    )
    x = torch.randn(16, 32, 4, 4)
    prep = calibrate(prepare(model, "int8-weight-only", x), [x])
    assert torch.equal(convert(prep)(x), prep(x))


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-weight-only", "int4-weight-only"])
def test_dynamic_and_weight_only_networks_are_equal_simulated_and_integer(name: str) -> None:
    model = networks.with_statistics(networks.Residual())
    x = torch.randn(3, 3, 8, 8)
    prep = calibrate(prepare(model, name, x), [x]).eval()
    integer = convert(prep)
    other = torch.randn(4, 3, 8, 8) * 3
    assert torch.equal(integer(other), prep(other))
    if name == "int8-dynamic":
        assert torch.equal(compile(integer, x)(other), prep(other))


def test_sums_beyond_float32_are_split_and_stay_exact() -> None:
    """1024 inputs at full scale: sums of up to 33 million need more than 24 bits."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(1024, 8)
    with torch.no_grad():
        layer.weight.copy_(torch.where(layer.weight < 0, -0.5, 0.5))
    x = torch.rand(4, 1024) * 0.01 + 0.99
    prep = calibrate(prepare(layer, "int8", x), [x]).eval()
    model = convert(prep)
    assert torch.equal(model(x), prep(x))
    assert torch.equal(compile(model, x)(x), prep(x))
    torch.testing.assert_close(prep(x), layer(x).detach(), rtol=0.0, atol=0.5)


def test_channel_whose_bias_dwarfs_its_weights_gets_a_wider_scale_and_is_reported() -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[1].mul_(1e-12)
        layer.bias[1] = 2.0
    model = torch.nn.Sequential(layer, torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
    x = torch.randn(2, 3, 6, 6)
    integer = convert(calibrate(prepare(model, "int8", x), [x]))
    assert integer.report.widened == {"0": 1}
    assert "0: 1 channels with a wider weight scale" in str(integer.report)
    torch.testing.assert_close(integer(x), model(x), rtol=0, atol=0.05)


class Excite(torch.nn.Module):
    """Squeeze and excitation by linear layers, and slopes per channel on a tensor that no layer computed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.pool = torch.nn.MaxPool2d(2)
        self.prelu = torch.nn.PReLU(8)
        self.fc1, self.fc2 = torch.nn.Linear(8, 4), torch.nn.Linear(4, 8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.pool(self.conv(x)))
        n, c, _, _ = x.size()
        weights = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))
        x = x * weights.view(n, c, 1, 1)
        return torch.softmax(self.head(x.mean((2, 3))), 1)


class Rearranged(torch.nn.Module):
    """Features to maps and back, axes in another order, between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8 * 6 * 4, 24)
        self.up, self.head = torch.nn.Conv2d(6, 4, 1), torch.nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x)).permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        x = torch.relu(self.fc(x)).view(-1, 6, 2, 2).transpose(2, 3)
        return self.head(torch.relu(self.up(x)).reshape(x.shape[0], 16))


@pytest.mark.parametrize("name", ["int8", "int8-dynamic"])
def test_reshape_and_permute_are_equal_simulated_integer_and_in_the_engine(name: str) -> None:
    x = torch.randn(3, 3, 8, 6)
    prep = calibrate(prepare(Rearranged(), name, x), [x]).eval()
    model = convert(prep)
    assert torch.equal(model(x * 2), prep(x * 2))
    assert torch.equal(compile(model, x)(x * 2), prep(x * 2))


def test_excitation_by_linear_layers_and_a_softmax_are_equal_simulated_integer_and_in_the_engine() -> None:
    x = torch.randn(3, 3, 8, 8)
    prep = calibrate(prepare(Excite(), "int8", x), [x]).eval()
    model = convert(prep)
    assert torch.equal(model(x * 2), prep(x * 2))
    assert torch.equal(compile(model, x)(x * 2), prep(x * 2))
    torch.testing.assert_close(model(x).sum(1), torch.ones(3))
