"""PyTorch's legacy quantization: FX graph mode and the x86 engine (fbgemm and oneDNN)."""

from __future__ import annotations

import copy
import importlib.util
import warnings

import torch

from .registry import Load, Network, Session, Unavailable, register_engine


@register_engine("torch-fx", "int8", peer=True)
def torch_fx(network: Network) -> Load:
    """prepare_fx and convert_fx with the x86 engine's default configuration."""
    if importlib.util.find_spec("torch.ao.quantization.quantize_fx") is None:
        raise Unavailable(f"torch {torch.__version__} has no FX graph mode quantization")
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    former = torch.backends.quantized.engine
    torch.backends.quantized.engine = "x86"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is deprecated
            example = (network.calibration[0],)
            mapping = get_default_qconfig_mapping("x86")
            prepared = quantize_fx.prepare_fx(copy.deepcopy(network.model), mapping, example)
            for batch in network.calibration:
                prepared(batch)
            model = quantize_fx.convert_fx(prepared)
    finally:
        torch.backends.quantized.engine = former
    return lambda batch, threads: Session(lambda: model(batch))
