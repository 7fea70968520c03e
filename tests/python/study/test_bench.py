"""bench: who runs, who is skipped and why, and what is written. No time is judged."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from ptqx import _C
from ptqx.errors import PtqxError
from ptqx.study import bench as bench_package
from ptqx.study import formats
from ptqx.study.bench import (
    BenchReport,
    Load,
    Network,
    Session,
    Unavailable,
    bench,
    engine,
    engine_names,
    load_network,
    register_engine,
    registry,
    run,
)
from ptqx.study.bench.memory import peak_allocation
from torch import Tensor

OWN = ("ptqx", "ptqx-int4", "ptqx-eager", "torch-fp32")
PEERS = ("onnxruntime", "openvino", "openvino-fp32", "torch-fx", "torch-pt2e")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, eager: None) -> None:
    """Samples of a millisecond, and no compiling of float models."""
    monkeypatch.setattr(run, "SAMPLE_SECONDS", 1e-3)
    monkeypatch.setattr(run, "SETTLE_SECONDS", 1e-4)
    monkeypatch.setattr(run, "CEILING_SECONDS", 5e-3)


@pytest.fixture
def fake() -> Iterator[None]:
    """Engines that only these tests know are forgotten again."""
    former = dict(registry.ENGINES)
    yield
    registry.ENGINES.clear()
    registry.ENGINES.update(former)


@pytest.fixture(scope="module")
def report() -> BenchReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SAMPLE_SECONDS", 1e-3)
        patch.setattr(run, "SETTLE_SECONDS", 1e-4)
        patch.setattr(run, "CEILING_SECONDS", 5e-3)
        patch.setattr(formats, "compiled", lambda model, example: (model, "eager"))
        return bench(["cnn"], [1, 3], [1, 2], OWN, rounds=2, layers=True, progress=False)


def test_every_engine_runs_every_combination(report: BenchReport) -> None:
    got = [(row["model"], row["threads"], row["batch"], row["engine"]) for row in report.rows]
    assert got == [("cnn", threads, batch, name) for threads in (1, 2) for batch in (1, 3) for name in OWN]
    assert not report.skipped


def test_rows_agree_with_themselves(report: BenchReport) -> None:
    for row in report.rows:
        assert 0 < row["lower_quartile_ms"] <= row["median_ms"] <= row["upper_quartile_ms"]
        assert row["images_per_second"] == pytest.approx(1e3 * row["batch"] / row["median_ms"])
        assert row["rounds"] == 2
        assert row["ratio_to_best_peer"] is None
        fp32 = next(
            other
            for other in report.rows
            if other["engine"] == "torch-fp32"
            and (other["batch"], other["threads"]) == (row["batch"], row["threads"])
        )
        assert row["ratio_to_torch_fp32"] == pytest.approx(fp32["median_ms"] / row["median_ms"])


def test_all_compute_the_same_network(report: BenchReport) -> None:
    sqnr = {row["engine"]: row["sqnr_db"] for row in report.rows}
    assert sqnr["torch-fp32"] == math.inf  # eager here: the very same model
    assert sqnr["ptqx"] == sqnr["ptqx-eager"] > 25
    assert 10 < sqnr["ptqx-int4"] < sqnr["ptqx"]


def test_the_tuned_engine_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("ptqx.graph.tuning.SECONDS", 0.01)
    names = ["ptqx", "ptqx-tuned"]
    rows = bench(["cnn"], [2], [1], names, rounds=2, progress=False).rows
    assert [row["engine"] for row in rows] == names
    assert rows[0]["sqnr_db"] == rows[1]["sqnr_db"]


def test_threads_are_put_back(report: BenchReport) -> None:
    assert torch.get_num_threads() == 1


def test_ceilings_are_those_of_one_thread_and_of_all(report: BenchReport) -> None:
    assert [entry["threads"] for entry in report.ceilings] == [1, 2]
    for entry in report.ceilings:
        for key in ("u8s8_macs", "f32_macs", "read_bytes", "copy_bytes"):
            assert 0 < entry[key] < math.inf


def test_memory_counts_every_part(report: BenchReport) -> None:
    for entry in report.memory:
        assert entry["total"] == entry["file"] + entry["weights"] + entry["activations"]
    model = load_network("cnn").model
    floats = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    by_engine = {(e["engine"], e["batch"], e["threads"]): e for e in report.memory}
    assert by_engine["torch-fp32", 1, 1]["weights"] == floats
    assert by_engine["ptqx", 1, 1]["weights"] > 0
    assert by_engine["ptqx", 3, 1]["activations"] > by_engine["ptqx", 1, 1]["activations"]
    assert by_engine["ptqx-int4", 1, 1]["file"] < by_engine["ptqx", 1, 1]["file"]


def test_the_peak_of_allocations_is_that_of_the_tensors_held_together() -> None:
    def run_once() -> Tensor:
        first = torch.empty(1 << 20, dtype=torch.uint8)
        second = torch.empty(1 << 21, dtype=torch.uint8)
        del first, second
        return torch.empty(1 << 20, dtype=torch.uint8)

    assert peak_allocation(run_once) == 3 << 20


def test_steps_are_those_of_the_engine(report: BenchReport) -> None:
    steps = [entry for entry in report.steps if entry["batch"] == 3]
    assert sum(entry["time_share"] for entry in steps) == pytest.approx(1.0)
    layers = {entry["step"]: entry for entry in steps if entry["nominal_macs"] is not None}
    assert {"features.0", "features.3", "features.7", "classifier"} <= set(layers)
    first = layers["features.3"]  # 16 to 32 channels, 3x3 on 8x8: of 24 taps an axis two lie on padding
    assert first["nominal_macs"] == 3 * 16 * 32 * 9 * 64
    assert first["useful_macs"] == 3 * 16 * 32 * 22 * 22
    assert 0 < first["useful_share"] < first["nominal_share"]


def test_tables_json_and_plot_hold_what_was_measured(report: BenchReport, tmp_path: Path) -> None:
    text = report.to_markdown()
    for word in (*OWN, "u8 x s8 GMAC/s", "of fp32", "features.3"):
        assert word in text
    report.to_json(tmp_path / "a.json")
    written = json.loads((tmp_path / "a.json").read_text())
    assert len(written["rows"]) == len(report.rows)
    assert written["rows"][3]["engine"] == "torch-fp32"
    assert written["rows"][3]["sqnr_db"] is None, "infinity is no JSON"
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        report.to_plot(tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)
    with pytest.raises(PtqxError, match=r"ends in \.png"):
        report.to_plot(tmp_path / "a.gif")


@pytest.mark.parametrize("name", PEERS)
def test_peers_run_or_say_what_is_missing(name: str) -> None:
    result = bench(["cnn"], [2], [1], [name], rounds=2, progress=False)
    missing = [package for package in engine(name).packages if importlib.util.find_spec(package) is None]
    if missing:
        assert [entry["engine"] for entry in result.skipped] == [name]
        assert "pip install 'ptqx[peers]'" in result.skipped[0]["reason"]
        assert name in result.to_markdown()
        return
    assert not result.skipped, result.skipped
    (row,) = result.rows
    assert row["sqnr_db"] > 12, "it computes another network"
    assert row["ratio_to_best_peer"] == (1.0 if engine(name).peer else None)


def test_a_missing_package_is_a_reason(fake: None) -> None:
    @register_engine("fake", "int8", peer=True, packages=("no_such_package",))
    def prepare(network: Network) -> Load:
        raise AssertionError("never called")

    (entry,) = bench(["cnn"], [1], [1], ["fake"], rounds=2, progress=False).skipped
    assert entry["reason"] == "no_such_package not installed: pip install 'ptqx[peers]'"


def test_a_peer_that_fails_is_skipped_and_the_others_run(fake: None) -> None:
    @register_engine("fake-prepare", "int8", peer=True)
    def fails_to_prepare(network: Network) -> Load:
        raise KeyError("unsupported\nlayer")

    @register_engine("fake-shape", "int8", peer=True)
    def wrong_shape(network: Network) -> Load:
        return lambda batch, threads: Session(lambda: torch.zeros(1))

    @register_engine("fake-cpu", "bf16")
    def unavailable(network: Network) -> Load:
        raise Unavailable("no such arithmetic")

    names = ["fake-prepare", "fake-shape", "fake-cpu", "ptqx-eager"]
    result = bench(["cnn"], [1], [1], names, rounds=2, progress=False)
    assert [row["engine"] for row in result.rows] == ["ptqx-eager"]
    assert [(e["engine"], e["batch"], e["reason"]) for e in result.skipped] == [
        ("fake-prepare", None, "fails: KeyError: 'unsupported\\nlayer'"),
        ("fake-cpu", None, "no such arithmetic"),
        ("fake-shape", 1, "fails: RuntimeError: gives [1] for logits of [1, 10]"),
    ]


def test_a_defect_of_ptqx_is_not_skipped(fake: None) -> None:
    @register_engine("ptqx-broken", "int8")
    def broken(network: Network) -> Load:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        bench(["cnn"], [1], [1], ["ptqx-broken"], rounds=2, progress=False)


def test_peers_are_compared_with_the_fastest_of_them(fake: None) -> None:
    import time

    def sleeping(seconds: float) -> Load:
        def load(batch: Tensor, threads: int) -> Session:
            def call() -> Tensor:
                time.sleep(seconds)
                return torch.ones(len(batch), 10)

            return Session(call)

        return load

    register_engine("fake-slow", "int8", peer=True)(lambda network: sleeping(0.05))
    register_engine("fake-fast", "int8", peer=True)(lambda network: sleeping(0.001))
    rows = bench(["cnn"], [1], [1], ["fake-slow", "fake-fast"], rounds=2, progress=False).rows
    ratios = {row["engine"]: row["ratio_to_best_peer"] for row in rows}
    assert ratios["fake-fast"] == 1.0
    assert ratios["fake-slow"] is not None and ratios["fake-slow"] < 1.0


def test_engines_are_listed_ours_first_and_all_are_registered() -> None:
    names = engine_names()
    ours = [engine(name).ours for name in names]
    assert ours == sorted(ours, reverse=True)
    assert {*OWN, *PEERS, "ptqx-compile", "torch-bf16"} <= set(names)
    assert set(bench_package.__all__) <= set(dir(bench_package))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ["vgg11bn"]}, "did you mean vgg11_bn"),
        ({"engines": ["openvion"]}, "did you mean openvino"),
        ({"models": []}, "models must not be empty"),
        ({"batch_sizes": [1, 0]}, "batch_sizes must be at least 1, got 0"),
        ({"threads": [-1]}, "threads must be at least 1, got -1"),
        ({"rounds": 1}, "rounds must be at least 2, got 1"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PtqxError, match=message):
        bench(**{"models": ["cnn"], "engines": ["ptqx"], "progress": False, **arguments})  # type: ignore[arg-type]


def test_networks_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = load_network("resnet20"), load_network("resnet20")
    assert torch.equal(torch.rand(1), expected)
    images = first.calibration[0]
    assert torch.equal(images, second.calibration[0])
    assert torch.equal(first.model(images), second.model(images))
    assert not first.model.training


def test_what_the_engine_tells_names_bad_arguments() -> None:
    program = torch.zeros(100, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"not a \.ptqx file"):
        _C.engine_memory(program, 1, 1)
    with pytest.raises(ValueError, match="batch: expected at least 0, got -1"):
        _C.engine_memory(program, -1, 1)
    with pytest.raises(ValueError, match="threads: expected at least 1, got 0"):
        _C.engine_memory(program, 1, 0)
    with pytest.raises(ValueError, match=r"not a \.ptqx file"):
        _C.engine_profile(program, 1, 1)
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        _C.engine_profile(program, 1, 0)
    with pytest.raises(ValueError, match="program must be a uint8 tensor"):
        _C.engine_profile(program.int(), 1, 1)
    with pytest.raises(ValueError, match="threads: expected at least 1, got 0"):
        _C.measure_machine(0, 0.01)


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_a_segmentation_network_gives_logits_of_every_pixel() -> None:
    network = load_network("lraspp_mobilenet_v3_large")
    with torch.no_grad():
        assert network.model(torch.randn(1, *network.image_shape)).shape == (1, 21, 224, 224)
