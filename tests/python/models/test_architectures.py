"""Shapes, names and parameter counts of the models, against what is published."""

from __future__ import annotations

import copy
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from ptqx import models
from ptqx.errors import PtqxError
from ptqx.train.artifact import save_model
from torch import nn

CHANNELS = {"lenet5": 1, "cnn": 1}
SIZES = {"lenet5": 28, "cnn": 8}
ONE_OF_EACH_FAMILY = ["vgg11_bn", "resnet20", "lenet5", "cnn"]


def images(name: str, n: int = 2) -> torch.Tensor:
    size = SIZES.get(name, 32)
    return torch.randn(n, CHANNELS.get(name, 3), size, size, generator=torch.Generator().manual_seed(0))


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_model_gives_logits_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    model = models.build(name, 7)
    logits = model(images(name))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_model_survives_deepcopy_and_batch_of_zero(name: str) -> None:
    model = models.build(name, 5).eval()
    copied = copy.deepcopy(model)
    torch.testing.assert_close(copied(images(name)), model(images(name)), rtol=0, atol=0)
    assert model(images(name, n=0)).shape == (0, 5)


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("vgg11_bn", 100, 9_802_596),  # the zoo's 9.80 M, 9.99 M, 15.30 M, 20.61 M
        ("vgg13_bn", 100, 9_987_492),
        ("vgg16_bn", 100, 15_299_748),
        ("vgg19_bn", 100, 20_612_004),
        ("vgg_small", 10, 4_661_898),
        ("resnet20", 10, 272_474),  # the zoo's 0.27 M, 0.47 M, 0.86 M
        ("resnet32", 10, 466_906),
        ("resnet56", 10, 855_770),
        ("lenet5", 10, 61_706),
    ],
)
def test_parameter_count_is_the_published_one(name: str, num_classes: int, count: int) -> None:
    with torch.device("meta"):
        assert parameter_count(models.build(name, num_classes)) == count


@pytest.mark.parametrize(
    ("name", "count"), [("resnet20", 269_722), ("resnet32", 464_154), ("resnet56", 853_018)]
)
def test_shortcut_a_has_no_parameters(name: str, count: int) -> None:
    assert parameter_count(models.build(name, 10, shortcut="A")) == count


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"])
def test_vgg_features_have_torchvision_names(name: str) -> None:
    torchvision = pytest.importorskip("ptqx.torchvision_shim").import_torchvision("the comparison")
    with torch.device("meta"):
        features = torchvision.models.get_model(name).features
        theirs = {k: tuple(t.shape) for k, t in features.state_dict().items()}
        ours = models.build(name, 100)
    assert {k: tuple(t.shape) for k, t in ours.features.state_dict().items()} == theirs
    assert [k for k, _ in ours.named_parameters() if k.startswith("classifier")] == [
        f"classifier.{i}.{part}" for i in (0, 3, 6) for part in ("weight", "bias")
    ]


def test_resnet_names_are_those_of_the_zoo() -> None:
    keys = set(models.resnet20().state_dict())
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{part}" for part in batch_norm)}
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            for i in (1, 2):
                expected.add(f"layer{stage}.{block}.conv{i}.weight")
                expected |= {f"layer{stage}.{block}.bn{i}.{part}" for part in batch_norm}
        if stage > 1:
            expected.add(f"layer{stage}.0.downsample.0.weight")
            expected |= {f"layer{stage}.0.downsample.1.{part}" for part in batch_norm}
    assert keys == expected


def test_shortcut_a_subsamples_and_pads_both_sides() -> None:
    shortcut = models.resnet20(shortcut="A").layer2[0].downsample
    x = torch.randn(2, 16, 8, 8)
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    torch.testing.assert_close(y[:, 8:24], x[:, :, ::2, ::2], rtol=0, atol=0)
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_bireal_block_has_a_shortcut_over_every_convolution() -> None:
    model = models.resnet20(block="bireal").eval()
    for block in (model.layer1[0], model.layer2[0]):
        x = torch.randn(2, block.conv1.in_channels, 8, 8)
        shortcut = x if block.downsample is None else block.downsample(x)
        middle = (block.bn1(block.conv1(x)) + shortcut).relu()
        expected = (block.bn2(block.conv2(middle)) + middle).relu()
        torch.testing.assert_close(block(x.clone()), expected, rtol=0, atol=0)
    assert model.state_dict().keys() == models.resnet20().state_dict().keys()
    with pytest.raises(PtqxError, match="unknown block 'birael'; did you mean bireal"):
        models.resnet20(block="birael")


def test_prelu_lets_a_share_of_each_channel_through() -> None:
    model = models.resnet20(block="bireal", activation="prelu").eval()
    block, x = model.layer1[0], torch.randn(2, 16, 8, 8)
    block.act1.weight.data.uniform_(-1, 1)
    middle = torch.nn.functional.prelu(block.bn1(block.conv1(x)) + x, block.act1.weight)
    expected = torch.nn.functional.prelu(block.bn2(block.conv2(middle)) + middle, block.act2.weight)
    torch.testing.assert_close(block(x), expected, rtol=0, atol=0)
    extra = model.state_dict().keys() - models.resnet20().state_dict().keys()
    assert len(extra) == 19 and all(key.split(".")[-2] in ("act1", "act2") for key in extra)
    with pytest.raises(PtqxError, match="unknown activation 'prelu6'; did you mean prelu"):
        models.resnet20(activation="prelu6")


def test_weights_trained_in_another_block_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match="weights for block=basic, but the model has block=bireal"):
        models.resnet20(weights="cifar10", block="bireal")
    file = tmp_path / "bireal.safetensors"
    save_model(file, models.resnet20(block="bireal"), {"model": "resnet20", "block": "bireal"})
    models.resnet20(weights=file, block="bireal")
    with pytest.raises(PtqxError, match="weights for block=bireal, but the model has block=basic"):
        models.resnet20(weights=file)
    torch.save(models.resnet20().state_dict(), tmp_path / "foreign.pt")  # which does not say
    models.resnet20(weights=tmp_path / "foreign.pt", block="bireal")


@pytest.mark.parametrize(
    ("pair", "option"),
    [
        ("shortcut=A", ("shortcut", "A")),
        ("width=4", ("width", 4)),
        ("dropout=0.0", ("dropout", 0.0)),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_options_are_parsed(pair: str, option: tuple[str, object]) -> None:
    ((name, value),) = models.parse_options([pair]).items()
    assert (name, value) == option
    assert type(value) is type(option[1])


def test_lenet5_takes_both_image_sizes() -> None:
    assert models.lenet5(image_size=32)(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    with pytest.raises(PtqxError, match="image_size must be 28 or 32, got 30"):
        models.lenet5(image_size=30)


def test_build_finds_torchvision_models() -> None:
    model = models.build("mobilenet_v2", 10).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_build_finds_models_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = types.ModuleType("timm")
    timm.list_models = lambda: ["tiny", "small"]  # type: ignore[attr-defined]
    timm.create_model = lambda name, num_classes, width=4: nn.Linear(width, num_classes)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert models.build("timm/tiny", 3, width=5).weight.shape == (3, 5)
    with pytest.raises(PtqxError, match="unknown model 'timm/tinny'; did you mean timm/tiny"):
        models.build("timm/tinny", 3)
    with pytest.raises(PtqxError, match=r"'timm/tiny' does not accept these options: .*depth"):
        models.build("timm/tiny", 3, depth=2)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PtqxError, match="'timm/tiny' needs timm: pip install timm"):
        models.build("timm/tiny", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg11bn", 10), "unknown model 'vgg11bn'; did you mean vgg11_bn"),
        (("resnet-20", 10), "did you mean resnet20"),
        (("quux-zz", 10), "unknown model 'quux-zz'; known: "),
        (("cnn", 1), "num_classes must be an int of at least 2, got 1"),
        (("cnn", True), "num_classes must be an int of at least 2, got True"),
    ],
)
def test_build_refuses_unknown_names(arguments: tuple[str, int], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        models.build(*arguments)


def test_build_refuses_unknown_options() -> None:
    with pytest.raises(
        PtqxError, match=r"unknown option of model resnet20 'shortcuts'; did you mean shortcut\?"
    ):
        models.build("resnet20", 10, shortcuts="A")
    with pytest.raises(PtqxError, match="unknown shortcut 'C'; known: A, B"):
        models.build("resnet20", 10, shortcut="C")
    with pytest.raises(PtqxError, match="does not accept"):
        models.build("resnet18", 10, in_channel=1)


def test_build_without_torchvision_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(PtqxError, match=r"needs torchvision: pip install 'ptqx\[study\]'"):
        models.build("mobilenet_v2", 10)


def test_import_of_models_and_data_leaves_torchvision_alone() -> None:
    code = "import sys, ptqx.models, ptqx.data; sys.exit(bool({'torchvision', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
