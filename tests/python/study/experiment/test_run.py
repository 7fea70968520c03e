"""A small study from end to end: what it stores, that it resumes anywhere and stops at a disagreement."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ptqx import graph
from ptqx.errors import PtqxError
from ptqx.study import Results, page_of, read_results, run_study
from ptqx.study.experiment import results as stored
from ptqx.study.experiment.part import units
from ptqx.study.experiment.subject import digest
from small_study import FEW, SMALL, small_study, without_times

Finished = tuple[Results, Path]
pytestmark = pytest.mark.usefixtures("eager_session")


def test_rows_have_the_keys_of_a_comparison_and_of_a_study(finished: Finished) -> None:
    results, _ = finished
    rows = {row["format"]: row for row in results.rows}
    assert list(rows) == ["fp32", "fp16", "bf16", "int8", "w2a2", "control of w4a4-qat", "w4a4-qat"]
    kinds = {name: (row["kind"], row["execution"]) for name, row in rows.items()}
    assert kinds["int8"] == ("ptq", "integer")
    assert kinds["w4a4-qat"] == ("qat", "integer")
    assert kinds["control of w4a4-qat"] == ("float", "float")
    for row in rows.values():
        assert row["drop"] == pytest.approx(rows["fp32"]["top1"] - row["top1"])
        assert row["drop_ci95"][0] <= row["drop"] <= row["drop_ci95"][1]
        assert row["top1"] == pytest.approx(sum(row["top1_runs"]) / len(row["seeds"]))
        assert (row["logits_db"] is None) == (row["format"] == "fp32")
        assert row["tier"] == "cpu"
    assert rows["int8"]["seeds"] == [0, 1]
    assert rows["int8"]["n_calibration"] == 64
    assert rows["int8"]["recipe"]["weights"]["bits"] == 8
    assert rows["int8"]["latency_ms"] > 0
    trained = rows["w4a4-qat"]
    assert trained["control"] == "control of w4a4-qat"
    assert trained["drop_control"] == pytest.approx(rows["control of w4a4-qat"]["top1"] - trained["top1"])
    assert [line["epoch"] for line in trained["history"][0]][-1] == 1
    # What a run found does not say so: a control may be asked for later, of rows that are trained already.
    assert all("control" not in run for run in results.of("rows"))


def test_accuracies_and_sizes_are_those_of_the_stored_files(finished: Finished) -> None:
    from ptqx import data
    from ptqx.train import evaluate

    results, folder = finished
    test = data.load("digits", split="test")
    first_runs = {run["row"]: run for run in reversed(results.of("rows"))}
    for name in ("int8", "w2a2", "w4a4-qat"):
        file = folder / "models" / f"{name}.ptqx"
        assert evaluate(graph.load(file), test).top1 == first_runs[name]["top1"]
        assert first_runs[name]["size_bytes"] == file.stat().st_size


def test_every_part_leaves_its_findings(finished: Finished) -> None:
    results, _ = finished
    assert results.parts() == ["rows", *SMALL["parts"]]
    assert set(results.seconds) == set(results.parts())
    (law,) = results.laws
    assert law["bits"] == [8.0, 4.0, 3.0, 2.0]
    assert {v["bias"] for v in results.of("biases")} >= {"int32", "float32"}
    layers = results.of("sensitivity")[0]["layers"]
    assert [layer["layer"] for layer in layers] == ["features.0", "features.3", "features.7", "classifier"]
    formats = {entry["format"] for entry in results.of("latency")[0]["speed"]}
    assert {"fp32", "int8", "w4a4-qat", "int8, simulated, eager"} <= formats


def test_integer_and_float_biases_agree_and_saturated_ones_do_not(finished: Finished) -> None:
    top1 = {v["bias"]: v["agreement"] for v in finished[0].of("biases")}
    assert top1["int32"] >= 97.0
    assert top1["float32"] >= 97.0
    assert top1["int8, own scale"] >= 90.0
    assert top1["int8, accumulator's scale"] < top1["int8, own scale"]


def test_verdicts_state_a_claim_a_statistic_and_a_verdict(finished: Finished) -> None:
    verdicts = finished[0].verdicts
    assert len(verdicts) >= 15
    assert len({v["claim"] for v in verdicts}) == len(verdicts)
    for v in verdicts:
        assert v["verdict"] in ("supported", "not supported", "undecided")
        assert v["statistic"]
        if v["value"] is not None:
            assert v["low"] <= v["value"] <= v["high"]


def test_report_is_one_file_with_all_figures(finished: Finished, tmp_path: Path) -> None:
    _, folder = finished
    page = (folder / "report.html").read_text()
    assert "Energy is not measured" in page
    for outside in ("<script", "<link", "src=", "http://", "@import"):
        assert outside not in page.replace('xmlns="http://', "").replace('xlink="http://', "")
    figures = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert {"overview", "size", "latency", "bits", "law", "training", "sqnr", "sensitivity"} <= figures
    assert {"half_floats", "weights", "activations", "weights_w4a4", "outputs_w4a4"} <= figures
    assert page.count("<svg") == len(figures)
    page_of(folder / "results.json", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page


def test_second_run_does_nothing_again(finished: Finished, tmp_path: Path) -> None:
    results, folder = finished
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    again = run_study(small_study(), copied, progress=False)
    assert again.to_json() == results.to_json()


class Killed(BaseException):
    """What a test throws in place of a signal that can't be caught."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_killed_at_every_write_ends_with_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    study = small_study(**FEW)
    whole = run_study(study, tmp_path / "whole", progress=False)
    write = stored.write_text
    written = set()

    def killing(path: Any, text: str) -> None:
        count = len(json.loads(text)["units"])
        first, _ = count not in written, written.add(count)
        if not first or when == "after":
            write(path, text)
        if first:
            raise Killed

    monkeypatch.setattr(stored, "write_text", killing)
    runs = 0
    while True:
        runs += 1
        try:
            results = run_study(study, tmp_path / "killed", progress=False)
            break
        except Killed:
            assert runs < 30
    assert runs > len(whole.units)
    assert without_times(results) == without_times(whole)


def test_killed_process_goes_on_to_the_same_results(tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps({**SMALL, **FEW}))  # JSON is YAML
    command = [sys.executable, "-m", "ptqx", "study", "--config", str(config), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = tmp_path / "out" / "results.json"
    while process.poll() is None and not file.is_file():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(read_results(file).units) < 9
    killed = run_study(small_study(**FEW), tmp_path / "out", progress=False)
    whole = run_study(small_study(**FEW), tmp_path / "whole", progress=False)
    assert without_times(killed) == without_times(whole)


def test_only_what_changed_is_done_again(finished: Finished, tmp_path: Path) -> None:
    results, folder = finished
    copied = tmp_path / "copy"
    shutil.copytree(folder, copied)
    changed = [{"recipe": "int8", "changes": {"weights": {"granularity": "tensor"}}}, *SMALL["ptq"][1:]]
    parts = {key: SMALL["parts"][key] for key in ("biases", "sensitivity")}
    again = run_study(small_study(ptq=changed, parts=parts), copied, progress=False)
    before = {unit["fingerprint"]: unit for unit in results.units}
    new = [unit["name"] for unit in again.units if before.get(unit["fingerprint"]) != unit]
    assert new == ["int8, seed 0", "int8, seed 1"]


def test_results_alone_are_continued_elsewhere(finished: Finished, tmp_path: Path) -> None:
    results, folder = finished
    shutil.copy(folder / "results.json", tmp_path)
    parts = {"biases": SMALL["parts"]["biases"], "latency": {"single": False, "simulated": False}}
    again = run_study(small_study(parts=parts), tmp_path, progress=False)
    before = {unit["fingerprint"] for unit in results.units}
    assert [unit["part"] for unit in again.units if unit["fingerprint"] not in before] == ["latency"]
    timed = {row["format"] for row in again.rows if row["latency_ms"] is not None}
    assert {"fp32", "int8", "w2a2", "w4a4-qat"} <= timed


def test_machine_is_the_one_that_was_timed(finished: Finished, tmp_path: Path) -> None:
    results, folder = finished
    other = {**results.machine, "cpu": "another"}
    values = json.loads((folder / stored.FILE).read_text())
    (tmp_path / stored.FILE).write_text(json.dumps({**values, "machine": other}))
    assert run_study(small_study(), tmp_path, progress=False).machine == other
    assert run_study(small_study(batch_size=4), tmp_path, progress=False).machine == results.machine


def test_a_run_stopped_in_training_does_not_hinder_another_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ptqx.study.experiment import rows

    trained = rows.train_quantized

    def stopped(*arguments: Any, **options: Any) -> Any:
        trained(*arguments, **options)
        raise Killed

    monkeypatch.setattr(rows, "train_quantized", stopped)
    with pytest.raises(Killed):
        run_study(small_study(parts={}), tmp_path, progress=False)
    monkeypatch.undo()
    (left,) = (tmp_path / "runs").glob("w4a4-qat-0-*/checkpoint.pt")
    changed = [{**SMALL["qat"][0], "train": {**SMALL["qat"][0]["train"], "lr": 0.005}}]
    results = run_study(small_study(parts={}, qat=changed), tmp_path, progress=False)
    assert results.rows[-1]["format"] == "w4a4-qat"
    assert not left.is_file()
    assert not list((tmp_path / "runs").glob("**/checkpoint.pt"))


def test_disagreement_of_integer_and_simulated_model_names_row_and_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converting = sys.modules["ptqx.graph.convert"]
    lowered = converting._lowered  # type: ignore[attr-defined]

    def defective(prep: graph.SimulatedModel) -> graph.IntegerModel:
        model: graph.IntegerModel = lowered(prep)
        if prep.recipe.weights is not None and prep.recipe.weights.bits == 2:
            scale = next(
                t for name, t in model.named_buffers() if "3" in name and name.endswith("weight_scale")
            )
            scale.mul_(2)
        return model

    monkeypatch.setattr(converting, "_lowered", defective)
    study = small_study(ptq=[{"recipe": "int8"}, {"recipe": "w2a2"}], qat=[], parts={})
    with pytest.raises(
        PtqxError, match=r"row 'w2a2': features.3 \(conv2d\): .* differ from the simulated one"
    ):
        run_study(study, tmp_path, progress=False)
    assert {unit["name"] for unit in read_results(tmp_path / "results.json").units} >= {"int8, seed 1"}
    assert "w2a2, seed 0" not in (tmp_path / "results.json").read_text()


def test_results_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("{", "[]", '{"kind": "study", "schema": 99}', '{"kind": "study", "schema": 1, "x": 1}'):
        path.write_text(text)
        with pytest.raises(PtqxError, match=r"results\.json"):
            read_results(path)


def test_digest_says_values_not_layout() -> None:
    convolution = torch.nn.Conv2d(16, 3, 1)
    expected = digest(convolution)
    assert digest(convolution.to(memory_format=torch.channels_last)) == expected  # type: ignore[call-overload]
    torch.nn.init.zeros_(convolution.weight)
    assert digest(convolution) != expected


DISTRIBUTED = """
import json, sys
from ptqx.study import run_study
from ptqx.train import distributed

sys.path.insert(0, sys.argv[1])
from small_study import FEW, small_study

results = run_study(small_study(**{**FEW, "qat": json.loads(sys.argv[3])}), sys.argv[2], progress=False)
if distributed.launched_rank() == 0:
    print(len(results.rows), "rows")
"""


def test_processes_of_torchrun_train_together_and_the_first_does_the_rest(
    tmp_path: Path, torchrun: Callable[..., str]
) -> None:
    study = small_study(**{**FEW, "qat": SMALL["qat"]})
    folder = tmp_path / "shared"
    assert torchrun(DISTRIBUTED, Path(__file__).parent, folder, json.dumps(SMALL["qat"])) == "6 rows\n"
    shared = read_results(folder / stored.FILE)
    assert (folder / "report.html").is_file()
    assert [unit["name"] for unit in shared.units] == [unit.name for unit in units(study)]
    (trained,) = [row for row in shared.rows if row["format"] == "w4a4-qat"]
    start, end = trained["history"][0]
    assert {"val_top1", "test_top1"} <= set(start) & set(end)
    config = json.loads(next(folder.glob("runs/w4a4-qat-0-*/config.json")).read_text())
    assert config["world_size"] == 2
    assert run_study(study, folder, progress=False).to_json() == shared.to_json()


def test_process_group_of_the_caller_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqx.train import distributed

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(PtqxError, match="outside of a process group"):
        run_study(small_study(**FEW), tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_same_values_with_other_options_are_another_network(finished: Finished, tmp_path: Path) -> None:
    """Such as dropout, which has no values."""
    from ptqx.study.experiment.run import _planned
    from ptqx.study.experiment.subject import load_subject

    weights = str(finished[1] / "models" / "float.safetensors")
    options: list[dict[str, Any]] = [{"width": 4}, {"width": 4, "in_channels": 1}]
    studies = [small_study(train=None, weights=weights, model_options=chosen) for chosen in options]
    subjects = [load_subject(study, tmp_path, tmp_path, False, False) for study in studies]
    assert digest(subjects[0].model) == digest(subjects[1].model)
    assert _planned(subjects[0]).keys().isdisjoint(_planned(subjects[1]).keys())
