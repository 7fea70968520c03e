"""The network that users give, as the plain float32 module to capture."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from ..errors import PtqxError


def source_model(model: nn.Module) -> nn.Module:
    """A copy in float32, taken out of what wraps it: DataParallel, DistributedDataParallel, torch.compile.

    Raises:
        PtqxError: no nn.Module, a TorchScript module, or parameters without values.

    >>> source_model(nn.DataParallel(nn.Linear(1, 1).half()))
    Linear(in_features=1, out_features=1, bias=True)
    """
    if not isinstance(model, nn.Module):
        raise PtqxError(f"model: expected an nn.Module, got {type(model).__name__}")
    while True:
        if isinstance(model, (nn.DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # of torch.compile
            model = model._orig_mod  # type: ignore[assignment]
        else:
            break
    if isinstance(model, torch.jit.ScriptModule):
        raise PtqxError(
            "model: TorchScript modules hold no Python code to capture; give the nn.Module it was made of"
        )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise PtqxError(f"model: {name} has no shape yet; run the model once on an example")
        if tensor.is_meta:
            raise PtqxError(f"model: {name} is on the device meta, without values; load its weights first")
    return copy.deepcopy(model, _copies_of_results(model)).float()


def _copies_of_results(model: nn.Module) -> dict[int, Tensor]:
    """By id, for `copy.deepcopy`: what forward keeps of earlier calls is a result of autograd, perhaps, which
    it does not copy."""
    kept = pytree.tree_leaves([vars(module) for module in model.modules()])
    return {id(t): t.detach().clone() for t in kept if isinstance(t, Tensor) and not t.is_leaf}
