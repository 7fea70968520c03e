"""The projects of users: CMake finds the installed package, nothing of this tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import ptqx
import pytest
import torch

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"


def built(source: Path, folder: Path) -> Path:
    if shutil.which("cmake") is None:
        pytest.skip("there is no cmake to build with")
    prefix = f"{ptqx.cmake_prefix_path};{torch.utils.cmake_prefix_path}"
    configure = ["cmake", "-S", str(source), "-B", str(folder), f"-DCMAKE_PREFIX_PATH={prefix}"]
    done = subprocess.run([*configure, "-DCMAKE_BUILD_TYPE=Release"], capture_output=True, text=True)
    if "Could NOT find JPEG" in done.stderr or "Could NOT find PNG" in done.stderr:
        pytest.skip("examples/ need the headers of libjpeg and libpng")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", str(folder), "--parallel", "2"], check=True)
    return folder


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(HERE, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(EXAMPLES, tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="session")
def qmodel() -> ptqx.IntegerModel:
    torch.manual_seed(0)
    model = ptqx.models.cnn(in_channels=3, num_classes=7).eval()
    return ptqx.quantize(model, [torch.randn(16, 3, 32, 32)], "int8")
