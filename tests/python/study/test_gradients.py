"""Training with gradients of few bits between two processes against float32, through the same commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ptqx.cli import main
from ptqx.errors import PtqxError
from ptqx.study import compare_gradients


def test_one_bit_learns_with_a_twenty_fifth_of_the_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gradients", "--formats", "32,1", "--epochs", "8", "--batch-size", "64"]
    assert main([*command, "--out", str(tmp_path / "runs"), "--json", str(tmp_path / "table.json")]) == 0
    float32, one_bit = json.loads((tmp_path / "table.json").read_text())
    assert (float32["gradients"], one_bit["gradients"]) == ("32", "1")
    steps, parameters, packed = 8 * 22, 24_058, 3008 + 4 * 11
    assert float32["bytes_sent"] == float32["float32_bytes"] == 4 * steps * parameters
    assert one_bit["bytes_sent"] == steps * packed
    assert one_bit["times_fewer"] == 4 * parameters / packed > 25
    assert float32["top1"] > 95 and one_bit["difference"] > -2.0  # of 360 images
    config = json.loads((tmp_path / "runs" / "1-seed0" / "config.json").read_text())
    assert config["gradients"] == {"bits": 1, "rounding": "nearest"} and config["world_size"] == 2
    assert f"{one_bit['bytes_sent']:,} |" in capsys.readouterr().out


def test_failed_training_is_reported_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(PtqxError, match=r"32-seed0 failed: unknown model 'cnnn'; did you mean cnn\?"):
        compare_gradients("cnnn", "digits", tmp_path, formats=["1"], progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ["2"]}, "unknown gradients '2'; known: 32, 8, 8-stochastic, 4, 4-stochastic, 1"),
        ({"formats": ["32"]}, "formats must have one beside float32"),
        ({"processes": 1}, "processes must be at least 2 to send each other gradients, got 1"),
        ({"seeds": ()}, "seeds must have at least one"),
    ],
)
def test_wrong_input_is_named_before_anything_is_trained(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(PtqxError, match=message):
        compare_gradients("cnn", "digits", tmp_path / "out", progress=False, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
