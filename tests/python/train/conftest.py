"""A way to run the command in its own process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C works also where a shell started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def train_command() -> list[str]:
    return [sys.executable, "-m", "ptqx.train"]


@pytest.fixture(scope="session")
def run_train(train_command: list[str]):  # type: ignore[no-untyped-def]
    def run(*options: object, **settings: object) -> subprocess.CompletedProcess[str]:
        command = [*train_command, *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, **settings)  # type: ignore[call-overload]

    return run
