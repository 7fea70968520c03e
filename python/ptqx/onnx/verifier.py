"""verify: an exported network in ONNX Runtime beside the integer model, step by step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from ..errors import PtqxError, unknown_name
from ..graph import IntegerModel, IntegerNode
from ..graph.capture import example_tensor

BATCH = 64
ERRORS_ONLY = 3
OPTIMIZATIONS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
PASSED_THROUGH = ("QuantizeLinear", "Clip", "Relu", "Transpose", "Cast", "Reshape", "DequantizeLinear", "Mul")
INTEGER_KERNELS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
)
FLOAT_LAYERS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@dataclass(frozen=True)
class StepAgreement:
    """One step in both: how many of its `values` are `different`, and by how much at most (in codes where it
    gives codes, else in real units)."""

    name: str
    op: str
    gives_codes: bool
    values: int
    different: int
    largest_difference: float

    @property
    def equal(self) -> bool:
        return self.different == 0

    def __str__(self) -> str:
        share = f"{self.different:,} of {self.values:,} {'codes' if self.gives_codes else 'values'} differ"
        return f"{self.name}: {share} by at most {self.largest_difference:.3g}"


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes:
        runtime: its name and version.
        optimizations: its graph optimizations.
        samples: how many inputs were compared.
        steps: of the network, in order; outputs are those of the file as it is, all others those of a
            copy whose every step is an output. Steps that `load` adds are not in the file, nor here.
        top1_agreement: share of samples with the same largest value in every output.
        reason: why the first step that differs does; "" if all are equal.
    """

    runtime: str
    optimizations: str
    samples: int
    steps: tuple[StepAgreement, ...]
    top1_agreement: float
    reason: str

    @property
    def equal(self) -> bool:
        """Whether every step is equal, bit by bit, the real-valued ones included."""
        return all(step.equal for step in self.steps)

    @property
    def codes_equal(self) -> bool:
        """Whether every step that gives codes is."""
        return all(step.equal for step in self.steps if step.gives_codes)

    @property
    def first_difference(self) -> StepAgreement | None:
        return next((step for step in self.steps if not step.equal), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "equal": self.equal, "codes_equal": self.codes_equal}

    def __str__(self) -> str:
        where = f"{self.runtime}, optimizations {self.optimizations}, {self.samples} samples"
        first = self.first_difference
        if first is None:
            return f"all {len(self.steps)} steps equal, bit by bit ({where})"
        lines = [f"{sum(step.equal for step in self.steps)} of {len(self.steps)} steps equal ({where})"]
        lines.append(f"the first that differs is {first.name} ({first.op}): {self.reason}")
        lines += [f"  {step}" for step in self.steps if not step.equal]
        lines.append(f"top-1 agreement {100 * self.top1_agreement:.2f} %")
        return "\n".join(lines)


@torch.no_grad()
def verify(
    qmodel: IntegerModel, path: str | os.PathLike[str], inputs: Any, optimizations: str = "all"
) -> Verdict:
    """Run an exported file in ONNX Runtime and compare what every step gives with the integer model.

    Args:
        qmodel: that `ptqx.onnx.export` wrote or `ptqx.onnx.load` read.
        path: the file.
        inputs: real ones: float32 [N] + input shape.
        optimizations: ONNX Runtime's graph optimizations, "all" (its default), "extended", "basic" or "off".
            With "all" it turns style "qdq" into integer kernels.

    Raises:
        PtqxError: inputs that do not fit, or a file that ONNX Runtime refuses or that is not the model's.

    >>> import ptqx, tempfile, torch
    >>> x = torch.randn(4, 1, 8, 8)
    >>> qmodel = ptqx.quantize(ptqx.models.cnn(in_channels=1, num_classes=10).eval(), [x], "int8")
    >>> path = f"{tempfile.mkdtemp()}/cnn.onnx"
    >>> ptqx.onnx.export(qmodel, path, x, style="integer")
    >>> ptqx.onnx.verify(qmodel, path, x).equal
    True
    """
    if not isinstance(qmodel, IntegerModel):
        raise PtqxError(f"qmodel: expected an integer model of ptqx.convert, got {type(qmodel).__name__}")
    if optimizations not in OPTIMIZATIONS:
        raise unknown_name("optimizations", optimizations, OPTIMIZATIONS)
    x, proto = example_tensor(inputs), _with_all_outputs(qmodel, path)
    with tempfile.TemporaryDirectory(prefix="ptqx-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        exposed = _session(proto.SerializeToString(), optimizations, optimized)
        kernels = {output: node for node in onnx.load(optimized).graph.node for output in node.output}
    plain = _session(Path(path).read_bytes(), optimizations)
    outputs = {output.name for output in exposed.get_outputs()}
    tallies = {node.name: _Tally(node) for node in qmodel.graph if node.name in outputs}
    returned = dict.fromkeys(qmodel.graph.outputs)
    same_top1 = 0
    for chunk in x.split(BATCH):
        expected: dict[str, Tensor] = {}
        qmodel.run(chunk, expected)
        same = np.ones(len(chunk), bool)
        for name, got in _results(qmodel, chunk, exposed, plain):
            tallies[name].add(expected[name].numpy(), got)
            if name in returned:
                same &= _top1(expected[name].numpy()) == _top1(got)
        same_top1 += int(same.sum())
    steps = tuple(tally.agreement() for tally in tallies.values())
    verdict = Verdict(f"ONNX Runtime {ort.__version__}", optimizations, len(x), steps, same_top1 / len(x), "")
    first = verdict.first_difference
    if first is None:
        return verdict
    int4 = f"{first.name}.weight" in _int4_initializers(proto)
    return replace(verdict, reason=_reason(first, kernels, int4))


class _Tally:
    """Counts of one step over batches."""

    def __init__(self, node: IntegerNode) -> None:
        self.node, self.values, self.different, self.largest = node, 0, 0, 0.0

    def add(self, expected: np.ndarray, got: np.ndarray) -> None:
        if got.dtype == np.int8 and expected.dtype == np.uint8:
            got = (got.astype(np.int16) + 128).astype(np.uint8)  # as `load` reads them
        if expected.shape != got.shape or expected.dtype != got.dtype:
            raise PtqxError(
                f"{self.node.name}: the file gives {got.dtype} {list(got.shape)}, the model {expected.dtype} "
                f"{list(expected.shape)}; export it again"
            )
        self.values += expected.size
        self.different += int((expected != got).sum())
        difference = np.abs(expected.astype(np.float64) - got)
        self.largest = max(self.largest, float(difference.max(initial=0.0)))

    def agreement(self) -> StepAgreement:
        gives_codes = self.node.output.dtype == "uint8"
        counts = (self.values, self.different, self.largest)
        return StepAgreement(self.node.name, self.node.op, gives_codes, *counts)


def _results(
    qmodel: IntegerModel, x: Tensor, exposed: ort.InferenceSession, plain: ort.InferenceSession
) -> Iterator[tuple[str, np.ndarray]]:
    inputs = {qmodel.graph.input: x.numpy()}
    returned = list(dict.fromkeys(qmodel.graph.outputs))
    names = [output.name for output in exposed.get_outputs() if output.name not in returned]
    yield from zip(names, exposed.run(names, inputs) if names else [], strict=True)
    yield from zip(returned, plain.run(returned, inputs), strict=True)


def _with_all_outputs(qmodel: IntegerModel, path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The file's model with every step of the network that it has among its outputs."""
    if not Path(path).is_file():
        raise PtqxError(f"no such file: {path}")
    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf's own, whose place changes between versions
        raise PtqxError(f"{path} is no ONNX file: {error}") from error
    given = {output for node in proto.graph.node for output in node.output}
    returned = qmodel.graph.outputs
    missing = [name for name in returned if name not in given]
    if missing:
        raise PtqxError(f"{path} has no step {missing[0]!r}; give the file of this very model")
    inner = [name for name in qmodel.graph.nodes if name in given and name not in returned]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    return proto


def _session(content: bytes, optimizations: str, optimized: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = OPTIMIZATIONS[optimizations]
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ERRORS_ONLY
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common public base
        raise PtqxError(f"ONNX Runtime refuses the model: {error}") from error


def _reason(step: StepAgreement, kernels: dict[str, onnx.NodeProto], int4: bool) -> str:
    """By the kernel that ONNX Runtime chose for the step; `int4`: whether its weights are INT4."""
    kernel = kernels[step.name]
    while kernel.op_type in PASSED_THROUGH and kernel.input[0] in kernels:
        kernel = kernels[kernel.input[0]]
    op_type = kernel.op_type.removeprefix("Nhwc")
    if op_type in INTEGER_KERNELS:
        return f"{op_type} is exact on CPUs with VNNI; without, sums of two products may saturate at 16 bits"
    if op_type in FLOAT_LAYERS:
        reason = (
            f"computed by {op_type} on real values, whose float32 sums are rounded in an order of their own"
        )
        return f"{reason} (INT4 weights have no integer kernel; export with int4=False)" if int4 else reason
    if op_type.startswith("QLinear"):
        return (
            f"{op_type}'s arithmetic is ONNX Runtime's own: one multiply-add more or less before the rounding"
        )
    return f"{op_type} on real values is rounded in another way"


def _int4_initializers(proto: onnx.ModelProto) -> set[str]:
    return {t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT4}


def _top1(outputs: np.ndarray) -> np.ndarray:
    return outputs.reshape(len(outputs), -1).argmax(1)
