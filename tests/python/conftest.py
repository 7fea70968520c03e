"""What all tests of the Python package share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from ptqx.data import ImageDataset, load

sys.path.insert(0, str(Path(__file__).parent))  # for `import networks`
Torchrun = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small; threads would only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_start() -> Iterator[None]:
    """No test sees the random numbers or the thread count that another one left."""
    torch.manual_seed(0)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> tuple[ImageDataset, ImageDataset]:
    return load("digits"), load("digits", split="test")


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    """Run the source of a program with its arguments in two processes; what they print."""

    def run(source: str, *arguments: object) -> str:
        worker = tmp_path / "worker.py"
        worker.write_text(source)
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        done = subprocess.run(
            [*launcher, str(worker), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
