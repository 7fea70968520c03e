from __future__ import annotations

import subprocess
from pathlib import Path

import ptqx
import pytest
import torch

X = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_engine_without_torch_gives_python_s_output(
    programs: Path, qmodel: ptqx.IntegerModel, tmp_path: Path
) -> None:
    ptqx.save(qmodel, tmp_path / "model.ptqx")
    (tmp_path / "input.f32").write_bytes(X.numpy().tobytes())
    (tmp_path / "output.f32").write_bytes(qmodel(X).detach().contiguous().numpy().tobytes())
    files = [tmp_path / name for name in ("model.ptqx", "input.f32", "output.f32")]
    assert run(programs / "engine_program", *files) == "engine: ok\n"


def test_operators_are_called_through_the_dispatcher(programs: Path) -> None:
    assert run(programs / "operator_program") == "operators: ok\n"


@pytest.mark.parametrize("kind", ["integer", "engine"])
def test_aotinductor_package_gives_python_s_output(
    kind: str, programs: Path, qmodel: ptqx.IntegerModel, tmp_path: Path
) -> None:
    module = qmodel if kind == "integer" else ptqx.compile(qmodel, X)
    ptqx.export(module, tmp_path / "model.pt2", X)
    torch.save((X, qmodel(X)), tmp_path / "tensors.pt")
    assert run(programs / "aoti_program", tmp_path / "model.pt2", tmp_path / "tensors.pt") == "package: ok\n"
