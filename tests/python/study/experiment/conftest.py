"""One finished run of a small study."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ptqx.study import Results, run_study

sys.path.insert(0, str(Path(__file__).parent))  # for `import small_study`

from small_study import small_study


@pytest.fixture(scope="session")
def eager_session() -> Iterator[None]:
    """Time float models as they are: compiling takes longer than these tests."""
    from ptqx.study import formats

    patch = pytest.MonkeyPatch()
    patch.setattr(formats, "compiled", lambda model, example: (model, "eager"))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, eager_session: None) -> tuple[Results, Path]:
    """The small study, done in one go."""
    folder = tmp_path_factory.mktemp("study")
    return run_study(small_study(), folder, progress=False), folder
