"""16-bit floating point on a CPU without it: float32 arithmetic, every result rounded."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class RoundedModel(nn.Module):
    """A copy of `model` whose parameters, input and every operator's result are rounded to `dtype`.

    What a processor with `dtype` storage and float32 accumulation computes. Values beyond the type's range
    become infinite, as they would there.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(1.0)
    >>> RoundedModel(layer, torch.bfloat16)(torch.tensor([[1.001]]))
    tensor([[1.]], grad_fn=...)
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(dtype).float()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        with RoundResults(self.dtype):
            logits: Tensor = self.model(x.to(self.dtype).float())
        return logits


class RoundResults(TorchDispatchMode):
    """Inside, every operator's float32 result is rounded to `dtype`; so are gradients made inside."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:  # of values that are rounded already
            return result
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                # In place: an operator such as relu_ returns its argument, which must be rounded itself.
                # Through .data, because for autograd it is the operator's own result.
                tensor.data.copy_(tensor.to(self.dtype))
        return result
