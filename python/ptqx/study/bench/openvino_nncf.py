"""OpenVINO on the CPU, in int8 (quantized by NNCF) and in float32."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
from torch import Tensor

from ..timing import interleaved
from .registry import Load, Network, Session, register_engine

CHOICE_SECONDS = 0.3  # for each hint, when the better one is chosen


@register_engine("openvino", "int8", peer=True, packages=("openvino", "nncf"))
def openvino_int8(network: Network) -> Load:
    """NNCF's post-training quantization with its defaults; inference precision as OpenVINO chooses."""
    with _no_telemetry(), redirect_stdout(io.StringIO()):  # NNCF's progress bars would mix with ours
        import nncf

        nncf.set_log_level(40)  # errors only
        images = [batch.numpy() for batch in network.calibration]
        model = nncf.quantize(_converted(network), nncf.Dataset(images), subset_size=len(images))
    return _loader(model, {})


@register_engine("openvino-fp32", "fp32", packages=("openvino",))
def openvino_fp32(network: Network) -> Load:
    """float32; OpenVINO would choose bfloat16 by itself where the CPU has it."""
    with _no_telemetry():
        model = _converted(network)
    return _loader(model, {"INFERENCE_PRECISION_HINT": "f32"})


def _converted(network: Network) -> Any:
    import openvino

    return openvino.convert_model(network.model, example_input=network.calibration[0])


def _loader(model: Any, settings: dict[str, Any]) -> Load:
    """The better of both performance hints on `threads` threads that are not bound to cores."""
    import openvino

    core = openvino.Core()

    def load(batch: Tensor, threads: int) -> Session:
        config = settings | {
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_HYPER_THREADING": False,
            "ENABLE_CPU_PINNING": False,
        }
        # With the THROUGHPUT hint each thread has a stream of its own, and takes its part of the batch.
        parts = {"LATENCY": 1, "THROUGHPUT": threads if len(batch) % threads == 0 else 1}
        calls = {
            hint: _Requests(core, model, batch, count, config | {"PERFORMANCE_HINT": hint})
            for hint, count in parts.items()
        }
        times = interleaved(calls, seconds=CHOICE_SECONDS)
        best = min(times, key=lambda hint: times[hint].median_ms)
        return Session(calls[best], f"{best} hint, {calls[best].describe()}")

    return load


class _Requests:
    """A batch cut into equal parts, one inference request each, all under way at the same time."""

    def __init__(self, core: Any, model: Any, batch: Tensor, parts: int, config: dict[str, Any]) -> None:
        import openvino

        part = len(batch) // parts
        static = model.clone()
        static.reshape([part, *batch.shape[1:]])
        compiled = core.compile_model(static, "CPU", config)
        self.streams = compiled.get_property("NUM_STREAMS")
        self.requests = []
        for images in batch.numpy().reshape(parts, part, *batch.shape[1:]):
            request = compiled.create_infer_request()
            request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
            self.requests.append(request)

    def __call__(self) -> np.ndarray[Any, Any]:
        if len(self.requests) == 1:
            self.requests[0].infer()
        else:
            for request in self.requests:
                request.start_async()
            for request in self.requests:
                request.wait()
        logits = [request.get_output_tensor().data for request in self.requests]
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def describe(self) -> str:
        return f"{self.streams} stream{'s' if self.streams > 1 else ''}"


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """OpenVINO and NNCF report their use over the network, unless they believe to be tested."""
    switches = {"CI": "true", "NNCF_CI": "1"}
    former = {name: os.environ.get(name) for name in switches}
    os.environ.update(switches)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
