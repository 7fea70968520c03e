"""Drives CMake, which alone knows sources and flags. `pip install --no-build-isolation .`"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    import torch
except ImportError:
    sys.exit(
        "ptqx is compiled against the installed PyTorch, which this build environment lacks: "
        "install torch first, then run `pip install --no-build-isolation .`"
    )

HERE = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Configures, builds and installs into the package folder that setuptools names."""

    def build_extension(self, ext: Extension) -> None:
        package = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = HERE / "build" / str(sys.implementation.cache_tag)
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        configure = [
            "cmake",
            *("-S", str(HERE), "-B", str(build), "-G", "Ninja"),
            f"-DPython3_EXECUTABLE={sys.executable}",
            f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--parallel", jobs], check=True)
        subprocess.run(["cmake", "--install", str(build), "--prefix", str(package)], check=True)


setup(ext_modules=[Extension("ptqx._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
