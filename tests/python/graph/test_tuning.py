"""compile(tune=True): no number changes, and nothing is measured twice. No time is judged."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path

import networks
import pytest
import torch
from ptqx import _C
from ptqx.errors import PtqxError
from ptqx.graph import IntegerModel, compile, explain, load, quantize, save
from ptqx.graph.tuning import TunedStep, Tuning, cache_file, tune, tuning_from_dict

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("ptqx.graph.tuning.SECONDS", 0.01)
    return tmp_path / "ptqx" / "tuning.json"


@pytest.fixture(scope="module")
def model() -> IntegerModel:
    return quantize(networks.with_statistics(networks.Residual()), [X])


def measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(_C, "engine_tune", fail)


def choices(engine: torch.nn.Module) -> dict[str, list[dict[str, object]]]:
    return {step["name"]: step["tuned"] for step in _C.engine_steps(engine.program) if step["tuned"]}


def remember(model: IntegerModel, cache: Path, which: int, batches: tuple[int, ...] = (4,)) -> None:
    """Make the cache say that a certain strategy of each step is the fastest."""
    program = compile(model, X).program
    layers = {
        f"{step['layer']}; {step['samples']} samples, {step['threads']} threads": step["strategies"][which]
        for batch in batches
        for step in _C.engine_tunable_steps(program, batch, torch.get_num_threads())
    }
    cache.parent.mkdir(exist_ok=True)
    cache.write_text(json.dumps({"version": 1, "machines": {_C.tuning_machine(): layers}}))


def test_numbers_stay_and_nothing_is_measured_twice(
    model: IntegerModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = compile(model, X, tune=True)
    assert torch.equal(engine(X), model(X))
    assert torch.equal(engine(X[:1]), model(X[:1])), "another batch size than the tuned one"
    assert model.graph.tuning is None, "the argument is not changed"
    assert cache == cache_file()
    remembered = json.loads(cache.read_text())["machines"][_C.tuning_machine()]
    places = _C.engine_tunable_steps(engine.program, 4, torch.get_num_threads())
    assert len(places) >= 3
    assert {entry["layer"] for entry in places} == {key.partition(";")[0] for key in remembered}

    measures_nothing(monkeypatch)
    again = compile(model, X, tune=True)
    assert torch.equal(again.program, engine.program)
    assert choices(again) == choices(engine)
    with pytest.raises(AssertionError, match="measured again"):
        compile(model, X[:3], tune=True)


def test_choices_of_the_cache_are_taken(model: IntegerModel, cache: Path) -> None:
    remember(model, cache, -1)
    tuned = compile(model, X, tune=True)
    chosen = {(c["name"], c["strategy"]) for cs in choices(tuned).values() for c in cs}
    places = _C.engine_tunable_steps(tuned.program, 4, torch.get_num_threads())
    assert chosen == {(entry["name"], entry["strategies"][-1]) for entry in places}
    assert torch.equal(tuned(X), model(X))
    for row in explain(tuned).rows:
        assert row.tuned == "" or any(strategy in row.tuned for _, strategy in chosen)
    assert sum(row.tuned != "" for row in explain(tuned).rows) == len(choices(tuned))


def test_the_engine_stays_as_it_is_where_the_usual_strategies_are_the_fastest(
    model: IntegerModel, cache: Path
) -> None:
    remember(model, cache, 0)
    assert torch.equal(compile(model, X, tune=True).program, compile(model, X).program)


def test_choices_stay_with_copies_and_files(model: IntegerModel, cache: Path, tmp_path: Path) -> None:
    remember(model, cache, -1, (4, 1))
    engine = compile(model, X, tune=True)
    assert len(choices(engine)) >= 3
    assert choices(copy.deepcopy(engine)) == choices(engine)
    save(engine.to_integer_model(), tmp_path / "tuned.ptqx")
    loaded = load(tmp_path / "tuned.ptqx")
    assert choices(compile(loaded, X)) == choices(engine)
    assert len(choices(compile(loaded, X[:1], tune=True))["conv1"]) == 2, "of both batch sizes"


def test_choices_of_another_machine_are_of_no_account(model: IntegerModel, cache: Path) -> None:
    remember(model, cache, -1)
    engine = compile(model, X, tune=True)
    tuning = engine.to_integer_model().graph.tuning
    assert tuning is not None
    elsewhere = replace(tuning, machine="another")
    moved = IntegerModel(replace(model.graph, tuning=elsewhere), model.tensors())
    assert choices(compile(moved, X)) == {}
    assert choices(compile(moved, X, tune=True)) == choices(engine)
    before = _C.isa_ceiling()
    try:
        _C.set_isa_ceiling("scalar")
        assert choices(engine) == {}
        assert torch.equal(engine(X), model(X))
    finally:
        _C.set_isa_ceiling(before)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 1}',
        '{"version": 2, "machines": {}}',
        '{"version": 1, "machines": {"m": 3}}',
    ],
)
def test_a_damaged_cache_is_made_anew_with_one_warning(
    model: IntegerModel, cache: Path, content: str
) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    with pytest.warns(UserWarning, match=r"tuning\.json can't be used") as caught:
        engine = compile(model, X, tune=True)
    assert len(caught) == 1
    assert torch.equal(engine(X), model(X))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile(model, X, tune=True)


def test_an_unknown_strategy_is_measured_anew(model: IntegerModel, cache: Path) -> None:
    compile(model, X, tune=True)
    document = json.loads(cache.read_text())
    layers = document["machines"][_C.tuning_machine()]
    document["machines"][_C.tuning_machine()] = dict.fromkeys(layers, "no such strategy")
    cache.write_text(json.dumps(document))
    compile(model, X, tune=True)
    assert "no such strategy" not in cache.read_text()


def test_a_cache_that_cannot_be_written_is_a_warning(
    model: IntegerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning) as caught:
        engine = compile(model, X, tune=True)
    assert any("not remembered" in str(warning.message) for warning in caught)
    assert torch.equal(engine(X), model(X))


def test_processes_add_to_what_others_remembered(model: IntegerModel, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text(json.dumps({"version": 1, "machines": {"another": {"a layer": "taps"}}}))
    compile(model, X, tune=True)
    machines = json.loads(cache.read_text())["machines"]
    assert machines["another"] == {"a layer": "taps"}
    assert machines[_C.tuning_machine()]


def test_tuning_merges_by_place() -> None:
    def tuning(machine: str, samples: int, strategy: str) -> Tuning:
        return Tuning(machine, (TunedStep("conv", samples, 1, strategy),))

    one, other, newer = tuning("m", 1, "taps"), tuning("m", 8, "regions 96x1"), tuning("m", 1, "regions 24x1")
    assert other.merged_over(one).steps == (*one.steps, *other.steps)
    assert newer.merged_over(one) == newer
    assert one.merged_over(None) == one
    assert one.merged_over(tuning("another", 8, "taps")) == one


def test_bad_arguments_and_documents_are_named(model: IntegerModel) -> None:
    step = {"name": "a", "samples": 1, "threads": 1, "strategy": "taps"}
    assert tuning_from_dict({"machine": "m", "steps": [step]}).steps[0].place == ("a", 1, 1)
    for raw in (
        None,
        {"machine": "m"},
        {"machine": 1, "steps": []},
        {"machine": "m", "steps": {}},
        {"machine": "m", "steps": [{**step, "samples": "1"}]},
        {"machine": "m", "steps": [{**step, "samples": True}]},
        {"machine": "m", "steps": [{"name": "a"}]},
    ):
        with pytest.raises(PtqxError, match="tuning"):
            tuning_from_dict(raw)
    engine = compile(model, X)
    with pytest.raises(ValueError, match="batch and threads must be at least 1"):
        tune(engine.program, 0)
