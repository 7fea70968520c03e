"""Functions of one variable: one entry each. Those with a tail run inside a convolution's last step, all as
tables.

Adding one: an entry of ACTIVATIONS. `real` computes it on float tensors of any width; `tail` gives kind and
arguments of csrc/kernels/arith.h for an output scale (arguments are in units of that scale, float32).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tail = tuple[str, list[Tensor]]


@dataclass(frozen=True)
class Activation:
    """A function of one variable, what it is called in PyTorch, and its arguments with their defaults."""

    name: str
    targets: tuple[Any, ...]
    real: Callable[..., Tensor]
    tail: Callable[..., Tail] | None = None
    arguments: tuple[tuple[str, Any], ...] = ()


def _clip(scale: Tensor, low: float | None, high: float | None) -> Tail:
    infinity = float("inf")
    bounds = (-infinity if low is None else low, infinity if high is None else high)
    return "clip", [float32(b) / scale for b in bounds]


def float32(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)


def _hardsigmoid_tail(scale: Tensor) -> Tail:
    return "hardsigmoid", [float32(1 / 6), float32(0.5) / scale, float32(1.0) / scale]


_TABLE = (
    Activation(
        "relu",
        (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"),
        torch.relu,
        lambda s: _clip(s, 0.0, None),
    ),
    Activation(
        "relu6", (nn.ReLU6, F.relu6), lambda x: torch.clamp(x, 0.0, 6.0), lambda s: _clip(s, 0.0, 6.0)
    ),
    Activation(
        "hardtanh",
        (nn.Hardtanh, F.hardtanh, F.hardtanh_),
        lambda x, low, high: torch.clamp(x, low, high),
        _clip,
        (("min_val", -1.0), ("max_val", 1.0)),
    ),
    Activation(
        "clip",
        (torch.clamp, torch.clip, torch.clamp_, torch.clip_, "clamp", "clip", "clamp_", "clip_"),
        lambda x, low, high: torch.clamp(x, low, high),
        _clip,
        (("min", None), ("max", None)),
    ),
    Activation(
        "leaky_relu",
        (nn.LeakyReLU, F.leaky_relu, F.leaky_relu_),
        lambda x, slope: torch.where(x < 0, x * slope, x),
        lambda s, slope: ("leaky_relu", [float32(slope)]),
        (("negative_slope", 0.01),),
    ),
    Activation("hardsigmoid", (nn.Hardsigmoid, F.hardsigmoid), F.hardsigmoid, _hardsigmoid_tail),
    Activation(
        "hardswish", (nn.Hardswish, F.hardswish), F.hardswish, lambda s: ("hardswish", [s / float32(6.0)])
    ),
    Activation(
        "sigmoid",
        (nn.Sigmoid, F.sigmoid, torch.sigmoid, torch.sigmoid_, "sigmoid", "sigmoid_"),
        torch.sigmoid,
    ),
    Activation("silu", (nn.SiLU, F.silu), F.silu),
    Activation("tanh", (nn.Tanh, F.tanh, torch.tanh, torch.tanh_, "tanh", "tanh_"), torch.tanh),
    Activation(
        "gelu",
        (nn.GELU, F.gelu),
        lambda x, approximate: F.gelu(x, approximate=approximate),
        arguments=(("approximate", "none"),),
    ),
    Activation("elu", (nn.ELU, F.elu, F.elu_), lambda x, alpha: F.elu(x, alpha), arguments=(("alpha", 1.0),)),
    Activation("selu", (nn.SELU, F.selu, F.selu_), F.selu),
    Activation(
        "celu", (nn.CELU, F.celu, F.celu_), lambda x, alpha: F.celu(x, alpha), arguments=(("alpha", 1.0),)
    ),
    Activation(
        "rrelu",  # its slope is random in training; this is its mean, as in eval()
        (nn.RReLU, F.rrelu, F.rrelu_),
        lambda x, lower, upper: torch.where(x < 0, x * ((lower + upper) / 2), x),
        lambda s, lower, upper: ("leaky_relu", [float32((lower + upper) / 2)]),
        (("lower", 1 / 8), ("upper", 1 / 3)),
    ),
    Activation(
        "hardshrink",
        (nn.Hardshrink, F.hardshrink),
        lambda x, lambd: F.hardshrink(x, lambd),
        arguments=(("lambd", 0.5),),
    ),
    Activation(
        "softshrink",
        (nn.Softshrink, F.softshrink),
        lambda x, lambd: F.softshrink(x, lambd),
        arguments=(("lambd", 0.5),),
    ),
    Activation("tanhshrink", (nn.Tanhshrink, F.tanhshrink), F.tanhshrink),
    Activation(
        "threshold",
        (),
        lambda x, threshold, value: F.threshold(x, threshold, value),
        arguments=(("threshold", 0.0), ("value", 0.0)),
    ),
    Activation("mish", (nn.Mish, F.mish), F.mish),
    Activation(
        "softplus",
        (nn.Softplus, F.softplus),
        lambda x, beta, threshold: F.softplus(x, beta, threshold),
        arguments=(("beta", 1.0), ("threshold", 20.0)),
    ),
    Activation("softsign", (nn.Softsign, F.softsign), F.softsign),
    Activation("log_sigmoid", (nn.LogSigmoid, F.logsigmoid), F.logsigmoid),
    Activation("exp", (torch.exp, "exp"), torch.exp),
    Activation("abs", (torch.abs, operator.abs, "abs"), torch.abs),
    Activation("square", (torch.square, "square", "square_"), torch.square),
    Activation("neg", (torch.neg, operator.neg, "neg"), torch.neg),
    # Arithmetic with a Python number; the capture table maps +, -, *, / to these.
    Activation("add_scalar", (), lambda x, value: x + value, arguments=(("value", 0.0),)),
    Activation("mul_scalar", (), lambda x, value: x * value, arguments=(("value", 1.0),)),
    Activation("subtract_from", (), lambda x, value: value - x, arguments=(("value", 0.0),)),
    Activation("divide_by_scalar", (), lambda x, value: x / value, arguments=(("value", 1.0),)),
    Activation("power", (), lambda x, exponent: x**exponent, arguments=(("exponent", 1),)),
    Activation("identity", (), lambda x: x),  # a change of scale: codes of one quantizer to those of another
)

ACTIVATIONS: dict[str, Activation] = {entry.name: entry for entry in _TABLE}
