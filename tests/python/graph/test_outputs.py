"""Networks that return several tensors: detectors' heads, features of every stage, auxiliary classifiers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import ptqx
import pytest
import torch
import torch.nn.functional as F
from networks import with_statistics
from ptqx import PtqxError, capture, compile, coverage, quantize
from ptqx.graph.document import graph_from_json
from ptqx.graph.structure import leaves, leaves_by_path, require_equal
from torch import Tensor, nn

X = torch.randn(5, 3, 12, 12)


class Pyramid(nn.Module):
    """Two stages, a head on each, and a classifier; `arrange` says how they are returned."""

    def __init__(self, arrange: Any) -> None:
        super().__init__()
        self.arrange = arrange
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.SiLU())
        self.boxes, self.classes = nn.Conv2d(8, 4, 1), nn.Conv2d(12, 6, 1)
        self.classifier = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        logits = self.classifier(F.adaptive_avg_pool2d(coarse, 1).flatten(1))
        return self.arrange(x, fine, coarse, self.boxes(fine), self.classes(coarse), logits)


ARRANGEMENTS: dict[str, Any] = {
    "tuple": lambda x, fine, coarse, boxes, classes, logits: (boxes, classes, logits),
    "list": lambda x, fine, coarse, boxes, classes, logits: [fine, coarse],
    "dict": lambda x, fine, coarse, boxes, classes, logits: {"out": classes, "aux": boxes},
    "nested": lambda x, fine, coarse, boxes, classes, logits: {
        "features": [fine, coarse, fine],
        "heads": (boxes, {"classes": classes}),
        "logits": logits,
        "nothing": None,
        "image": x,
    },
    "one": lambda x, fine, coarse, boxes, classes, logits: (logits,),
}


def network(arrangement: str) -> nn.Module:
    return with_statistics(Pyramid(ARRANGEMENTS[arrangement])).eval()


def equal(a: Any, b: Any) -> bool:
    """The same tuples, lists and dicts of the same numbers."""
    pairs = itertools.zip_longest(leaves_by_path(a), leaves_by_path(b))
    return type(a) is type(b) and all(p == q and torch.equal(u, v) for (p, u), (q, v) in pairs)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_everything_is_returned_as_the_model_returns_it(arrangement: str, tmp_path: Path) -> None:
    model = network(arrangement)
    qmodel = quantize(model, [X], "int8")
    with torch.no_grad():
        expected, got = model(X), qmodel(X)
    assert type(got) is type(expected)
    for (path, real), (got_path, value) in zip(leaves_by_path(expected), leaves_by_path(got), strict=True):
        assert path == got_path
        assert float((value - real).abs().max() / real.abs().max()) < 0.05, path
    assert coverage(qmodel).mac_share == 1.0

    engine = compile(qmodel, X)
    for batch in (X[:1], X, X[:0]):
        assert equal(engine(batch), qmodel(batch))
    assert equal(torch.compile(engine, fullgraph=True)(X), got)
    ptqx.save(qmodel, tmp_path / "network.ptqx")
    assert equal(ptqx.load(tmp_path / "network.ptqx")(X), got)
    ptqx.export(engine, tmp_path / "engine.pt2", X, "torch-export")  # compares
    ptqx.export(qmodel, tmp_path / "network.pt2", X, "torch-export")


def test_aot_inductor_package_of_several_outputs_is_equal(tmp_path: Path) -> None:
    ptqx.export(compile(quantize(network("nested"), [X], "int8"), X), tmp_path / "engine.pt2", X)


def test_engine_knows_the_shapes() -> None:
    engine = compile(quantize(network("nested"), [X], "int8"), X)
    assert engine.output_shape == {
        "features": [[8, 12, 12], [12, 6, 6], [8, 12, 12]],
        "heads": ([4, 12, 12], {"classes": [6, 6, 6]}),
        "logits": [5],
        "nothing": None,
        "image": [3, 12, 12],
    }
    assert equal(engine.to_integer_model()(X), engine(X))


def test_features_that_are_read_on_are_returned_as_the_next_layer_sees_them() -> None:
    fine = quantize(network("nested"), [X], "w4a4")(X)["features"][0]
    assert len(fine.unique()) <= 16


def test_training_reaches_every_head() -> None:
    prep = ptqx.prepare(network("tuple"), "w4a4", X, qat=True)
    ptqx.calibrate(prep, [X])
    prep.train()
    sum(head.square().mean() for head in prep(X)).backward()
    assert all(p.grad is not None for name, p in prep.named_parameters() if "weight" in name)


@pytest.mark.parametrize("recipe", ["w4a4+range_search+gptq", "w4a4+bias_correction", "w4a4+adaround"])
def test_methods_walk_through_heads(recipe: str) -> None:
    qmodel = quantize(network("tuple"), [X], recipe)
    assert equal(compile(qmodel, X)(X), qmodel(X))


def test_pruning_keeps_the_channels_that_are_returned() -> None:
    model = network("tuple")
    removal = ptqx.sparsity.remove_channels(model, X, 0.2, least=0.0, multiple=1)
    assert [width.layers for width in removal.widths if width.after < width.before]
    assert [head.shape for head in removal.model(X)] == [head.shape for head in model(X)]
    with pytest.raises(PtqxError, match="removed"):
        ptqx.sparsity.remove_channels(network("list"), X, 0.2, least=0.0, multiple=1)


@pytest.mark.parametrize("style", ["qdq", "integer"])
def test_onnx_has_an_output_for_each(style: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "network.onnx"
    qmodel = quantize(network("tuple"), [X], "int8")
    ptqx.onnx.export(qmodel, path, X, style=style)
    verdict = ptqx.onnx.verify(qmodel, path, X)
    assert verdict.codes_equal and verdict.top1_agreement == 1.0
    if style == "qdq":
        loaded = ptqx.onnx.load(path)(X)
        assert list(loaded) == ["boxes", "classes", "classifier"]
        assert all(map(torch.equal, loaded.values(), qmodel(X)))


def test_onnx_of_a_network_that_returns_its_input_says_so(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    qmodel = quantize(network("nested"), [X], "int8")
    with pytest.raises(PtqxError, match="returns its own input, 'input', which ONNX can't hold"):
        ptqx.onnx.export(qmodel, tmp_path / "network.onnx", X)


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda *values: (), "returns no tensor"),
        (lambda *values: (values[1], 3), r"returns in \[1\] int, where a tensor computed of its input"),
        (lambda *values: {"a": {"b": "text"}}, r"returns in \['a'\]\['b'\] str"),
        (lambda *values: {0: values[1]}, r"a dict with the keys \[0\]; only names"),
        (lambda *values: (values[1], torch.ones(5, 1)), r"returns in \[1\] a constant"),
    ],
    ids=["nothing", "number", "text", "keys", "constant"],
)
def test_what_is_returned_but_no_tensor_is_named(arrange: Any, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        capture(Pyramid(arrange), X)


@pytest.mark.parametrize(
    "output",
    [
        3,
        {},
        {"set": ["boxes"]},
        {"tuple": "boxes"},
        {"dict": {"a": "boxes"}},
        {"dict": [["a", "boxes"], ["a", "classes"]]},
        {"dict": [[1, "boxes"]]},
        {"tuple": ["nobody"]},
        {"tuple": []},
        {"tuple": ["fine.0"]},
    ],
    ids=str,
)
def test_a_file_whose_output_is_no_structure_is_refused(output: Any) -> None:
    document = json.loads(quantize(network("tuple"), [X], "int8").graph.to_json())
    assert graph_from_json(json.dumps(document)).output == ("boxes", "classes", "classifier")
    with pytest.raises(PtqxError, match="output"):
        graph_from_json(json.dumps({**document, "output": output}))


def test_a_file_whose_output_is_too_deep_is_refused() -> None:
    document = json.loads(quantize(network("tuple"), [X], "int8").graph.to_json())
    for _ in range(8):
        document["output"] = {"list": [document["output"]]}
    with pytest.raises(PtqxError, match="output: expected a name"):
        graph_from_json(json.dumps(document))


def test_what_is_returned_too_deep_can_not_be_saved(tmp_path: Path) -> None:
    def arrange(*values: Tensor) -> Any:
        result: Any = values[-1]
        for _ in range(9):
            result = [result]
        return result

    qmodel = quantize(Pyramid(arrange).eval(), [X], "int8")
    with pytest.raises(PtqxError, match="tuples in tuples more than 8 deep"):
        ptqx.save(qmodel, tmp_path / "network.ptqx")


def test_leaves_of_one_tensor_are_itself() -> None:
    assert [leaf is X for leaf in leaves(X)] == [True]


def test_what_differs_is_named() -> None:
    require_equal({"a": [X]}, {"a": [X.clone()]}, "the copy")
    with pytest.raises(PtqxError, match=r"the copy: it gives \['a.0'\], not \['a.0', 'a.1'\]"):
        require_equal({"a": [X]}, {"a": [X, X]}, "the copy")
    with pytest.raises(PtqxError, match=r"the copy: values of output a\.1 differ"):
        require_equal({"a": [X, X]}, {"a": [X, X + 1]}, "the copy")
