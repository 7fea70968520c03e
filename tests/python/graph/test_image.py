from __future__ import annotations

import json
from pathlib import Path

import networks
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import ImageOptions, IntegerModel, load, quantize, save
from ptqx.graph.document import graph_from_json

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OPTIONS = ImageOptions((0.5, 0.25, 0.125), (1, 2, 0.5), 256, ("cat", "dög"))


@pytest.fixture
def model() -> IntegerModel:
    return quantize(networks.Residual(), [X])


def test_files_keep_image_options(model: IntegerModel, tmp_path: Path) -> None:
    outputs = model(X).shape[1]
    options = ImageOptions(OPTIONS.mean, OPTIONS.std, 9, tuple(f"class {i}" for i in range(outputs)))
    save(model, tmp_path / "m.ptqx", image=options)
    again = load(tmp_path / "m.ptqx")
    assert again.graph.image == options and torch.equal(again(X), model(X))
    save(again, tmp_path / "again.ptqx")
    assert (tmp_path / "again.ptqx").read_bytes() == (tmp_path / "m.ptqx").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ImageOptions((0.5,), (1.0,)), "of 1 channels"),
        (ImageOptions(OPTIONS.mean, OPTIONS.std, classes=("cat",)), "1 classes for"),
    ],
)
def test_options_that_do_not_fit_the_network_are_refused(
    options: ImageOptions, message: str, model: IntegerModel, tmp_path: Path
) -> None:
    with pytest.raises(PtqxError, match=message):
        save(model, tmp_path / "m.ptqx", image=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", "0.5"),
        ("std", [1, 2]),
        ("mean", [0.5, 0.5, float("inf")]),
        ("std", [1, 0, 1]),
        ("std", None),
        ("resize", -1),
        ("resize", 65536),
        ("resize", 1.5),
        ("resize", True),
        ("classes", "cat"),
        ("classes", [1, 2]),
        ("color", "rgb"),
    ],
)
def test_values_without_meaning_are_refused(key: str, value: object, model: IntegerModel) -> None:
    document = json.loads(model.graph.to_json())
    document["image"] = {**OPTIONS.to_dict(), key: value}
    with pytest.raises(PtqxError, match=f"{key}|image"):
        graph_from_json(json.dumps(document))
    document["image"] = OPTIONS.to_dict()
    assert graph_from_json(json.dumps(document)).image == OPTIONS
