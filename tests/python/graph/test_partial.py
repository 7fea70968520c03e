"""Networks with a part in float: the engine runs what comes before it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import ptqx
import pytest
import torch
import torch.nn.functional as F
from networks import with_statistics
from ptqx import PtqxError, compile, quantize
from ptqx.graph import PartialEngine
from ptqx.graph.structure import leaves
from torch import Tensor, nn

X = torch.randn(3, 3, 12, 12)


class NonLocal(nn.Module):
    """Attention over pixels (Wang et al., arXiv:1711.07971), by the angles between them, in the middle of a
    network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.query, self.key, self.value = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.tail, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        query = F.normalize(query, dim=1)
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        y = x + (value @ weights.transpose(1, 2)).view(x.shape)
        return {"stem": x, "logits": self.head(F.relu(self.tail(y)).mean((2, 3)))}


@pytest.fixture(scope="module")
def qmodel() -> ptqx.IntegerModel:
    torch.manual_seed(0)
    return quantize(with_statistics(NonLocal()).eval(), [X], "int8")


def equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(map(torch.equal, leaves(a), leaves(b)))


def test_what_comes_before_runs_in_the_engine_and_everything_is_equal(
    qmodel: ptqx.IntegerModel, tmp_path: Path
) -> None:
    partial = compile(qmodel, X, partial=True)
    assert isinstance(partial, PartialEngine)
    rest = set(partial.rest.graph.nodes)
    assert rest >= {"matmul", "tail", "head"} and not rest & {"query", "key", "value"}
    for batch in (X, X[:1], torch.randn(7, 3, 12, 12)):
        assert equal(partial(batch), qmodel(batch))
    assert equal(copy.deepcopy(partial)(X), qmodel(X))
    assert equal(torch.compile(partial, fullgraph=True)(X), qmodel(X))
    ptqx.export(partial, tmp_path / "partial.pt2", X, "torch-export")  # compares
    other = compile(qmodel, torch.zeros_like(X), partial=True)
    other.load_state_dict(partial.state_dict())
    assert equal(other(X), qmodel(X))


def test_tuned_it_is_equal(qmodel: ptqx.IntegerModel, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert equal(compile(qmodel, X, partial=True, tune=True)(X), qmodel(X))


def test_without_float_parts_it_is_an_engine() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    assert isinstance(compile(quantize(network, [X], "int8"), X, partial=True), ptqx.Engine)


def test_the_error_says_how(qmodel: ptqx.IntegerModel) -> None:
    with pytest.raises(PtqxError, match="compute in float: normalize; partial=True compiles"):
        compile(qmodel, X)


def test_codes_of_sixteen_bits_run_after_the_engine() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    qmodel = quantize(network.eval(), [X], "fixed16")
    with pytest.raises(PtqxError, match="codes of up to 8 bits"):
        compile(qmodel, X, partial=True)  # no layer comes before them


def test_where_nothing_comes_before_it_is_refused() -> None:
    qmodel = quantize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)).eval(), [X], "int4-weight-only")
    with pytest.raises(PtqxError, match="the engine runs integer layers only"):
        compile(qmodel, X, partial=True)


def test_layers_that_a_recipe_leaves_float_run_after_the_engine() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    recipe = ptqx.recipe("int8", overrides={"2": {"dtype": "fp16"}})
    qmodel = quantize(network.eval(), [X], recipe)
    partial = compile(qmodel, X, partial=True)
    assert isinstance(partial, PartialEngine)
    assert torch.equal(partial(X), qmodel(X))
