"""export: the integer graph as an ONNX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import torch

from ..errors import PtqxError, unknown_name
from ..files import atomic_write
from ..graph import Engine, IntegerModel
from ..graph.capture import example_tensor
from .builder import Builder
from .writers import STYLES, write


@torch.no_grad()
def export(
    qmodel: IntegerModel | Engine,
    path: str | os.PathLike[str],
    example_inputs: Any,
    style: str = "qdq",
    int4: bool = True,
) -> None:
    """Write an integer network as an ONNX file (opset 21) for any batch size, checked by onnx.checker.

    Each step of the network gives the ONNX tensor of its name: uint8 codes, or float32 values. Weights are
    INT8, or INT4, with a scale for each output channel or block.

    Args:
        qmodel: of `ptqx.quantize`, `ptqx.convert`, `ptqx.load` or `ptqx.compile`.
        path: the file.
        example_inputs: a tensor of the shape it takes, or a tuple with one.
        style: "qdq" holds each operation on real values between DequantizeLinear and QuantizeLinear, the form
            that runtimes turn into their own integer kernels; their arithmetic may differ from ptqx's in
            single steps (`verify` tells). "integer" holds ConvInteger, MatMulInteger and ptqx's formulas
            step by step: the same integers wherever float32 is IEEE's, at a lower speed.
        int4: store weights that fit in 4 bits as INT4, half the size; False for runtimes whose integer
            kernels take INT8 alone, as ONNX Runtime's convolutions do.

    Raises:
        PtqxError: no such model or style, an example that does not fit, or a step that ONNX can't hold, by
            name.

    >>> import ptqx, tempfile, torch
    >>> x = torch.randn(4, 1, 8, 8)
    >>> qmodel = ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10).eval(), [x], "int8")
    >>> path = f"{tempfile.mkdtemp()}/cnn.onnx"
    >>> ptqx.onnx.export(qmodel, path, x)
    >>> import onnx
    >>> sorted({node.op_type for node in onnx.load(path).graph.node} & {"Conv", "Gemm", "QuantizeLinear"})
    ['Conv', 'Gemm', 'QuantizeLinear']
    """
    model = qmodel.to_integer_model() if isinstance(qmodel, Engine) else qmodel
    if not isinstance(model, IntegerModel):
        raise PtqxError(f"qmodel: expected an integer model or an engine, got {type(qmodel).__name__}")
    if style not in STYLES:
        raise unknown_name("style", style, STYLES)
    content = _built(model, example_tensor(example_inputs), style, int4).SerializeToString()
    with atomic_write(path) as partial:
        Path(partial).write_bytes(content)


def _built(model: IntegerModel, example: torch.Tensor, style: str, int4: bool) -> onnx.ModelProto:
    wide = [node.name for node in model.graph if node.op.endswith("_wide")]
    if wide:
        raise PtqxError(
            f"ONNX's integer operations have codes of 8 bits; these layers' are wider: {', '.join(wide)}"
        )
    if model.graph.input in model.graph.outputs:
        raise PtqxError(f"the network returns its own input, {model.graph.input!r}, which ONNX can't hold")
    values: dict[str, torch.Tensor] = {}
    model.run(example[:1], values)
    shapes = {name: tuple(value.shape[1:]) for name, value in values.items()}
    shapes[model.graph.input] = tuple(example.shape[1:])
    builder = Builder(model, shapes, style, int4)
    for node in model.graph:
        write(builder, node)
    built = builder.build()
    try:
        onnx.checker.check_model(built, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise PtqxError(f"onnx.checker refuses the model, a defect of ptqx: {error}") from error
    return built
