from __future__ import annotations

from pathlib import Path

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, compile, export, quantize
from torch import nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> IntegerModel:
    return quantize(networks.with_statistics(networks.Residual()), [X])


@pytest.mark.parametrize("kind", ["layers", "engine"])
@pytest.mark.parametrize("example", [X, X[:1]], ids=["batch", "one"])
def test_exported_graph_runs_any_batch(kind: str, example: torch.Tensor, model: IntegerModel, tmp_path: Path):
    module = model if kind == "layers" else compile(model, X)
    export(module, tmp_path / "m.pt2", example, "torch-export")
    loaded = torch.export.load(tmp_path / "m.pt2").module()
    for batch in (X, X[:1], torch.cat([X, X])):
        assert torch.equal(loaded(batch), model(batch))


def test_aotinductor_package_runs_any_batch(model: IntegerModel, tmp_path: Path) -> None:
    """ReLU's bound is infinite, which the package's JSON can't hold."""
    export(model, tmp_path / "m.pt2", X)
    loaded = torch._inductor.aoti_load_package(str(tmp_path / "m.pt2"))
    for batch in (X, X[:2], torch.cat([X, X])):
        assert torch.equal(loaded(batch), model(batch))
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt2"]


def test_what_can_t_be_exported_is_said(model: IntegerModel, tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match="expected an integer model or an engine"):
        export(nn.Conv2d(1, 1, 1), tmp_path / "m.pt2", X)  # type: ignore[arg-type]
    with pytest.raises(PtqxError, match="unknown format 'aot-induktor'; did you mean aot-inductor"):
        export(model, tmp_path / "m.pt2", X, "aot-induktor")
    with pytest.raises(PtqxError, match="input: expected float32"):
        export(model, tmp_path / "m.pt2", X[:, :2])
    assert not list(tmp_path.iterdir())
