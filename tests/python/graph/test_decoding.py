"""What detectors do behind their last layers: distances to grid points become boxes, in real values."""

from __future__ import annotations

from pathlib import Path

import ptqx
import pytest
import torch
from networks import with_statistics
from ptqx.graph import compile, coverage
from torch import Tensor, nn

BINS, CLASSES = 8, 3


class Detector(nn.Module):
    """Two scales; boxes as distributions over distances (Li et al., arXiv:2006.04388)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.down = nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU())
        self.boxes = nn.ModuleList(nn.Conv2d(16, 4 * BINS, 1) for _ in range(2))
        self.classes = nn.ModuleList(nn.Conv2d(16, CLASSES, 1) for _ in range(2))
        self.distances = nn.Conv2d(BINS, 1, 1, bias=False)
        with torch.no_grad():
            self.distances.weight.copy_(torch.arange(BINS).reshape(1, BINS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        features.append(self.down(features[0]))
        points = torch.cat([grid(f) for f in features], 1)
        strides = torch.cat(
            [torch.full((1, f.shape[2] * f.shape[3]), 2.0 ** (i + 1)) for i, f in enumerate(features)], 1
        )
        boxes = torch.cat([layer(f).flatten(2) for layer, f in zip(self.boxes, features, strict=True)], 2)
        classes = torch.cat(
            [layer(f).flatten(2) for layer, f in zip(self.classes, features, strict=True)], -1
        )
        n, _, anchors = boxes.shape
        shares = boxes.view(n, 4, BINS, anchors).transpose(2, 1).softmax(1)
        before, behind = self.distances(shares).view(n, 4, anchors).chunk(2, 1)
        first, last = points - before, points + behind
        return torch.cat((torch.cat(((first + last) / 2, last - first), 1) * strides, classes.sigmoid()), 1)


def grid(features: Tensor) -> Tensor:
    """[2, pixels], columns and rows of the pixels' centers."""
    height, width = features.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack((columns, rows)).view(2, -1)


X = torch.randn(3, 3, 32, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(Detector()).eval()


def test_a_detector_runs_whole_in_the_engine(model: nn.Module, tmp_path: Path) -> None:
    qmodel = ptqx.quantize(model, [X], "int8")
    assert coverage(qmodel).mac_share == 1.0
    engine = compile(qmodel, X)
    for batch in (X, X[:1]):
        assert torch.equal(engine(batch), qmodel(batch))
    torch.compiler.reset()
    assert torch.equal(torch.compile(qmodel, fullgraph=True)(X), qmodel(X))
    ptqx.save(qmodel, tmp_path / "detector.ptqx")
    assert torch.equal(ptqx.load(tmp_path / "detector.ptqx")(X), qmodel(X))


def test_boxes_are_not_rounded_to_eight_bits(model: nn.Module) -> None:
    """Codes for a box of 32 pixels and for one of the smallest would be an eighth of a pixel apart."""
    qmodel = ptqx.quantize(model, [X], "int8")
    behind_the_last_layer = [
        node for node in qmodel.graph if node.name.startswith(("add", "cat", "mul", "sub"))
    ]
    assert {node.output.dtype for node in behind_the_last_layer} == {"float32"}
    with torch.no_grad():
        assert float((qmodel(X)[:, :4] - model(X)[:, :4]).abs().mean()) < 0.05


def test_sums_and_concatenations_between_layers_are_of_codes() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(torch.cat([x.relu() + x.sigmoid(), x], 1)) * 2.0

    qmodel = ptqx.quantize(Between().eval(), [X], "int8")
    dtypes = {node.op: node.output.dtype for node in qmodel.graph}
    assert dtypes["add"] == dtypes["cat"] == "uint8"


class Joined(nn.Module):
    """Concatenation along `dim` in the middle of the network, of results and a constant."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.left, self.right, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        shape = [1, 4, 32, 24]
        shape[dim] = 3
        self.register_buffer(
            "between", torch.linspace(-1, 1, 4 * 32 * 24).reshape(1, 4, 32, 24).narrow(dim, 0, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        between = self.between.expand(len(x), -1, -1, -1)
        joined = torch.cat([self.left(x).relu(), between, self.right(x)], self.dim)
        return self.last(joined[:, :4])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_concatenation_along_any_dimension(dim: int) -> None:
    qmodel = ptqx.quantize(Joined(dim).eval(), [X], "int8")
    assert coverage(qmodel).float_rows == ()
    engine = compile(qmodel, X)
    for batch in (X, X[:1]):
        assert torch.equal(engine(batch), qmodel(batch))


@pytest.mark.parametrize("shape", [(1, 4, 32, 24), (32, 24), (4, 1, 24), (24,)], ids=str)
def test_sums_and_products_with_parameters_of_any_shape(shape: tuple[int, ...]) -> None:
    class WithParameter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            self.position = nn.Parameter(torch.randn(shape))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).relu()
            return self.last((x + self.position) * self.position - self.position)

    torch.manual_seed(0)
    model = WithParameter().eval()
    prep = ptqx.prepare(model, "int8", X)
    torch.testing.assert_close(prep.float_output(X), model(X), rtol=1e-4, atol=1e-5)
    qmodel = ptqx.quantize(model, [X], "int8")
    assert coverage(qmodel).float_rows == ()
    assert torch.equal(compile(qmodel, X)(X), qmodel(X))
    learning = ptqx.calibrate(ptqx.prepare(model, "int8", X, qat=True), [X]).train()
    learning(X).square().mean().backward()
    assert learning.get_parameter("position").grad.abs().sum() > 0
