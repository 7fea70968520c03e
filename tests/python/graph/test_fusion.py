from __future__ import annotations

import networks
import pytest
import torch
import torch.nn.functional as F
from ptqx.errors import PtqxError
from ptqx.graph import SimulatedModel, calibrate, compile, convert, prepare
from ptqx.quant import Recipe, Scheme, recipe
from torch import Tensor, nn


def ops(prep: SimulatedModel) -> list[str]:
    return [node.op for node in prep.graph]


def test_conv_bn_relu_becomes_one_node() -> None:
    prep = prepare(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)),
        "int8",
        torch.randn(1, 3, 6, 6),
    )
    assert ops(prep) == ["quantize", "conv2d", "conv2d"]
    assert prep.graph.nodes["0"].attrs["activation"] == "relu"


def test_bn_without_a_layer_before_it_becomes_a_depthwise_convolution() -> None:
    prep = prepare(
        nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1)), "int8", torch.randn(1, 3, 6, 6)
    )
    assert ops(prep) == ["quantize", "conv2d", "conv2d"]
    assert prep.graph.nodes["0"].attrs["groups"] == 3


def test_padding_is_merged_into_the_convolution_that_reads_it() -> None:
    prep = prepare(
        nn.Sequential(nn.ZeroPad2d((1, 2, 3, 0)), nn.Conv2d(3, 2, 3)), "int8", torch.randn(1, 3, 6, 6)
    )
    assert prep.graph.nodes["1"].attrs["padding"] == [3, 1, 0, 2]


@pytest.mark.parametrize(("residual", "adds"), [("fused", 0), ("requantized", 1)])
def test_residual_addition_is_fused_unless_requantized_is_asked_for(residual: str, adds: int) -> None:
    prep = prepare(networks.Residual(), recipe("int8", residual=residual), torch.randn(1, 3, 6, 6))
    assert ops(prep).count("add") == adds


def test_residual_is_fused_into_the_larger_of_two_convolutions() -> None:
    prep = prepare(networks.Residual(project=True), "int8", torch.randn(1, 3, 6, 6))
    assert prep.graph.nodes["conv2"].inputs == ["conv1", "shortcut"]
    assert prep.graph.nodes["conv2"].attrs["activation"] == "relu"


def test_residual_of_a_convolution_that_has_another_reader_is_not_fused() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.last(torch.cat([y + x, y], 1))

    prep = prepare(Shared(), "int8", torch.randn(1, 3, 6, 6))
    assert "add" in ops(prep)


def test_convolution_with_activation_before_the_addition_is_not_fused() -> None:
    class Activated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.conv(x)) + x)

    assert "add" in ops(prepare(Activated(), "int8", torch.randn(1, 3, 6, 6)))


class SummedPReLU(nn.Module):
    """PReLU of what a convolution is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.prelu, self.last = nn.Conv2d(3, 3, 1), nn.PReLU(3), nn.Conv2d(3, 2, 1)
        self.prelu.weight.data.copy_(torch.tensor([0.5, -0.25, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.prelu(self.conv(x) + x))


def test_prelu_of_a_sum_goes_into_the_convolution_with_the_residual() -> None:
    x, network = torch.randn(4, 3, 6, 6), SummedPReLU()
    prep = prepare(network, "int8", x)
    assert ops(prep) == ["quantize", "conv2d", "conv2d"]
    assert prep.graph.nodes["conv"].attrs["activation"] == "prelu"
    model = convert(calibrate(prep, [x]))
    assert torch.equal(model(2 * x), prep.eval()(2 * x))
    assert torch.equal(compile(model, x)(2 * x), model(2 * x))
    torch.testing.assert_close(model(x), network(x), rtol=0, atol=0.05)


@pytest.mark.parametrize(
    "chosen",
    [
        recipe("int8", residual="requantized"),
        recipe("int8-dynamic"),
        recipe("int8", overrides={"prelu": {"weights": None}}),
    ],
)
def test_prelu_of_a_sum_that_no_convolution_takes_stays_a_step_of_its_own(chosen: Recipe) -> None:
    x = torch.randn(4, 3, 6, 6)
    prep = prepare(SummedPReLU(), chosen, x)
    assert "prelu" in prep.graph.nodes and "activation" not in prep.graph.nodes["conv"].attrs
    model = convert(calibrate(prep, [x]))
    assert torch.equal(model(2 * x), prep.eval()(2 * x))


def test_concat_inputs_share_its_scale_and_others_go_through_a_table() -> None:
    class Fire(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = F.relu(self.a(x))
            return self.last(torch.cat([a, F.relu(self.b(a))], 1))

    prep = prepare(Fire(), "int8", torch.randn(1, 3, 6, 6))
    nodes = prep.graph.nodes
    assert nodes["b"].quantizer == nodes["cat"].quantizer == "cat"
    assert nodes["a"].quantizer == "a"
    assert nodes["cat"].inputs == ["a.rescale", "b"]


class Stream(nn.Module):
    """A value that two layers and a product read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.last(F.relu(self.left(x)) + F.relu(self.right(x)) * x)


def test_what_a_product_reads_keeps_eight_bits_and_layers_read_fewer_through_a_table() -> None:
    prep = prepare(Stream(), recipe("w4a3", edge_bits=None), torch.randn(1, 3, 6, 6))
    bits = {name: site.scheme.bits for name, site in prep.graph.quantizers.items()}
    nodes = prep.graph.nodes
    assert nodes["left"].inputs[0] == nodes["right"].inputs[0] == "stem.requantize3"
    assert (nodes["stem.requantize3"].op, nodes["stem.requantize3"].inputs) == ("lookup", ["stem"])
    assert bits["stem.requantize3"] == bits["input.quantize"] == 3
    assert bits["stem"] == bits["left"] == bits["right"] == 8


def test_layers_that_ask_for_other_codes_of_as_many_bits_get_tables_of_their_own() -> None:
    overrides = {"right": {"activations": {"observer": "minmax"}}}
    prep = prepare(Stream(), recipe("w4a3", overrides=overrides), torch.randn(1, 3, 6, 6))
    tables = [prep.graph.nodes[name].inputs[0] for name in ("left", "right")]
    assert tables == ["stem.requantize3", "stem.requantize3_1"]
    schemes = [prep.graph.quantizers[name].scheme for name in tables]
    assert schemes[0].observer != schemes[1].observer == "minmax"


@pytest.mark.parametrize("name", ["w3a8", "fixed16", "int8-dynamic"])
def test_no_table_where_layers_read_eight_bits_or_more(name: str) -> None:
    assert not [n for n in prepare(Stream(), name, torch.randn(1, 3, 6, 6)).graph if n.op == "lookup"]


def test_logits_have_no_quantizer_and_pass_through_nodes_share_codes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    prep = prepare(model, "int8", torch.randn(1, 3, 6, 6))
    quantizers = {node.name: node.quantizer for node in prep.graph}
    assert quantizers == {"input.quantize": "input.quantize", "0": "0", "1": "0", "2": "0", "3": None}


def test_edge_layers_keep_eight_bits_and_overrides_win() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    changed = recipe("w4a4", overrides={"2": {"weights": {"bits": 6}}})
    prep = prepare(model, changed, torch.randn(1, 3, 8, 8))
    bits = {n.name: prep.weight_quantizer(n).scheme.bits for n in prep.graph if n.op == "conv2d"}
    assert bits == {"0": 8, "2": 6, "4": 8}
    inputs = {key: site.scheme.bits for key, site in prep.graph.quantizers.items()}
    assert inputs == {"input.quantize": 8, "0": 4, "2": 8}


def test_layer_left_float_by_an_override_is_float_with_conversions_around_it() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    prep = prepare(model, recipe("int8", overrides={"2": {"weights": None}}), torch.randn(1, 3, 8, 8))
    assert ops(prep) == ["quantize", "conv2d", "conv2d_float", "quantize", "conv2d"]


def test_per_group_weights_fall_back_to_channels_where_there_is_one_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 4, 1))
    weights = Scheme(bits=4, granularity="group", group_size=8)
    prep = prepare(model, recipe("int4", weights=weights), torch.randn(1, 3, 8, 8))
    shapes = [tuple(prep.weight_quantizer(n).scale.shape) for n in prep.graph if n.op == "conv2d"]
    assert shapes == [(16,), (16,), (4, 2)]


def test_override_that_matches_nothing_names_the_nearest_layer() -> None:
    with pytest.raises(PtqxError, match=r"conv3.*conv2"):
        prepare(
            networks.Residual(), recipe("int8", overrides={"conv3": {"bits": 4}}), torch.randn(1, 3, 6, 6)
        )


def test_dynamic_activations_of_other_widths_are_refused_by_name() -> None:
    narrow = recipe("int8-dynamic", overrides={"conv2": {"bits": 4}})
    with pytest.raises(PtqxError, match="conv2: dynamic activations"):
        prepare(networks.Residual(), narrow, torch.randn(1, 3, 6, 6))


def test_model_without_layers_has_nothing_to_quantize() -> None:
    with pytest.raises(PtqxError, match="nothing to quantize"):
        prepare(nn.Sequential(nn.ReLU()), "int8", torch.randn(1, 3, 6, 6))


FEATURES = {
    "first": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3)),
    "after an activation": nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    ),
    "last": nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.BatchNorm1d(8)),
    "PReLU": nn.Sequential(
        nn.Flatten(), nn.PReLU(12), nn.Linear(12, 8), nn.Tanh(), nn.PReLU(), nn.Linear(8, 3)
    ),
}


@pytest.mark.parametrize("name", FEATURES)
def test_batch_norms_and_prelus_of_features_need_no_layer_before_them(name: str) -> None:
    x = torch.randn(8, 3, 2, 2)
    model = networks.with_statistics(FEATURES[name]).eval()
    prep = calibrate(prepare(model, "int8", x), [x])
    assert "float" not in ops(prep)
    integer = convert(prep)
    with torch.no_grad():
        assert torch.allclose(integer(x), model(x), atol=0.1)
    assert torch.equal(compile(integer, x)(x), integer(x))
    trained = calibrate(prepare(model, "w4a4", x, qat=True), [x]).train()
    trained(x).square().mean().backward()
    assert all(p.grad is not None for p in trained.parameters() if p.requires_grad)
    assert torch.equal(convert(trained.eval())(x), trained(x))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(5), nn.PReLU(5)], ids=["batch-norm", "prelu"])
def test_batch_norms_and_prelus_of_sequences_stay_float(layer: nn.Module) -> None:
    class Sequences(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.layer, self.last = nn.Conv2d(3, 5, 1), layer, nn.Linear(20, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.layer(torch.tanh(self.first(x)).flatten(2)).flatten(1))

    x = torch.randn(8, 3, 2, 2)
    model = networks.with_statistics(Sequences()).eval()
    prep = calibrate(prepare(model, "int8", x), [x])
    assert ops(prep).count("float") == 1
    with torch.no_grad():
        assert torch.allclose(convert(prep)(x), model(x), atol=0.1)
