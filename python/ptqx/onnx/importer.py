"""load: an ONNX file in QDQ form as an integer model."""

from __future__ import annotations

import os

from ..errors import PtqxError
from ..graph import IntegerModel
from .readers import Source, translated


def load(path: str | os.PathLike[str]) -> IntegerModel:
    """Read a CNN that was quantized to QDQ form, by ptqx, ONNX Runtime, NNCF or others, into the integer
    graph.

    What stands between DequantizeLinear and QuantizeLinear runs in integers, with one rounding, by ptqx's
    formulas; what nobody quantized runs in float32. Steps are called as the tensors of the file, so that
    `verify` can compare both. int8 activations become uint8 ones with 128 added; weights are uint8, int8,
    uint4 or int4, per tensor, per output channel or in blocks of input channels. A file with several outputs
    becomes a model that returns a dict of them by their names.

    Raises:
        PtqxError: no such file, no valid model, or what can't be read, by the name of its node: other
            operations, activations of other types or with a scale for each channel, dynamic quantization, the
            QOperator form.

    >>> import ptqx, tempfile, torch
    >>> x = torch.randn(4, 1, 8, 8)
    >>> qmodel = ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10).eval(), [x], "int8")
    >>> path = f"{tempfile.mkdtemp()}/cnn.onnx"
    >>> ptqx.onnx.export(qmodel, path, x)
    >>> bool((ptqx.onnx.load(path)(x) == qmodel(x)).all())
    True
    """
    try:
        return translated(Source(path))
    except PtqxError as error:
        raise error if str(path) in str(error) else PtqxError(f"{path}: {error}") from error
