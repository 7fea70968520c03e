"""torchao's 4-bit weight-only quantization, as a row to compare with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...errors import PtqxError
from ...files import write_tensors
from ...train import evaluate
from .part import Values

if TYPE_CHECKING:
    from .subject import Subject

TORCHAO_INT4 = "torchao-int4-weight-only"
GROUP = 128  # torchao's default
INT4: Any = torch.__dict__["int4"]  # mypy does not know it


def torchao_int4(subject: Subject) -> Values:
    """Linear layers in torchao's int4, everything else float32: torchao has no convolutions.

    Groups of 128 inputs share a scale where they divide the layer's, otherwise an output channel does.
    """
    model = quantized_by_torchao(subject.model)
    path = subject.models / f"{TORCHAO_INT4}.safetensors"
    write_tensors(path, stored_tensors(model))
    linear = sum(m.weight.numel() for m in subject.model.modules() if isinstance(m, nn.Linear))
    share = 100.0 * linear / sum(p.numel() for p in subject.model.parameters())
    return {
        "kind": "ptq",
        "execution": "float",
        "recipe": None,
        "n_calibration": 0,
        "size_bytes": path.stat().st_size,
        "coverage": 0.0,
        "detail": f"torchao: linear layers alone ({share:.0f} % of the parameters), 4-bit weights of a byte "
        "each, arithmetic in float32",
        **subject.accuracy(evaluate(model, subject.test)),
    }


def quantized_by_torchao(model: nn.Module) -> nn.Module:
    """A copy with torchao's int4 weights in its linear layers.

    Raises:
        PtqxError: torchao is not installed.
    """
    try:
        from torchao.quantization import IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerAxis, PerGroup
    except ImportError as error:
        raise PtqxError(f"row {TORCHAO_INT4!r} needs torchao: pip install 'ptqx[peers]'") from error
    copied = copy.deepcopy(model)
    for granularity, grouped in ((PerGroup(GROUP), True), (PerAxis(0), False)):
        config = IntxWeightOnlyConfig(weight_dtype=INT4, granularity=granularity)

        def chosen(module: nn.Module, name: str, grouped: bool = grouped) -> bool:
            return isinstance(module, nn.Linear) and (module.in_features % GROUP == 0) == grouped

        quantize_(copied, config, chosen)
    return copied


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state_dict with torchao's tensors taken apart into plain ones."""
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        parts: Any = getattr(type(value), "tensor_data_names", None)
        if parts:
            tensors |= {f"{name}.{part}": getattr(value, part) for part in parts}
        else:
            tensors[name] = value
    return tensors
