"""Modules that take tensors of other widths: how a network without some of its channels is rebuilt."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

WIDTHS, OWN_WIDTHS = "widths", "own"  # in a checkpoint's metadata: its tensors say how wide the layers are


def take_widths(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Give every parameter and buffer of `model` the values and the shape that `tensors` has under its name.

    The numbers of channels and features that convolutions, linear layers, batch norms and PReLUs keep beside
    their tensors follow. In place; returns the model.

    >>> import torch
    >>> layer = take_widths(nn.Conv2d(4, 8, 3), {"weight": torch.zeros(5, 3, 3, 3), "bias": torch.zeros(5)})
    >>> layer
    Conv2d(3, 5, kernel_size=(3, 3), stride=(1, 1))
    """
    for path, tensor in tensors.items():
        owner, _, name = path.rpartition(".")
        module = model.get_submodule(owner)
        current = getattr(module, name)
        value = tensor.detach().to(current.device, current.dtype).clone()
        if isinstance(current, nn.Parameter):
            module.register_parameter(name, nn.Parameter(value, current.requires_grad))
        else:
            module.register_buffer(name, value, name not in module._non_persistent_buffers_set)
    for module in model.modules():
        _note_widths(module)
    return model


def _note_widths(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Conv1d)):
        if module.groups == module.in_channels > 1:  # depthwise
            multiplier = module.out_channels // module.groups
            module.groups = module.weight.shape[0] // multiplier
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.ConvTranspose2d):
        module.in_channels = module.weight.shape[0]
        module.out_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
