"""What the integer model makes of its tensors once, and when it makes it again."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import networks
import pytest
import torch
from ptqx.graph import IntegerModel, quantize
from torch import Tensor

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["int4", "kmeans", "int8-dynamic"])
def model(request: pytest.FixtureRequest) -> IntegerModel:
    return quantize(networks.with_statistics(networks.Residual()), [X], request.param)


def made_anew(model: IntegerModel) -> Tensor:
    """What a model of the same tensors gives that has run nothing before."""
    return IntegerModel(model.graph, {name: t.clone() for name, t in model.tensors().items()})(X)


def test_layers_take_weights_as_they_are_stored(model: IntegerModel) -> None:
    exported = torch.export.export(model, (X,), strict=False)
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert any(name.startswith("ptqx.conv2d") for name in called)
    assert not any("unpack" in name or "gather" in name for name in called)


def test_a_tensor_that_is_written_to_counts(model: IntegerModel) -> None:
    before = model(X)
    model.get_buffer("conv1.weight_scale").mul_(0.25)
    assert torch.equal(model(X), made_anew(model))
    assert not torch.equal(model(X), before)


def test_a_tensor_that_is_replaced_counts(model: IntegerModel) -> None:
    before = model(X)
    scales = model.get_submodule("conv1")._buffers
    scales["weight_scale"] = scales["weight_scale"] * 0.25  # type: ignore[operator]
    assert torch.equal(model(X), made_anew(model))
    assert not torch.equal(model(X), before)


def test_another_state_counts(model: IntegerModel) -> None:
    model(X)
    state = {name: t * 2 if name.endswith("weight_scale") else t for name, t in model.state_dict().items()}
    for assign in (False, True):
        changed = copy.deepcopy(model)
        changed(X)
        changed.load_state_dict(state, assign=assign)
        assert torch.equal(changed(X), made_anew(changed))


def test_a_copy_does_not_follow_the_original(model: IntegerModel) -> None:
    before = model(X)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    model.get_buffer("conv1.weight_scale").mul_(0.25)
    model(X)
    for other in copies:
        assert torch.equal(other(X), before)


def test_what_a_compiler_sees_is_not_kept(model: IntegerModel) -> None:
    expected = made_anew(model)
    for strict in (False, True):
        exported = torch.export.export(model, (X,), strict=strict).module()
        assert torch.equal(exported(X), expected)
        assert torch.equal(model(X), expected)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(X), expected)
    model.get_buffer("conv1.weight_scale").mul_(0.25)
    assert torch.equal(compiled(X), model(X))


def test_tensors_of_inference_mode_work() -> None:
    with torch.inference_mode():
        model = quantize(networks.with_statistics(networks.Residual()), [X], "int4")
        first = model(X)
        assert torch.equal(model(X), first)
    assert torch.equal(model(X), first)


def test_callers_at_the_same_time_get_the_same(model: IntegerModel) -> None:
    expected = made_anew(model)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: model(X), range(32)):
            assert torch.equal(result, expected)
