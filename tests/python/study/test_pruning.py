from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ptqx import models
from ptqx.data import load
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel
from ptqx.graph import load as load_integer
from ptqx.qat import QATConfig
from ptqx.sparsity import Pattern, cost, zero_share
from ptqx.study import formats
from ptqx.study.formats import Candidate, Task, expanded, maker
from ptqx.study.pruning import PruneConfig, fine_tuning, prune
from ptqx.train import evaluate, fit

EXAMPLE = torch.zeros(1, 1, 8, 8)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile takes longer than all the rest."""
    monkeypatch.setattr(formats, "compiled", lambda model, example: (model, "eager"))


@pytest.fixture(scope="module")
def digits():
    return load("digits"), load("digits", split="test")


@pytest.fixture(scope="module")
def trained(digits):
    torch.manual_seed(0)
    model = models.cnn()
    fit(model, *digits, fine_tuning(4, 0.05), device="cpu", progress=False)
    return model.eval()


def run(trained, digits, out: Path, **changes):
    config = PruneConfig(**{"share": 0.5, "train": fine_tuning(3), **changes})
    return prune(trained, *digits, config, out=out, calibration=64, seconds=0.05, progress=False)


def test_every_step_is_measured_and_the_result_is_smaller(trained, digits, tmp_path) -> None:
    result = run(trained, digits, tmp_path)
    rows = {row.step: row for row in result.rows}
    assert list(rows) == ["float", "int8, unpruned", "channels removed", "trained", "int8, pruned"]
    assert rows["float"].top1 == evaluate(trained, digits[1]).top1
    assert rows["trained"].parameters <= 0.5 * rows["float"].parameters
    assert rows["trained"].macs == cost(result.model, EXAMPLE).macs < rows["float"].macs
    assert rows["trained"].top1 > rows["channels removed"].top1 + 20  # training brings back what was lost
    assert abs(rows["int8, pruned"].drop - rows["trained"].drop) < 3
    assert rows["int8, pruned"].size_bytes < 0.6 * rows["int8, unpruned"].size_bytes
    timed = [row.step for row in result.rows if row.latency_ms is not None]
    assert timed == ["float", "int8, unpruned", "trained", "int8, pruned"]
    lines = result.to_markdown().splitlines()
    assert len(lines) == 2 + len(result.rows) and "| channels removed " in lines[4]


def test_what_was_written_is_what_was_measured(trained, digits, tmp_path) -> None:
    result = run(trained, digits, tmp_path, train=fine_tuning(1))
    again = models.cnn(weights=tmp_path / "pruned.safetensors").eval()
    assert evaluate(again, digits[1]).top1 == result.rows[-2].top1
    integer = load_integer(tmp_path / "pruned.ptqx")
    assert evaluate(integer, digits[1]).top1 == result.rows[-1].top1
    assert result.rows[-1].size_bytes == (tmp_path / "pruned.ptqx").stat().st_size
    result.to_json(tmp_path / "result.json")
    stored = json.loads((tmp_path / "result.json").read_text())
    assert [row["step"] for row in stored["rows"]] == [row.step for row in result.rows]


def test_training_of_another_network_is_not_taken_for_its_own(trained, digits, tmp_path) -> None:
    few = digits[0].subset(slice(0, 128)), digits[1].subset(slice(0, 60))
    run(trained, few, tmp_path, train=fine_tuning(1))
    torch.manual_seed(1)
    with pytest.raises(PtqxError, match="start"):
        run(models.cnn().eval(), few, tmp_path, train=fine_tuning(1))
    again = run(trained, few, tmp_path, train=fine_tuning(1))
    assert [row.step for row in again.rows][-1] == "int8, pruned"


def test_rounds_together_remove_the_share(trained, digits, tmp_path) -> None:
    result = run(trained, digits, tmp_path, share=0.6, rounds=2, multiple=1, train=fine_tuning(1))
    left = [row.parameters / result.rows[0].parameters for row in result.rows]
    names = [row.step for row in result.rows]
    assert left[names.index("trained 1")] == pytest.approx(0.4**0.5, abs=0.03)
    assert left[-1] == pytest.approx(0.4, abs=0.03)
    sizes = [row.size_bytes for row in result.rows if row.step.startswith("channels removed")]
    assert sizes[1] < 0.8 * sizes[0]


def test_weights_at_zero_go_through_training_and_integers(trained, digits, tmp_path) -> None:
    qat = QATConfig(epochs=1, lr=0.005)
    changes = {"share": 0.0, "pattern": Pattern(keep=2, of=4), "train": fine_tuning(2), "qat": qat}
    result = run(trained, digits, tmp_path, **changes)
    assert [row.step for row in result.rows] == [
        "float",
        "int8, unpruned",
        "trained",
        "int8, pruned and trained",
    ]
    assert isinstance(result.integer, IntegerModel)
    assert 0.49 < zero_share(result.model) <= zero_share(result.integer)
    assert result.rows[-1].zeros == 100 * zero_share(result.integer)
    assert result.rows[-1].macs == result.rows[0].macs  # zeros are multiplied with


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.0}, "nothing to prune"),
        ({"share": 1.0}, "share must be in"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"pattern": Pattern(keep=2, of=4), "multiple": 1}, "multiple must be a multiple of 4"),
        ({"distillation": 1.5}, "distillation must be in"),
        ({"recipe": "int9"}, "unknown recipe"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes, message) -> None:
    with pytest.raises(PtqxError, match=message):
        PruneConfig(**changes)


@pytest.fixture
def task(trained, digits, tmp_path) -> Task:
    x = digits[0].normalize(digits[0].images[:64])
    few = digits[0].subset(slice(0, 400)), digits[1].subset(slice(0, 120))
    return Task(trained, [x], x, tmp_path, *few, QATConfig(epochs=1, lr=0.01))


def made(name: str, task: Task) -> Candidate:
    return maker(name)(name, task)


def test_pruned_formats_are_smaller(task) -> None:
    sizes = {name: made(name, task).file.stat().st_size for name in ("int8", "pruned", "pruned70")}
    assert sizes["pruned70"] < 0.6 * sizes["pruned"] and sizes["pruned"] < 0.8 * sizes["int8"]


def test_sparse_formats_have_zeros_and_stay_as_large(task, digits) -> None:
    dense = made("int8", task)
    for name, share in (("sparse24", 50), ("sparse50", 50), ("sparse80", 80)):
        candidate = made(name, task)
        assert candidate.file.stat().st_size == pytest.approx(dense.file.stat().st_size, rel=0.02)
        assert f"{share} % of the weights 0" in candidate.detail
        assert candidate.execution == "integer"
        assert zero_share(load_integer(candidate.file)) > share / 100 - 0.01
    top1 = evaluate(dense.module, digits[1]).top1
    assert evaluate(made("sparse24", task).module, digits[1]).top1 > top1 - 20


@pytest.mark.parametrize("name", ["pruned-qat", "sparse24-qat"])
def test_trained_formats_stay_narrow_and_sparse(task, name: str) -> None:
    candidate = made(name, task)
    assert candidate.kind == "qat" and "1 epoch" in candidate.detail
    integer = load_integer(candidate.file)
    whole = sum(p.numel() for p in task.model.parameters())
    weights = sum(t.numel() for key, t in integer.tensors().items() if key.endswith(".weight"))
    if name == "pruned-qat":
        assert weights < 0.7 * whole
    else:
        assert zero_share(integer) >= 0.49


def test_all_lists_what_needs_no_training() -> None:
    names = expanded(["all"])
    assert {"pruned", "sparse24", "sparse50"} <= set(names) and "pruned-qat" not in names


@pytest.mark.parametrize("name", ["pruned00", "pruned100", "sparse5", "sparse", "sparse00-qat"])
def test_formats_that_make_no_sense_are_unknown(name) -> None:
    with pytest.raises(PtqxError, match="unknown format"):
        maker(name)
