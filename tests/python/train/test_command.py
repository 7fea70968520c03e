"""`ptqx train` as a process: files, JSON, errors; two processes under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ptqx.data import load
from ptqx.errors import PtqxError
from ptqx.files import read_tensors
from ptqx.models import cnn, load_weights
from ptqx.train import evaluate, fingerprint
from ptqx.train.command import train

FAST = ("--epochs", "2", "--batch-size", "64", "--threads", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run_train) -> Path:  # type: ignore[no-untyped-def]
    out: Path = tmp_path_factory.mktemp("trained")
    done = run_train(*FAST, "--out", out, "--json", out / "result.json")
    assert done.returncode == 0, done.stderr
    return out


def test_command_writes_model_log_config_and_json(trained: Path) -> None:
    tensors, metadata = read_tensors(trained / "model.safetensors")
    result = json.loads((trained / "result.json").read_text())
    assert (
        metadata.items() >= {"model": "cnn", "dataset": "digits", "num_classes": "10", "epochs": "2"}.items()
    )
    assert (result["kind"], result["execution"], result["format"]) == ("float", "float", "fp32")
    assert result["size_bytes"] == (trained / "model.safetensors").stat().st_size
    assert len(result["history"]) == 2
    assert json.loads((trained / "config.json").read_text())["epochs"] == 2
    again = evaluate(cnn(weights=trained / "model.safetensors"), load("digits", split="test"))
    assert again.top1 == result["top1"] == float(metadata["top1"])
    assert tensors["classifier.weight"].dtype == torch.float32


def test_half_file_scores_what_its_metadata_says(tmp_path: Path, run_train) -> None:  # type: ignore[no-untyped-def]
    assert run_train(*FAST, "--out", tmp_path, "--half").returncode == 0
    tensors, metadata = read_tensors(tmp_path / "model.safetensors")
    assert tensors["classifier.weight"].dtype == torch.float16
    model = load_weights(cnn(), tmp_path / "model.safetensors")
    assert evaluate(model, load("digits", split="test")).top1 == float(metadata["top1"])


def test_model_options_reach_the_network_and_its_teacher(tmp_path: Path, run_train) -> None:  # type: ignore[no-untyped-def]
    done = run_train(*FAST, "--out", tmp_path / "wide", "--model-option", "width=8")
    assert done.returncode == 0, done.stderr
    teacher = tmp_path / "wide" / "model.safetensors"
    assert read_tensors(teacher)[1]["width"] == "8"
    given = ("--teacher", teacher, "--teacher-model-option", "width=8", "--model-option", "width=4")
    done = run_train(*FAST, "--out", tmp_path / "narrow", *given)
    assert done.returncode == 0, done.stderr
    load_weights(cnn(width=4), tmp_path / "narrow" / "model.safetensors")
    refused = run_train(*FAST, "--out", tmp_path / "other", "--model-option", "widht=4")
    assert refused.returncode == 2
    assert "did you mean width?" in refused.stderr


def test_init_replaces_a_head_of_another_size(tmp_path: Path, run_train) -> None:  # type: ignore[no-untyped-def]
    torch.save(cnn(num_classes=100).state_dict(), tmp_path / "pretrained.pt")
    done = run_train(*FAST, "--out", tmp_path / "out", "--init", tmp_path / "pretrained.pt")
    assert done.returncode == 0, done.stderr
    assert "head replaced" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_teacher_of_another_model_is_learned_from(tmp_path: Path, trained: Path, run_train) -> None:  # type: ignore[no-untyped-def]
    student = ("--model", "cnn", "--teacher", trained / "model.safetensors", "--teacher-model", "cnn")
    done = run_train(*FAST, *student, "--distillation", "1", "--seed", "1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    _, metadata = read_tensors(tmp_path / "model.safetensors")
    taught = load_weights(cnn(), trained / "model.safetensors")
    assert metadata["teacher_weights"] == fingerprint(taught) and metadata["teacher"] == "cnn"
    first = json.loads((tmp_path / "config.json").read_text())
    assert first["distillation"] == 1.0 and first["temperature"] == 4.0
    again = run_train(*FAST, "--seed", "1", "--out", tmp_path)
    assert again.returncode == 2 and "--no-resume" in again.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "cnnn"}, "unknown model 'cnnn'; did you mean cnn"),
        ({"dataset": "digit"}, r"unknown dataset 'digit'; did you mean digits\?"),
        (
            {"dataset": "cifar10", "download": False, "data_root": Path("absent")},
            "CIFAR10 is not whole in absent",
        ),
        ({"model": "vgg11_bn"}, "VGG does not take digits's 1x8x8 images"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"threads": -1}, "threads must not be negative"),
        ({"init": Path("absent.pt")}, r"no such checkpoint file: absent\.pt"),
        ({"teacher": Path("absent.pt")}, r"no such checkpoint file: absent\.pt"),
        ({"teacher_model": "lenet5"}, "--teacher-model needs --teacher"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_named_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PtqxError, match=message):
        train(out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_wrong_input_ends_the_process_with_one_line_and_status_2(run_train) -> None:  # type: ignore[no-untyped-def]
    done = run_train("--model", "cnnn")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown model 'cnnn'") and done.stderr.count("\n") == 1


def test_two_processes_train_one_model(tmp_path: Path, trained: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "ptqx.train",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    two = [*command, *FAST, "--out", str(tmp_path), "--json", str(tmp_path / "result.json")]
    done = subprocess.run(two, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model.safetensors") == 1
    one, result = (json.loads((folder / "result.json").read_text()) for folder in (trained, tmp_path))
    # Same batches, but batch-norm sees each half of them by itself.
    assert result["history"][0]["train_loss"] == pytest.approx(one["history"][0]["train_loss"], rel=0.1)
    assert result["top1"] >= one["top1"] - 15
    again = subprocess.run(two, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "result.json").read_text())["top1"] == result["top1"]
