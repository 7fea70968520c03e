"""fp16 against bf16: memory, values lost to overflow and underflow, error per layer, training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .... import models
from ....data import Loader
from ...bench.memory import peak_allocation
from ...formats import FLOAT16_TYPES, InType, float_file
from ...rounding import RoundedModel, RoundResults
from ...statistics import Sqnr, sqnr_db, weight_layers
from ..config import Study
from ..part import Unit, Values, part
from ..subject import Subject

TYPES = {"fp32": torch.float32, **FLOAT16_TYPES}


@dataclass(frozen=True)
class HalfFloatOptions:
    """steps, batch_size, lr: of training from random weights in each type; 0 steps leave it out."""

    steps: int = 60
    batch_size: int = 64
    lr: float = 0.05


@part("half_floats", HalfFloatOptions)
def half_floats(study: Study, options: HalfFloatOptions) -> Iterator[Unit]:
    for name in TYPES:
        yield Unit("half_floats", f"{name}: memory and error", _inference(name))
    if options.steps:
        for name in TYPES:
            yield Unit("half_floats", f"{name}: training", _training(name, options), vars(options))


def _inference(name: str) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        dtype = TYPES[name]
        model, x = InType(subject.model, dtype), subject.example
        file = float_file(name, subject.model, subject.models, dtype)
        weights = {n: t for n, t in subject.model.state_dict().items() if t.is_floating_point()}
        real = layer_outputs(subject.model, subject.analysed)
        rounded = layer_outputs(RoundedModel(subject.model, dtype).model, subject.analysed, dtype)
        return {
            "what": "inference",
            "type": name,
            "file_bytes": file.stat().st_size,
            "weight_bytes": sum(t.numel() * t.element_size() for t in model.model.state_dict().values()),
            "peak_activation_bytes": peak_allocation(lambda: model(x)),
            "batch": len(x),
            "weights": lost(weights.values(), dtype),
            "activations": lost(real.values(), dtype),
            "layers": [{"layer": layer, "output_db": sqnr_db(real[layer], rounded[layer])} for layer in real],
            "weights_db": _total_db(weights.values(), dtype),
        }

    return run


def _training(name: str, options: HalfFloatOptions) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        study = subject.study
        arguments = models.image_options(study.model, subject.train.image_shape)
        torch.manual_seed(study.seed)
        model = models.build(study.model, subject.train.num_classes, **{**arguments, **study.model_options})
        batches = Loader(subject.train, options.batch_size, shuffle=True, seed=study.seed, drop_last=True)
        return {"what": "training", "type": name} | train_rounded(model, batches, TYPES[name], options)

    return run


@torch.no_grad()
def layer_outputs(model: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What each convolution and linear layer gives, everything rounded to `dtype` on the way."""
    model = copy.deepcopy(model).eval()
    outputs: dict[str, Tensor] = {}
    for name, module in weight_layers(model):
        module.register_forward_hook(lambda m, i, y, name=name: outputs.update({name: y.clone()}))
    with RoundResults(dtype):
        model(x.to(dtype).float())
    return outputs


def lost(tensors: Iterable[Tensor], dtype: torch.dtype) -> dict[str, int]:
    """How many values become infinite, 0 or subnormal in `dtype`, of how many.

    >>> lost([torch.tensor([1e6, 1e-9, 3e-6, 1.0])], torch.float16)
    {'values': 4, 'overflow': 1, 'underflow': 1, 'subnormal': 1}
    """
    total = {"values": 0, "overflow": 0, "underflow": 0, "subnormal": 0}
    smallest = torch.finfo(dtype).smallest_normal
    for tensor in tensors:
        rounded = tensor.to(dtype).float()
        total["values"] += tensor.numel()
        total["overflow"] += int((rounded.isinf() & tensor.isfinite()).sum())
        total["underflow"] += int(((rounded == 0) & (tensor != 0)).sum())
        total["subnormal"] += int(((rounded.abs() < smallest) & (rounded != 0)).sum())
    return total


def train_rounded(
    model: nn.Module, batches: Loader, dtype: torch.dtype, options: HalfFloatOptions
) -> dict[str, Any]:
    """Train with weights, activations and gradients all rounded to `dtype`, a float32 copy of the weights,
    and no scaling of the loss.

    Returns:
        losses: of every step, up to the first that is not finite; zero_gradients: percent of the gradients
        that are 0; steps: how many were made.
    """
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    masters = [p.detach().clone().requires_grad_() for p in parameters]
    optimizer = torch.optim.SGD(masters, lr=options.lr, momentum=0.9)
    losses: list[float] = []
    zero = total = 0
    for x, y in _endless(batches, options.steps):
        with torch.no_grad():
            for parameter, master in zip(parameters, masters, strict=True):
                parameter.copy_(master.to(dtype))
        model.zero_grad(set_to_none=True)
        with RoundResults(dtype) if dtype != torch.float32 else nullcontext():
            loss = F.cross_entropy(model(x.to(dtype).float()), y)
            loss.backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        for parameter, master in zip(parameters, masters, strict=True):
            assert parameter.grad is not None
            master.grad = parameter.grad.clone()
            zero += int((master.grad == 0).sum())
            total += master.numel()
        nn.utils.clip_grad_norm_(masters, 5.0)
        optimizer.step()
    return {
        "losses": [round(loss, 6) for loss in losses],
        "zero_gradients": 100.0 * zero / max(total, 1),
        "steps": len(losses),
    }


def _endless(batches: Loader, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    done = 0
    while done < steps:
        for x, y in batches:
            yield x, y
            done += 1
            if done == steps:
                return


def _total_db(tensors: Iterable[Tensor], dtype: torch.dtype) -> float:
    total = Sqnr()
    for tensor in tensors:
        total.update(tensor, tensor.to(dtype).float())
    return total.db
