"""compare from end to end, on a small network and the embedded digits."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from ptqx import graph
from ptqx.data import ImageDataset, Loader
from ptqx.errors import PtqxError
from ptqx.qat import QATConfig
from ptqx.study import Report, compare, layer_sqnr, names
from ptqx.study.formats import FLOAT16_TYPES, compiled, maker, widths
from ptqx.study.machine import native_float_types
from ptqx.train import TrainConfig, evaluate, fit
from torch import nn

Digits = tuple[ImageDataset, ImageDataset]
FORMATS = ["fp32", "fp16", "bf16", "int8", "int4", "int8-weight-only", "w2a4", "int4-qat"]


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    from ptqx import data
    from ptqx.models import cnn

    torch.manual_seed(0)
    model = cnn(width=8)
    train, test = data.load("digits"), data.load("digits", split="test")
    fit(model, train, test, TrainConfig(epochs=4, batch_size=64, amp="off"), device="cpu", progress=False)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture(scope="module")
def compared(trained: nn.Module, folder: Path) -> Report:
    from ptqx import data

    state = copy.deepcopy(trained.state_dict())
    report = compare(
        trained,
        data.load("digits"),
        data.load("digits", split="test"),
        FORMATS,
        batch_size=16,
        threads=1,
        calibration=256,
        qat=QATConfig(epochs=1, batch_size=64, amp="off"),
        seconds=0.1,
        save_to=folder,
        progress=False,
    )
    assert all(torch.equal(value, state[key]) for key, value in trained.state_dict().items())
    return report


def test_rows_are_in_order_and_say_what_they_are(compared: Report) -> None:
    kinds = {row["format"]: (row["kind"], row["execution"]) for row in compared.rows}
    native = native_float_types()
    assert list(kinds) == FORMATS
    assert kinds["fp32"] == ("float", "float")
    for name in FLOAT16_TYPES:
        assert kinds[name] == ("float", "float" if name in native else "simulated")
    assert kinds["int8"] == kinds["int4"] == kinds["w2a4"] == ("ptq", "integer")
    assert kinds["int8-weight-only"] == ("ptq", "float")
    assert kinds["int4-qat"] == ("qat", "integer")


def test_numbers_are_consistent(compared: Report, folder: Path) -> None:
    reference = compared.rows[0]
    assert reference["top1"] > 80.0
    assert (reference["drop"], reference["agreement"], reference["speedup_vs_fp32"]) == (0.0, 100.0, 1.0)
    for row in compared.rows:
        low, high = row["drop_ci95"]
        assert low <= row["drop"] <= high, row["format"]
        assert row["drop"] == pytest.approx(reference["top1"] - row["top1"])
        assert (row["batch"], row["threads"]) == (16, 1)
        if row["latency_ms"] is not None:
            assert row["throughput"] == pytest.approx(16e3 / row["latency_ms"])
            assert row["speedup_vs_fp32"] == pytest.approx(reference["latency_ms"] / row["latency_ms"])
    assert json.loads(compared.to_json())["rows"] == compared.rows


def test_simulated_rows_have_no_speed(compared: Report) -> None:
    for row in compared.rows:
        timed = row["execution"] != "simulated"
        assert all((row[key] is not None) == timed for key in ("latency_ms", "throughput", "speedup_vs_fp32"))


def test_sizes_are_those_of_the_files(compared: Report, folder: Path) -> None:
    sizes = {row["format"]: row["size_bytes"] for row in compared.rows}
    for name, size in sizes.items():
        (file,) = folder.glob(f"{name}.*")
        assert file.stat().st_size == size
    assert sizes["fp16"] == pytest.approx(sizes["bf16"], abs=64)  # "BF16" is a letter longer in the header
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["int4"] < sizes["int8"] < sizes["fp16"]


def test_int8_is_integer_throughout_and_close_to_float(compared: Report) -> None:
    row = next(row for row in compared.rows if row["format"] == "int8")
    assert row["coverage"] == 100.0
    assert abs(row["drop"]) <= 1.5
    assert row["agreement"] >= 97.0
    assert row["detail"] == "w8a8 static"


def test_int4_says_that_it_is_w4a8(compared: Report) -> None:
    assert next(row["detail"] for row in compared.rows if row["format"] == "int4") == "w4a8 static"


def test_accuracy_is_that_of_the_stored_integer_model(compared: Report, folder: Path) -> None:
    from ptqx import data

    for name in ("int8", "int4", "int4-qat"):
        top1 = evaluate(graph.load(folder / f"{name}.ptqx"), data.load("digits", split="test")).top1
        assert top1 == next(row["top1"] for row in compared.rows if row["format"] == name), name


def test_error_per_layer_grows_with_fewer_bits(compared: Report) -> None:
    ratio = {(e["format"], e["layer"]): e for e in compared.sqnr}
    for layer in ("features.3", "features.7"):
        eight, four, two = (ratio[name, layer]["weight_db"] for name in ("int8", "int4", "w2a4"))
        assert eight > four + 15 > two + 15
        assert ratio["int8", layer]["output_db"] > ratio["w2a4", layer]["output_db"]


def test_ratio_of_the_logits_is_that_over_all_test_images(compared: Report, folder: Path) -> None:
    from ptqx import data
    from ptqx.study import sqnr_db

    ratios = {row["format"]: row["sqnr_db"] for row in compared.rows}
    test = data.load("digits", split="test")
    real = evaluate(trained_model(folder), test).logits
    for name in ("int8", "int4"):
        given = evaluate(graph.load(folder / f"{name}.ptqx"), test).logits
        assert ratios[name] == pytest.approx(sqnr_db(real, given), abs=0.01)
    assert ratios["fp32"] is None
    assert ratios["int8"] > ratios["int4"] > ratios["w2a4"]


def trained_model(folder: Path) -> nn.Module:
    from ptqx.models import cnn, load_weights

    return load_weights(cnn(width=8), folder / "fp32.safetensors").eval()


def test_report_has_speed_coverage_and_distributions(compared: Report) -> None:
    assert {entry["batch"] for entry in compared.speed} == {16, 1}
    assert {row["execution"] for row in compared.coverage["int8"]} == {"integer"}
    assert {d["what"] for d in compared.distributions} == {"weight", "activation"}
    assert compared.info["calibration_images"] == 256
    assert compared.machine["isa"] == compared.rows[0]["isa"]


@pytest.mark.usefixtures("eager")
def test_same_seed_gives_the_same_accuracies(trained: nn.Module, digits: Digits) -> None:
    first, second = (
        compare(trained, *digits, ["int8"], seconds=0.01, single=False, batch_size=4, progress=False)
        for _ in range(2)
    )
    assert [row["top1"] for row in first.rows] == [row["top1"] for row in second.rows]
    assert first.sqnr == second.sqnr


@pytest.mark.usefixtures("eager")
def test_batches_in_place_of_data_sets(small_cnn: nn.Module, digits: Digits) -> None:
    train = [x for x, _ in Loader(digits[0].subset(slice(0, 96)), 32)]
    test = list(Loader(digits[1], 50))
    report = compare(
        small_cnn, train, test, ["int8"], calibration=80, seconds=0.01, single=False, progress=False
    )
    assert report.info["calibration_images"] == 80
    assert report.info["test_images"] == 120


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-weight-only"])
def test_layers_without_static_codes_have_their_ratios_too(name: str) -> None:
    from ptqx.models import cnn

    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    prep = graph.calibrate(graph.prepare(cnn(in_channels=1).eval(), name, x), [x])
    entries = layer_sqnr(prep, x)
    assert [entry["layer"] for entry in entries] == ["features.0", "features.3", "features.7", "classifier"]
    assert all(entry["weight_db"] > 35.0 and entry["output_db"] > 25.0 for entry in entries)


def test_sqnr_of_a_layer_is_infinite_where_nothing_is_lost() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(layer.weight, 1.0)
    x = torch.arange(256.0).reshape(1, 1, 16, 16)
    prep = graph.calibrate(graph.prepare(layer, "int8", x), [x])
    (entry,) = layer_sqnr(prep, x)
    assert entry["weight_db"] == float("inf")
    assert entry["output_db"] > 100.0


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ["int88"]}, "unknown format 'int88'; did you mean int8"),
        ({"formats": ["int8-qatt"]}, "did you mean int8-qat"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"calibration": 0}, "calibration must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"train": []}, "train has no images"),
        ({"test": []}, "test has no images"),
        ({"train": [3]}, "a batch must be a tensor or"),
        ({"test": iter([])}, "not an iterator"),
        ({"formats": ["int8-qat"], "train": [torch.zeros(4, 1, 8, 8)]}, "must be ptqx.data.ImageDataset"),
    ],
    ids=[
        *(
            "format",
            "qat-format",
            "batch",
            "calibration",
            "threads",
            "no-train",
            "no-test",
            "not-a-batch",
            "iterator",
        ),
        "qat-without-labels",
    ],
)
def test_bad_arguments_raise(
    small_cnn: nn.Module, digits: Digits, changes: dict[str, object], message: str
) -> None:
    arguments = {"train": digits[0], "test": digits[1], "formats": ["fp32"], "progress": False, **changes}
    with pytest.raises(PtqxError, match=message):
        compare(small_cnn, **arguments)  # type: ignore[arg-type]


def test_every_listed_format_has_a_maker() -> None:
    assert {"fp32", "fp16", "bf16", "int8", "int4", "int8-qat"} <= set(names())
    for name in [*names(), "w5a7", "int6-dynamic", "w3a8-qat"]:
        assert callable(maker(name))


def test_widths_of_a_recipe_without_weights() -> None:
    from ptqx.quant import Recipe, Scheme

    assert widths(Recipe(None, Scheme(signed=False, symmetric=False))) == "a8 static"


def test_missing_compiler_leaves_the_eager_model_and_says_so(
    small_cnn: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: nn.Module, **options: object) -> object:
        def run(x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler\nat all")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    model, detail = compiled(small_cnn, torch.zeros(1, 1, 8, 8))
    assert model is small_cnn
    assert detail == "eager: torch.compile failed (no C++ compiler)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int4+gptk", "unknown method 'gptk'; did you mean gptq"),
        ("int4+gptq:dampin=1", "did you mean damping"),
        ("int4-weight-only+activation_equalization", "works with static or dynamic recipes"),
        ("int4+gptq-qat", "training chooses the weights itself and takes no methods; use 'int4-qat'"),
    ],
)
def test_formats_with_methods_say_what_is_wrong_before_anything_runs(name: str, message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        maker(name)


class Attention(nn.Module):
    """Attention over pixels by an einsum, which has no integer form."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU()), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        scores = torch.einsum("ncp,ncq->npq", self.query(x).flatten(2), x.flatten(2))
        weights = torch.softmax(scores, dim=-1)
        return self.head((x + (x.flatten(2) @ weights).view(x.shape)).mean((2, 3)))


def test_a_network_with_a_part_in_float_is_compared_too(digits: Digits, tmp_path: Path) -> None:
    torch.manual_seed(0)
    report = compare(
        Attention().eval(),
        *digits,
        ["fp32", "int8"],
        batch_size=16,
        threads=1,
        seconds=0.05,
        save_to=tmp_path,
        progress=False,
    )
    row = report.rows[1]
    assert "steps after the engine" in row["detail"] and "size of the tensors alone" in row["detail"]
    assert row["size_bytes"] == (tmp_path / "int8.safetensors").stat().st_size
    assert row["throughput"] > 0 and 0 < row["coverage"] < 100
