"""Formats whose weights are no uniform levels: what their rows say."""

from __future__ import annotations

import pytest
import torch
from ptqx.graph import load
from ptqx.models import cnn
from ptqx.quant import LEVELS, recipe
from ptqx.study.formats import QAT_SUFFIX, Task, expanded, is_recipe, maker, names
from ptqx.train import TrainConfig

EXECUTION = {
    "apot": "integer",
    "binary": "integer",
    "w1a1": "integer",
    "shift": "simulated",
    "fixed8": "integer",
    "fixed16": "integer",
}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    torch.manual_seed(0)
    model = cnn(width=8).eval().to(memory_format=torch.channels_last)
    x = torch.randn(8, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    return Task(model, [x], x, tmp_path_factory.mktemp("formats"), None, None, TrainConfig())


@pytest.mark.parametrize("name", EXECUTION)
def test_row_says_how_it_runs_and_is_close_to_float(name: str, task: Task) -> None:
    candidate = maker(name)(name, task)
    assert candidate.execution == EXECUTION[name]
    assert (candidate.timed is None) == (candidate.execution == "simulated")
    assert (candidate.coverage == 100.0) == (candidate.execution == "integer")
    assert candidate.file.stat().st_size > 0
    with torch.no_grad():
        close = (candidate.module(task.example) - task.model(task.example)).abs().max()
    assert float(close) < (1.0 if name in ("binary", "w1a1") else 0.1)


def test_sixteen_bit_codes_are_stored_as_they_are(task: Task) -> None:
    model = load(maker("fixed16")("fixed16", task).file)
    weights = [model.tensor(node, "weight") for node in model.graph if "weight" in node.tensors]
    assert weights and all(t is not None and t.dtype == torch.int16 for t in weights)
    assert max(int(t.int().abs().max()) for t in weights if t is not None) > 127


def test_all_means_every_listed_format_without_training() -> None:
    everything = expanded(["all", "w3a5"])
    assert everything[-1] == "w3a5" and len(set(everything)) == len(everything)
    assert set(everything[:-1]) == {name for name in names() if not name.endswith(QAT_SUFFIX)}
    chosen = [recipe(n) for n in everything if is_recipe(n)]
    schemes = [s for r in chosen for s in (r.weights, r.activations) if s is not None]
    assert {s.levels for s in schemes} == set(LEVELS)
