"""Checkpoints of others: what loads, and how each mismatch is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ptqx import models
from ptqx.errors import PtqxError
from ptqx.files import read_tensors, write_tensors
from ptqx.models.checkpoint import TRAINED
from torch import Tensor, nn


def trained(model: nn.Module) -> nn.Module:
    """Random values everywhere, batch-norm statistics included, exact in float16."""
    generator = torch.Generator().manual_seed(1)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_((torch.rand(tensor.shape, generator=generator) + 0.5).half())
    return model


def assert_same_state(model: nn.Module, expected: dict[str, Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name in state:
        torch.testing.assert_close(
            state[name], expected[name].to(state[name].dtype), rtol=0, atol=0, msg=name
        )


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet20", "lenet5", "cnn"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_weights_load_by_path(tmp_path: Path, name: str, suffix: str, half: bool) -> None:
    source = trained(models.build(name, 4))
    state = {k: t.half() if half and t.is_floating_point() else t for k, t in source.state_dict().items()}
    path = tmp_path / f"m{suffix}"
    if suffix == ".safetensors":
        write_tensors(path, state)
    else:
        torch.save({"state_dict": {f"module.{k}": t for k, t in state.items()}}, path)
    loaded = models.build(name, 4, weights=path)
    assert_same_state(loaded, source.state_dict())
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_counters_that_old_checkpoints_lack_are_not_missing(tmp_path: Path) -> None:
    source = trained(models.resnet20())
    old = {k: t for k, t in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "m.pth")
    assert_same_state(models.resnet20(weights=tmp_path / "m.pth"), source.state_dict())


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_resnet_of_another_zoo_loads_from_file_and_by_load_state_dict(tmp_path: Path, shortcut: str) -> None:
    source = trained(models.resnet20(shortcut=shortcut))
    theirs = {
        k.replace("fc.", "linear.").replace("downsample", "shortcut"): t
        for k, t in source.state_dict().items()
    }
    torch.save(
        {"state_dict": {f"module.{k}": t for k, t in theirs.items()}, "best_prec1": 91.7}, tmp_path / "m.th"
    )
    assert_same_state(models.resnet20(weights=tmp_path / "m.th", shortcut=shortcut), source.state_dict())
    model = models.resnet20(shortcut=shortcut)
    model.load_state_dict(dict(theirs))
    assert_same_state(model, source.state_dict())


def test_resnet_inside_another_module_loads_strictly() -> None:
    outer = nn.Sequential(models.resnet20())
    outer.load_state_dict(outer.state_dict())


def altered(change: str) -> dict[str, Tensor]:
    state = dict(trained(models.cnn(num_classes=10)).state_dict())
    if change == "missing":
        del state["features.3.weight"]
    elif change == "unexpected":
        state["extra.weight"] = torch.zeros(1)
    elif change == "shape":
        state["features.3.weight"] = torch.zeros(32, 16, 5, 5)
    elif change == "classes":
        state["classifier.weight"], state["classifier.bias"] = torch.zeros(100, 64), torch.zeros(100)
    elif change == "nan":
        state["features.3.weight"] = state["features.3.weight"].clone()
        state["features.3.weight"][0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    elif change == "dtype":
        state["classifier.weight"] = torch.zeros(10, 64, dtype=torch.int64)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"does not fit CNN: missing features\.3\.weight$"),
        ("unexpected", r"does not fit CNN: unexpected extra\.weight$"),
        ("shape", r"features\.3\.weight \(32, 16, 5, 5\) instead of \(32, 16, 3, 3\)"),
        ("classes", r"was trained for 100 classes \(classifier\.weight\), the model has num_classes=10"),
        ("nan", r"features\.3\.weight has 2 values that are NaN or Inf"),
        ("dtype", r"classifier\.weight is torch\.int64, expected torch\.float32"),
    ],
)
def test_mismatch_is_named_and_the_model_unchanged(tmp_path: Path, change: str, message: str) -> None:
    write_tensors(tmp_path / "m.safetensors", altered(change))
    model = models.cnn(num_classes=10)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    with pytest.raises(PtqxError, match=message):
        models.load_weights(model, tmp_path / "m.safetensors")
    assert_same_state(model, before)


def test_checkpoint_of_another_architecture_lists_a_few_keys(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m.safetensors", models.lenet5().state_dict())
    with pytest.raises(PtqxError, match=r"missing .* and \d+ more; unexpected .* more"):
        models.resnet20(weights=tmp_path / "m.safetensors")


@pytest.mark.parametrize(("num_classes", "kept"), [(10, True), (100, False)])
def test_pretrained_body_loads_and_a_head_of_other_size_is_new(
    tmp_path: Path, num_classes: int, kept: bool
) -> None:
    source = trained(models.cnn(num_classes=num_classes))
    write_tensors(tmp_path / "m.safetensors", source.state_dict())
    model = models.cnn(num_classes=10)
    new_head = model.classifier.weight.clone()
    assert models.load_pretrained(model, tmp_path / "m.safetensors") is kept
    assert torch.equal(model.features[0].weight, source.features[0].weight)
    assert torch.equal(model.classifier.weight, source.classifier.weight if kept else new_head)


def test_pretrained_of_another_architecture_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m.safetensors", models.lenet5().state_dict())
    with pytest.raises(PtqxError, match="does not fit CNN"):
        models.load_pretrained(models.cnn(), tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet20", "lenet5", "cnn", "mobilenet_v2"])
def test_replaced_head_gives_the_new_number_of_classes(name: str) -> None:
    model = models.replace_head(models.build(name, 10), 3).eval()
    x = torch.zeros(1, 1, 28, 28) if name in ("lenet5", "cnn") else torch.zeros(1, 3, 32, 32)
    assert model(x).shape == (1, 3)


def test_head_without_a_linear_layer_is_an_error() -> None:
    with pytest.raises(PtqxError, match="no linear layer"):
        models.replace_head(nn.Sequential(nn.Conv2d(3, 3, 1)), 10)


@pytest.mark.parametrize("path", sorted(TRAINED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_weights_that_ptqx_brings_load_by_the_name_of_their_data_set(path: Path) -> None:
    name = next(n for n in models.names() if path.stem.startswith(f"{n}_"))
    dataset = path.stem.removeprefix(f"{name}_")
    assert dataset in models.trained_on(name)
    tensors, metadata = read_tensors(path)
    model = models.build(name, int(metadata["num_classes"]), weights=dataset)
    assert_same_state(model, tensors)
    assert all(t.dtype == torch.float16 for t in tensors.values() if t.is_floating_point())
    assert path.with_suffix(".csv").is_file()  # the log of its training


def test_unknown_trained_weights_are_named() -> None:
    with pytest.raises(PtqxError, match=r"unknown weights of lenet5 .*'mnits'; did you mean mnist\?"):
        models.lenet5(weights="mnits")
