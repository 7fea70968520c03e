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
    """Configures and builds in build/, installs into the package folder that setuptools names."""

    build_folder = HERE / "build" / str(sys.implementation.cache_tag)

    def build_extension(self, ext: Extension) -> None:
        configure = [
            "cmake",
            *("-S", str(HERE), "-B", str(self.build_folder), "-G", "Ninja"),
            f"-DPython3_EXECUTABLE={sys.executable}",
            f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(self.build_folder), "--parallel", jobs], check=True)
        self.install_into(Path(self.get_ext_fullpath(ext.name)).resolve().parent)

    def copy_extensions_to_source(self) -> None:
        """An editable install: the module needs the libraries that lie beside it."""
        self.install_into(HERE / "python" / "ptqx")

    def install_into(self, package: Path) -> None:
        subprocess.run(["cmake", "--install", str(self.build_folder), "--prefix", str(package)], check=True)


setup(ext_modules=[Extension("ptqx._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
