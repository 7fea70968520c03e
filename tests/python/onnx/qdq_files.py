"""QDQ files that others write: ONNX Runtime's quantizer, and a few nodes by hand."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


def quantized_by_onnx_runtime(model: nn.Module, batches: list[Tensor], folder: Path, **options: Any) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {"input": batch.numpy()}

    exported, inferred, result = (folder / name for name in ("float.onnx", "inferred.onnx", "int8.onnx"))
    axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter without onnxscript is deprecated
        names = {"input_names": ["input"], "output_names": ["logits"], "dynamic_axes": axes}
        torch.onnx.export(model.eval(), (batches[0],), exported, dynamo=False, **names)
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(exported, inferred)
        quantize_static(inferred, result, Reader(), **{"quant_format": QuantFormat.QDQ, **options})
    finally:
        logging.disable(logging.NOTSET)
    return result


def runtime_outputs(path: Path, x: Tensor) -> Tensor:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


Nodes = list[Any]


def small_file(
    path: Path, nodes: Nodes, constants: dict[str, Any], shape: list[Any], output: str, opset: int = 21
) -> Path:
    """A model of these nodes from "x" to `output`."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * len(shape))
    graph = helper.make_graph(nodes, "small", [x], [y], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


SCALES = {"s": np.float32(0.02), "z": np.uint8(128), "t": np.float32(0.05), "u": np.uint8(7)}
ENTRY = [
    helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
]
EXIT = [
    helper.make_node("QuantizeLinear", ["y", "t", "u"], ["yq"]),
    helper.make_node("DequantizeLinear", ["yq", "t", "u"], ["out"]),
]
