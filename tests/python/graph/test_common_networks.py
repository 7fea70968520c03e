"""Networks as people write them: attention over pixels, convolutions before an LSTM, coordinates beside the
image, an autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import with_statistics
from ptqx import PtqxError, calibrate, compile, convert, coverage, prepare, quantize
from torch import Tensor, nn


def require_equal_arithmetic(model: nn.Module, x: Tensor, runs_in_engine: bool = True) -> list[str]:
    """Quantize a network; its float, integer and compiled forms must agree. Names of the float parts."""
    prep = calibrate(prepare(model, "int8", x), [x])
    with torch.no_grad():
        torch.testing.assert_close(prep.float_output(x), model(x), rtol=1e-4, atol=1e-5)
    qmodel = convert(prep)  # compares step by step
    if runs_in_engine:
        assert torch.equal(compile(qmodel, x)(x), qmodel(x))
    return [node.name for node in qmodel.graph if node.op == "float"]


class CBAM(nn.Module):
    """Woo et al., arXiv:1807.06521: attention over channels, then over pixels."""

    def __init__(self, pooled: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.pooled = pooled
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.shared = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.spatial, self.head = nn.Conv2d(2, 1, 7, padding=3), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        average, largest = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.shared(average) + self.shared(largest))
        x = x * torch.sigmoid(self.spatial(torch.cat(self.pooled(x), dim=1)))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    "pooled",
    [
        lambda x: [x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]],
        lambda x: [torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True).values],
        lambda x: [x.mean(-3, True), x.amax(1, keepdim=True)],
        lambda x: [x.mean(1).unsqueeze(1), torch.max(x, 1)[0][:, None]],
    ],
    ids=["index", "name", "amax", "unsqueeze"],
)
def test_attention_over_pixels_is_integer(pooled: Callable[[Tensor], list[Tensor]]) -> None:
    model, x = with_statistics(CBAM(pooled)).eval(), torch.randn(2, 3, 10, 14)
    assert require_equal_arithmetic(model, x) == []


def test_pools_over_many_channels_are_equal_in_the_engine() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 515, 1), nn.Conv2d(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.wide(x)
            return self.narrow(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))

    assert require_equal_arithmetic(Pools().eval(), torch.randn(3, 3, 5, 7)) == []


class Indices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        values, indices = self.conv(x).max(1, keepdim=True)
        return values * indices.float()


def test_a_maximum_whose_indices_are_read_stays_float() -> None:
    names = require_equal_arithmetic(Indices().eval(), torch.randn(2, 3, 8, 8), runs_in_engine=False)
    assert set(names) >= {"max.0", "max.1"}


class Recurrent(nn.Module):
    """Shi et al., arXiv:1507.05717: an image's columns are the steps of an LSTM."""

    def __init__(self, form: Callable[[nn.Module, Tensor], Tensor], batch_first: bool) -> None:
        super().__init__()
        self.form, self.batch_first = form, batch_first
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d((16, 1)))
        self.recurrent = nn.LSTM(16, 8, bidirectional=True, batch_first=batch_first)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        columns = self.features(x).squeeze(2).permute(*((0, 2, 1) if self.batch_first else (2, 0, 1)))
        return self.head(self.form(self.recurrent, columns))


def _sequence(recurrent: nn.Module, columns: Tensor) -> Tensor:
    sequence, _ = recurrent(columns)
    return sequence


def _last_state(recurrent: nn.Module, columns: Tensor) -> Tensor:
    _, (hidden, _) = recurrent(columns)
    return torch.cat([hidden[0], hidden[1]], 1)


@pytest.mark.parametrize("batch_first", [True, False], ids=["batch-first", "steps-first"])
@pytest.mark.parametrize("form", [_sequence, _last_state], ids=["sequence", "state"])
def test_an_lstm_runs_between_integer_layers(form: Any, batch_first: bool) -> None:
    x = torch.randn(2, 1, 16, 12)
    model = Recurrent(form, batch_first).eval()
    names = require_equal_arithmetic(model, x, runs_in_engine=False)
    assert any(name.startswith("recurrent") for name in names)
    covered = coverage(quantize(model, [x], "int8"))
    row = next(row for row in covered.rows if row.name.startswith("recurrent"))
    assert row.reason.startswith("LSTM has no integer form at test_common_networks.py:")
    assert row.macs == 2 * 12 * (4 * 8 * 16 + 4 * 8 * 8), "two directions of twelve steps"


class Coordinates(nn.Module):
    """Liu et al., arXiv:1807.03247: rows and columns are channels beside those of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(5, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        samples, _, height, width = x.shape
        rows = torch.linspace(-1, 1, height).view(1, 1, height, 1).expand(samples, 1, height, width)
        columns = torch.linspace(-1, 1, width).view(1, 1, 1, width).repeat(samples, 1, height, 1)
        return self.head(F.relu(self.conv(torch.cat([x, rows, columns], dim=1))).mean((2, 3)))


@pytest.mark.parametrize("samples", [1, 3])
def test_constants_beside_the_image_are_there_for_every_sample(samples: int) -> None:
    x = torch.randn(samples, 3, 6, 9)
    model = Coordinates().eval()
    assert require_equal_arithmetic(model, x) == []
    more = torch.randn(5, 3, 6, 9)
    assert float((quantize(model, [more], "int8")(more) - model(more)).detach().abs().max()) < 0.1


def test_an_autoencoder_is_integer() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10), nn.ReLU()),
        *(nn.Linear(10, 8 * 36), nn.ReLU(), nn.Unflatten(1, (8, 6, 6))),
        *(nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Sigmoid()),
    ).eval()
    assert require_equal_arithmetic(model, torch.randn(2, 1, 12, 12)) == []


@pytest.mark.parametrize("kernel", [1280, (3, 1280)], ids=str)
def test_a_window_larger_than_the_image_is_the_image(kernel: Any) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(kernel, ceil_mode=True)).eval()
    assert require_equal_arithmetic(model, torch.randn(2, 3, 9, 11)) == []
    sequence = nn.Sequential(nn.Conv1d(3, 8, 3), nn.AvgPool1d(40, ceil_mode=True), nn.Conv1d(8, 2, 1)).eval()
    assert require_equal_arithmetic(sequence, torch.randn(2, 3, 11)) == []


def test_a_forward_that_reads_the_batch_size_is_refused_in_one_line() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("noise", torch.randn(2, 4, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.conv(x), self.noise.expand(-1, -1, *x.shape[2:])[:, :, 2:, 2:]], 1)

    with pytest.raises(PtqxError, match=r"the model fails with 1 samples \(.*\); does the model's forward"):
        prepare(Reads().eval(), "int8", torch.randn(2, 3, 8, 8))


class Context(nn.Module):
    """FishNet's and GCNet's way of adding what was learned of the whole image to every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.context, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(self.context(F.adaptive_avg_pool2d(x, 1)) + x)


def test_one_value_a_channel_is_added_to_every_pixel() -> None:
    assert require_equal_arithmetic(Context().eval(), torch.randn(2, 3, 9, 11)) == []


class Widened(nn.Module):
    """A shortcut whose further channels are zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = (
            nn.Conv2d(3, 6, 3),
            nn.Conv2d(6, 12, 3, padding=1),
            nn.Conv2d(12, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(F.relu(self.conv(x) + torch.cat([x, torch.zeros_like(x)], dim=1)))


def test_channels_of_zeros_are_integer() -> None:
    assert require_equal_arithmetic(Widened().eval(), torch.randn(2, 3, 9, 11)) == []


class Unpooled(nn.Module):
    """SegNet (Badrinarayanan et al., arXiv:1511.00561): maxima go back to where they came from."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for c in (3, 16, 16)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(3)
        )
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        indices = []
        for stage in self.down:
            x, index = F.max_pool2d(stage(x), 2, return_indices=True)
            indices.append(index)
        for stage in self.up:
            x = stage(F.max_unpool2d(x, indices.pop(), 2))
        return self.head(x)


def test_maxima_that_go_back_to_where_they_came_from_stay_float() -> None:
    torch.manual_seed(0)
    model, x = with_statistics(Unpooled()).eval(), torch.randn(2, 3, 64, 64)
    qmodel = quantize(model, [x], "int8")
    assert coverage(qmodel).mac_share == 1.0
    assert sum(node.op == "float" for node in qmodel.graph) == 9, "values and indices, and their way back"
