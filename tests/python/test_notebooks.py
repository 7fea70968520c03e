"""The notebooks run from top to bottom, and lie in the repository without outputs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CIFAR10 = FOLDER.parent / "data" / "cifar-10-batches-py"
SECONDS_A_CELL = 600


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_defines_nothing(path: Path) -> None:
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert any("import ptqx" in source or "from ptqx" in source for source in code)
    for node in ast.walk(ast.parse("\n".join(code))):
        assert not isinstance(node, (ast.FunctionDef, ast.ClassDef))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert not cell.get("execution_count")


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if dataset == "digits":
        monkeypatch.setenv("PTQX_DATA", str(tmp_path))
    elif "PTQX_DATA" not in path.read_text(encoding="utf-8"):
        pytest.skip("it is about digits only")
    elif not CIFAR10.is_dir():
        pytest.skip(f"CIFAR-10 is not in {CIFAR10}")
    monkeypatch.delenv("PTQX_WEIGHTS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS_A_CELL, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if {"image/png", "image/svg+xml"} & set(output.get("data", {}))
    ]
    assert len(images) >= 4
