"""The trained model as a file: safetensors, with what it is in the metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..errors import PtqxError
from ..files import write_tensors


def round_to_half(model: nn.Module) -> nn.Module:
    """Round every floating tensor of `model` to float16 in place, as a half-size file will hold it."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            rounded = tensor.half()
            if not torch.isfinite(rounded).all():
                raise PtqxError(f"{name} exceeds float16's range (65504); leave out --half")
            tensor.copy_(rounded)
    return model


def save_model(
    path: str | os.PathLike[str], model: nn.Module, metadata: Mapping[str, Any], half: bool = False
) -> None:
    """Write the model's state_dict as safetensors, floats as float16 if `half`."""
    tensors = {
        name: tensor.half() if half and tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    write_tensors(path, tensors, {key: str(value) for key, value in metadata.items()})
