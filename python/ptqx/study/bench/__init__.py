"""Speed against other engines, in one process: what `ptqx bench` runs."""

from . import onnx_runtime, openvino_nncf, ours, torch_float, torch_fx, torch_pt2e
from .networks import load_network
from .registry import (
    Engine,
    Load,
    Memory,
    Network,
    Session,
    Unavailable,
    engine,
    engine_names,
    register_engine,
)
from .report import BenchReport
from .run import bench

__all__ = [
    "BenchReport",
    "Engine",
    "Load",
    "Memory",
    "Network",
    "Session",
    "Unavailable",
    "bench",
    "engine",
    "engine_names",
    "load_network",
    "onnx_runtime",
    "openvino_nncf",
    "ours",
    "register_engine",
    "torch_float",
    "torch_fx",
    "torch_pt2e",
]
