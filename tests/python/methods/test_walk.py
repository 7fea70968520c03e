"""Segments of the graph, and the values that meet them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from ptqx.graph import calibrate, prepare, quantize
from ptqx.graph.spill import Spill
from ptqx.graph.workbench import Workbench
from ptqx.methods.walk import by_block, by_layer, walk
from torch import Tensor, nn


class Blocks(nn.Module):
    """A stem, a residual block, pooling, a projected residual block, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a1, self.a2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.b1, self.b2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.project = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.max_pool2d(F.relu(x + self.a2(F.relu(self.a1(x)))), 2)
        x = F.relu(self.project(x) + self.b2(F.relu(self.b1(x))))
        return self.head(x.mean((2, 3)))


X = torch.randn(100, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def workbench() -> Workbench:
    return Workbench(calibrate(prepare(Blocks(), "w4a8", X), [X]), X.split(40))


def test_blocks_have_one_value_in_and_one_out():
    bench = workbench()
    layers = {node.name for node in bench.layers}
    found = [{n.name for n in segment.nodes} & layers for segment in by_block(bench)]
    assert found == [{"stem"}, {"a1", "a2"}, {"b1", "b2", "project"}, {"head"}]
    assert all(len(segment.outputs) == 1 for segment in by_block(bench))


def test_a_walk_gives_what_a_run_gives():
    bench = workbench()
    exact, floats = {}, {}
    with torch.no_grad():
        bench.prep.fake_quantized(X, exact)
        bench.reference.float_output(X, floats)
    for segments in (by_layer(bench), by_block(bench)):
        for stage in walk(bench, segments, "test"):
            for name in stage.quantized.keys() - {bench.prep.graph.input}:
                quantizer = bench.prep.activation_quantizer(bench.prep.graph.nodes[name].quantizer)
                two_steps = 2 * float(quantizer.scale)
                torch.testing.assert_close(stage.quantized[name], exact[name], rtol=0, atol=two_steps)
                torch.testing.assert_close(stage.floats[name], floats[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "methods",
    [
        "gptq",
        "bias_correction+range_search",
        "batch_norm_reestimation",
        "error_feedback",
        "reconstruction:steps=20",
    ],
)
def test_layers_without_biases_are_given_some_in_the_quantized_network_alone(methods):
    model = Blocks().eval()
    for layer in (model.stem, model.a2, model.project, model.head):
        layer.bias = None
    with torch.no_grad():
        expected = model(X)
        got = quantize(model, [X], f"w4a8+{methods}")(X)
    assert (got - expected).square().mean() < 0.02 * expected.square().mean()


def test_what_is_changed_in_a_stage_counts_for_the_next():
    bench = workbench()
    for stage in walk(bench, by_layer(bench), "test"):
        node = stage.layers[0]
        if node.name == "stem":
            bench.set_weight(node, torch.zeros_like(bench.weight(node)))
            bench.set_bias(node, torch.zeros(8))
        elif node.name == "a1":
            assert not stage.quantized[node.inputs[0]].any()
            assert stage.floats[node.inputs[0]].any()


def test_memory_is_bounded_by_files():
    bench = workbench()
    bench.spill = Spill(limit=10**5)
    plain = [stage.quantized[stage.layers[0].inputs[0]].clone() for stage in walk(bench, by_layer(bench), "")]
    bench.spill = Spill()
    for stage, values in zip(walk(bench, by_layer(bench), ""), plain, strict=True):
        assert torch.equal(stage.quantized[stage.layers[0].inputs[0]], values)


def test_layers_own_their_weights_and_compute_the_same():
    prep = calibrate(prepare(Blocks(), "w4a8", X), [X]).eval()
    before = prep(X[:8])
    bench = Workbench(prep, [X])
    assert torch.equal(bench.prep(X[:8]), before)
    assert {node.params["weight"] for node in bench.layers} == {
        f"folded.{n.name}/weight" for n in bench.layers
    }
