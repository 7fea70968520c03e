"""What `ptqx info` says: versions, processor, kernels, optional packages."""

from __future__ import annotations

import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from . import machine

OPTIONAL = {
    "matplotlib": ("study", "figures and HTML reports"),
    "sklearn": ("study", "the embedded digits data set"),
    "torchvision": ("study", "CIFAR, MNIST and torchvision's models"),
    "pandas": ("study", "tables in notebooks"),
    "yaml": ("study", "ptqx study"),
    "scipy": ("study", "fits in ptqx study"),
    "tensorboard": ("study", "training logs for TensorBoard"),
    "onnx": ("onnx", "ONNX files"),
    "openvino": ("peers", "OpenVINO in ptqx bench"),
    "nncf": ("peers", "int8 in OpenVINO in ptqx bench"),
    "onnxruntime": ("peers", "ONNX Runtime in ptqx bench"),
    "torchao": ("peers", "PyTorch's PT2E quantization in ptqx bench"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML"}


def environment() -> dict[str, Any]:
    """Everything `ptqx info` prints, as plain values."""
    from .. import _C

    return {
        **machine.describe(),
        "build": dict(_C.build_info()),
        "cpu_features": {name: bool(value) for name, value in _C.cpu_features().items()},
        "isa_ceiling": _C.isa_ceiling(),
        "isa_supported": list(_C.isas_supported()),
        "isa_known": list(_C.isas_known()),
        "isa_variable": os.environ.get("PTQX_ISA"),
        "threads": torch.get_num_threads(),
        "kernels": [
            {"family": family, "kernel": name, "isa": isa, "chosen": bool(chosen)}
            for family, name, isa, chosen in _C.kernels()
        ],
        "native_float": sorted(machine.native_float_types()),
        "optional": [optional_package(name) for name in OPTIONAL],
    }


def optional_package(module: str) -> dict[str, Any]:
    """Whether an optional package is there; if not, what it is for and how to get it.

    >>> optional_package("matplotlib")["remedy"]
    "pip install 'ptqx[study]'"
    """
    extra, purpose = OPTIONAL[module]
    distribution = DISTRIBUTIONS.get(module, module)
    found = None
    if importlib.util.find_spec(module) is not None:
        try:
            found = version(distribution)
        except PackageNotFoundError:
            found = "unknown version"
    return {
        "package": distribution,
        "version": found,
        "purpose": purpose,
        "remedy": f"pip install 'ptqx[{extra}]'",
    }


def text(facts: dict[str, Any]) -> str:
    """The facts of `environment` for people."""
    features = " ".join(name for name, has in facts["cpu_features"].items() if has) or "none that ptqx uses"
    limit = f" (limited by PTQX_ISA={facts['isa_variable']})" if facts["isa_variable"] else ""
    native = ", ".join(facts["native_float"]) or "none, so fp16 and bf16 are simulated"
    build = facts["build"]
    lines = [
        f"ptqx      {facts['ptqx']}, torch {facts['torch']}, Python {facts['python']}, {facts['system']}",
        f"built     by {build.get('compiler', 'unknown')} for torch {build.get('torch_version', 'unknown')}",
        f"CPU       {facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads in use",
        f"features  {features}",
        f"kernels   up to {facts['isa_ceiling']}{limit}; supported here: {', '.join(facts['isa_supported'])}",
        f"16 bit    native: {native}",
        "",
        *_kernel_lines(facts["kernels"]),
        "",
        *[_package_line(package) for package in facts["optional"]],
    ]
    return "\n".join(lines)


def _kernel_lines(kernels: list[dict[str, Any]]) -> list[str]:
    chosen = [k for k in kernels if k["chosen"]]
    wide = max((len(k["family"]) for k in chosen), default=0)
    return ["kernels chosen:", *[f"  {k['family']:<{wide}}  {k['kernel']}  ({k['isa']})" for k in chosen]]


def _package_line(package: dict[str, Any]) -> str:
    if package["version"]:
        return f"{package['package']:<13} {package['version']}"
    return f"{package['package']:<13} missing: needed for {package['purpose']}; {package['remedy']}"
