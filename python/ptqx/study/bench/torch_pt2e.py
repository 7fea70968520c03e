"""PyTorch 2 export quantization: torchao's X86InductorQuantizer, lowered by torch.compile."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ..formats import frozen
from .registry import Load, Network, Session, register_engine


@register_engine("torch-pt2e", "int8", peer=True, packages=("torchao",))
def torch_pt2e(network: Network) -> Load:
    """Exported, calibrated and compiled for each batch size: the quantizer takes static shapes."""
    logging.getLogger("torchao").setLevel(logging.ERROR)  # kernels for GPUs that it could not load
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    def load(batch: Tensor, threads: int) -> Session:
        exported = torch.export.export(network.model, (batch,)).module()
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(exported, quantizer)
        for images in network.calibration:
            repeats = -(-len(batch) // len(images))
            prepared(images.repeat(repeats, 1, 1, 1)[: len(batch)])
        module = frozen(convert_pt2e(prepared), batch)
        return Session(lambda: module(batch), "torch.compile, frozen")

    return load
