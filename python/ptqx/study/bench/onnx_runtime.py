"""ONNX Runtime on the CPU: static quantization to QDQ, u8 activations, s8 weights per channel."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .registry import Load, Network, Session, register_engine

INPUT = "input"


@register_engine("onnxruntime", "int8", peer=True, packages=("onnxruntime", "onnx"))
def onnxruntime(network: Network) -> Load:
    """Exported, shapes inferred, calibrated by minimum and maximum, run with all graph optimizations."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="ptqx-") as folder:
        model = _quantized(network, Path(folder)).read_bytes()

    def load(batch: Tensor, threads: int) -> Session:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        inputs = {INPUT: batch.numpy()}
        return Session(lambda: session.run(None, inputs)[0])

    return load


def _quantized(network: Network, folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = folder.resolve()

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(network.calibration)

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    exported, inferred, result = (folder / name for name in ("float.onnx", "inferred.onnx", "int8.onnx"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter without onnxscript is deprecated
        torch.onnx.export(
            network.model,
            (network.calibration[0],),
            exported,
            dynamo=False,
            input_names=[INPUT],
            output_names=["logits"],
            dynamic_axes={INPUT: {0: "batch"}, "logits": {0: "batch"}},
        )
    logging.getLogger().addFilter(_no_preprocessing_hint)
    try:
        with _inside(folder):  # where it fails, symbolic inference leaves files in the current folder
            try:
                quant_pre_process(exported, inferred)
            except Exception:  # of a model whose shapes it can't tell; those of the example do
                quant_pre_process(exported, inferred, skip_symbolic_shape=True)
        quantize_static(
            inferred,
            result,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        logging.getLogger().removeFilter(_no_preprocessing_hint)
    return result


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """With `folder` as the current one."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _no_preprocessing_hint(record: logging.LogRecord) -> bool:
    return "pre-process" not in record.getMessage()
