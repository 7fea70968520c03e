"""`ptqx prune`, and what other commands make of its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ptqx import cli, files, models
from ptqx.study import formats, pruning, timing

torch.set_num_threads(1)  # the networks are small; threads would only wait for each other


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For a CNN that is not trained, timed as it is and but for a moment."""
    monkeypatch.setattr(formats, "compiled", lambda model, example: (model, "eager"))
    monkeypatch.setattr(pruning, "interleaved", lambda calls, seconds: timing.interleaved(calls, rounds=2))
    torch.manual_seed(0)
    path = tmp_path / "cnn.safetensors"
    files.write_tensors(path, models.cnn(width=8).state_dict())
    return ["--model", "cnn", "--dataset", "digits", "--model-option", "width=8", "--weights", str(path)]


def test_prune_writes_a_network_that_other_commands_take(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, result = tmp_path / "out", tmp_path / "result.json"
    pruning = ["--share", "0.5", "--multiple", "4", "--epochs", "1", "--train-images", "300"]
    pruning += ["--calibration", "64", "--batch-size", "8", "--out", str(out), "--json", str(result)]
    assert cli.main(["prune", *arguments, *pruning]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(result.read_text())["rows"]
    assert all(f"| {row['step']} " in printed for row in rows)
    assert rows[-1]["parameters"] <= 0.5 * rows[0]["parameters"]
    arguments[-1] = str(out / "pruned.safetensors")
    again = tmp_path / "again.ptqx.gz"
    assert cli.main(["quantize", *arguments, "--out", str(again), "--calibration", "64"]) == 0
    assert again.stat().st_size == pytest.approx(rows[-1]["compressed_bytes"], rel=0.1)
    assert "compressed from " in capsys.readouterr().out
    assert cli.main(["explain", str(again)]) == 0
    assert "features.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--share", "1.5"], "share must be in"),
        (["--share", "0"], "nothing to prune"),
        (["--sparsity", "2-4"], "expected a share such as 0.5, or a pattern such as 2:4"),
        (["--importance", "magnitud"], "did you mean magnitude"),
        (["--share", "0.999"], "can't be removed, at most"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*options, "--calibration", "16", "--batch-size", "4", "--out", str(tmp_path / "out")]
    assert cli.main(["prune", *arguments, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("error: ") == 1
