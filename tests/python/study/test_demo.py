from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ptqx import graph
from ptqx.study import demo


@pytest.mark.usefixtures("eager")
def test_demo_leaves_a_report_results_and_models(tmp_path: Path) -> None:
    report = demo(tmp_path, epochs=3, formats=("fp32", "fp16", "int8"), seconds=0.1, progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {
        *("report.html", "results.json", "fp32.safetensors", "fp16.safetensors", "int8.ptqx"),
    }
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == report.rows
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert graph.load(tmp_path / "int8.ptqx")(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
