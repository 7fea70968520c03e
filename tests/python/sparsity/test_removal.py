from __future__ import annotations

import copy
import itertools
from pathlib import Path

import ptqx
import pytest
import torch
import torch.nn.functional as F
from ptqx import models
from ptqx.errors import PtqxError
from ptqx.sparsity import cost, remove_channels, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

ZOO = {
    "cnn": ({}, (1, 8, 8)),
    "lenet5": ({}, (1, 28, 28)),
    "vgg11_bn": ({}, (3, 32, 32)),
    "resnet20": ({"shortcut": "B"}, (3, 16, 16)),
    "resnet32": ({"shortcut": "A"}, (3, 16, 16)),  # its shortcut has numbers of channels written in it
    "mobilenet_v2": ({}, (3, 32, 32)),  # depthwise
    "mobilenet_v3_small": ({}, (3, 32, 32)),  # squeeze and excitation
    "shufflenet_v2_x0_5": ({}, (3, 32, 32)),  # chunks and shuffles
    "squeezenet1_1": ({}, (3, 32, 32)),  # concatenation; the last layer is a convolution
}


def randomized(model: nn.Module) -> nn.Module:
    """Statistics and biases of which no two are equal, so that a channel is known by its values."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def with_zeros(model: nn.Module, narrow: nn.Module) -> nn.Module:
    """The whole model, in which the channels that `narrow` lacks give 0."""
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if not isinstance(module, (_BatchNorm, nn.Conv2d, nn.Linear)) or module.bias is None:
            continue
        gone = ~torch.isin(module.bias, narrow.get_submodule(name).bias)
        with torch.no_grad():
            module.weight[gone] = 0
            module.bias[gone] = 0
    return model


@pytest.mark.parametrize("name", ZOO)
def test_a_narrow_network_computes_what_the_whole_one_does_with_zeros(name: str) -> None:
    options, shape = ZOO[name]
    model = randomized(models.build(name, 10, **options))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    x = torch.randn(4, *shape)
    removal = remove_channels(model, x[:1], 0.3)
    assert removal.after.parameters <= 0.7 * removal.before.parameters
    assert removal.after.parameters == sum(p.numel() for p in removal.model.parameters())
    assert removal.after == cost_of(removal.model, x[:1], removal.after.channels)
    with torch.no_grad():
        expected = with_zeros(model, removal.model)(x)
        got = removal.model(x)
        assert not torch.allclose(model(x), expected, rtol=1e-3)  # something was removed
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in state.items())


def test_a_narrow_network_of_sequences_runs_on_integers() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(
        nn.Conv1d(2, 16, 5, padding=2, padding_mode="reflect"), nn.BatchNorm1d(16), nn.ReLU()
    )
    last = nn.Sequential(nn.MaxPool1d(2), nn.Conv1d(16, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1))
    model, x = nn.Sequential(first, last, nn.Flatten(), nn.Linear(12, 5)).eval(), torch.randn(8, 2, 30)
    narrow = remove_channels(model, x[:1], 0.4, multiple=4).model.eval()
    assert narrow[0][0].out_channels < 16 or narrow[1][1].out_channels < 12
    weights = sum(p.numel() for p in narrow.parameters())
    assert weights <= 0.6 * sum(p.numel() for p in model.parameters())
    qmodel = ptqx.quantize(narrow, [x], "int8")
    assert torch.equal(ptqx.compile(qmodel, x)(x), qmodel(x))


def test_layers_with_computed_weights_keep_their_channels() -> None:
    class Scaled(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight / self.weight.norm(), self.bias)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), Scaled(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    model = nn.Sequential(*model, nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    narrow = remove_channels(model, torch.randn(1, 3, 4, 4), 0.2, multiple=1).model
    widths = [layer.weight.shape[0] for layer in narrow if isinstance(layer, nn.Conv2d)]
    assert widths[:2] == [8, 8] and widths[2] < 8
    narrow(torch.randn(1, 3, 4, 4))


def cost_of(model: nn.Module, x: Tensor, channels: int) -> object:
    measured = cost(model, x)
    return type(measured)(measured.parameters, measured.macs, channels)


class Residual(nn.Module):
    """stem + branch, then a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.branch = nn.Conv2d(16, 16, 3, padding=1)
        self.twice = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.branch(x))
        x = self.twice(F.relu(self.twice(x)))
        return self.head(x.mean((2, 3)))


def test_additions_and_repeated_layers_tie_channels_together() -> None:
    model = randomized(Residual())
    removal = remove_channels(model, torch.zeros(1, 1, 8, 8), 0.4, multiple=1)
    (width,) = removal.widths
    assert width.layers == ("stem", "branch", "twice")
    assert removal.model.stem.out_channels == removal.model.branch.in_channels == width.after < 16
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(removal.model(x), with_zeros(model, removal.model)(x))


def chain(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4))


EXAMPLE = torch.zeros(1, 1, 8, 8)


@torch.no_grad()
def test_the_smallest_filters_go_first() -> None:
    model = chain(1, 16)
    model[0].weight.copy_(torch.arange(1.0, 17.0).reshape(16, 1, 1, 1).expand(16, 1, 3, 3))
    kept = remove_channels(model, EXAMPLE, 0.5, of="channels").model
    assert kept[0].weight[:, 0, 0, 0].tolist() == list(range(9, 17))


@torch.no_grad()
def test_the_smallest_scales_of_batch_norms_go_first() -> None:
    model = chain(1, 16)
    model[1].weight.copy_(torch.arange(16.0, 0.0, -1.0))
    kept = remove_channels(model, EXAMPLE, 0.5, of="channels", importance="batch_norm").model
    assert kept[1].weight.tolist() == list(range(16, 8, -1))
    assert kept[5].in_features == 8


@torch.no_grad()
def test_global_allocation_takes_more_where_channels_matter_less() -> None:
    model = chain(1, 64, 64)
    model[0].weight[:32] *= 1e-3  # half of the first layer's filters are nearly nothing
    by_all = remove_channels(model, EXAMPLE, 0.25, of="channels")
    assert [width.after for width in by_all.widths] == [32, 64]
    alike = remove_channels(model, EXAMPLE, 0.25, of="channels", allocation="uniform")
    assert [width.after for width in alike.widths] == [48, 48]


def test_allocation_by_cost_takes_more_where_channels_cost_more() -> None:
    torch.manual_seed(0)
    model = chain(1, 64, 64, 32)  # parameters of a channel: 9 * 65 and more, 9 * 96, 9 * 64

    def after(of: str) -> list[int]:
        removal = remove_channels(model, EXAMPLE, 0.25, of=of, allocation="cost", least=0.25)
        return [width.after for width in removal.widths]

    first, second, last = after("parameters")
    assert second < first
    assert second < 2 * last
    by_all = remove_channels(model, EXAMPLE, 0.25, of="channels", allocation="global", least=0.25)
    assert after("channels") == [width.after for width in by_all.widths]


@pytest.mark.parametrize("of", ["parameters", "macs", "channels"])
def test_no_more_is_removed_than_asked_for(of: str) -> None:
    removal = remove_channels(chain(1, 40, 50, 60), EXAMPLE, 0.37, of=of, multiple=1)
    left = getattr(removal.after, of) / getattr(removal.before, of)
    assert 0.61 < left <= 0.63


def test_layers_keep_a_multiple_and_their_least() -> None:
    removal = remove_channels(chain(1, 64, 64, 20), EXAMPLE, 0.6, least=0.5, multiple=16)
    assert all(width.after % 16 == 0 or width.after == width.before for width in removal.widths)
    assert all(width.after >= width.before / 2 for width in removal.widths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.99}, r"share: 99.0 % of the parameters can't be removed, at most \d+\.\d %"),
        ({"share": 1.0}, "share must be in"),
        ({"share": float("nan")}, "share must be in"),
        ({"share": 0.5, "of": "parameter"}, "did you mean parameters"),
        ({"share": 0.5, "importance": "magnitud"}, "did you mean magnitude"),
        ({"share": 0.5, "allocation": "local"}, "unknown allocation"),
        ({"share": 0.5, "least": 2.0}, "least must be in"),
        ({"share": 0.5, "multiple": 0}, "multiple must be at least 1"),
    ],
)
def test_what_can_not_be_done_is_said(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        remove_channels(chain(1, 32, 32), EXAMPLE, **arguments)  # type: ignore[arg-type]


def test_a_network_of_one_layer_has_nothing_to_remove() -> None:
    with pytest.raises(PtqxError, match="no channel can be removed"):
        remove_channels(nn.Sequential(nn.Conv2d(1, 8, 3)), EXAMPLE, 0.5)


class Dense(nn.Module):
    """Two layers side by side, normalized and read together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.head = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.head(F.relu(self.norm(torch.cat([x, self.b(x)], 1)))).mean((2, 3))


def test_batch_norms_of_concatenations_lose_the_channels_of_both() -> None:
    model = randomized(Dense())
    removal = remove_channels(model, torch.zeros(1, 1, 8, 8), 0.4, multiple=1)
    assert [width.layers for width in removal.widths] == [("a",), ("b",)]
    assert removal.model.norm.num_features == sum(width.after for width in removal.widths) < 32
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(removal.model(x), with_zeros(model, removal.model)(x))


class Written(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.head = nn.Linear(16 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(-1, 16 * 36))


def test_a_number_of_channels_written_in_forward_is_an_error() -> None:
    with pytest.raises(PtqxError, match="has their number written in it"):
        remove_channels(Written(), EXAMPLE, 0.4)


def test_a_narrow_network_is_rebuilt_from_its_file(tmp_path: Path) -> None:
    model = randomized(models.resnet20(num_classes=10))
    x = torch.randn(2, 3, 16, 16)
    narrow = remove_channels(model, x, 0.5).model
    path = tmp_path / "narrow.safetensors"
    save(narrow, path, {"dataset": "cifar10"})
    again = models.resnet20(num_classes=10, weights=path).eval()
    assert again.layer3[0].conv1.out_channels == narrow.layer3[0].conv1.out_channels < 64
    with torch.no_grad():
        assert torch.equal(again(x), narrow(x))


def test_a_narrow_network_gets_a_new_head(tmp_path: Path) -> None:
    narrow = remove_channels(models.cnn(num_classes=10), EXAMPLE, 0.3).model
    save(narrow, tmp_path / "narrow.safetensors")
    model = models.cnn(num_classes=3)
    assert not models.load_pretrained(model, tmp_path / "narrow.safetensors")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert torch.equal(model.features[0].weight, narrow.features[0].weight)


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (lambda path: models.cnn(num_classes=7, weights=path), "trained for 10 classes"),
        (lambda path: models.cnn(width=4, weights=path), "does not fit CNN"),
        (lambda path: models.lenet5(weights=path), "does not fit LeNet5"),
    ],
)
def test_a_narrow_network_of_something_else_is_refused(tmp_path: Path, builder: object, message: str) -> None:
    path = tmp_path / "narrow.safetensors"
    save(remove_channels(models.cnn(num_classes=10), EXAMPLE, 0.3).model, path)
    with pytest.raises(PtqxError, match=message):
        builder(path)  # type: ignore[operator]


def test_a_narrow_network_has_smaller_integer_layers(tmp_path: Path) -> None:
    model = randomized(models.cnn(num_classes=10, width=32))
    batches = [torch.randn(16, 1, 8, 8) for _ in range(2)]
    narrow = remove_channels(model, EXAMPLE, 0.6).model
    sizes = {}
    for name, network in (("whole", model), ("narrow", narrow)):
        integer = ptqx.quantize(network, batches, "int8")
        ptqx.save(integer, tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
        macs = sum(row.macs for row in ptqx.coverage(integer).rows)
        assert macs == cost(network, EXAMPLE).macs
        engine = ptqx.compile(integer, batches[0])
        assert torch.equal(engine(batches[0]), integer(batches[0]))
    assert sizes["narrow"] < 0.6 * sizes["whole"]
