"""Gradients of several micro-batches summed up in int8."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import PtqxError
from ...quant import Scheme, qparams_from_range
from ...quant.levels import stochastic_codes
from ...quant.noise import stream_of, uniform_noise

GROUP = 256  # gradients that share a scale
CHUNK = 128 * GROUP  # gradients that are float32 at a time
SCHEME = Scheme(bits=8, rounding="stochastic", narrow=True)


@dataclass(frozen=True)
class Accumulation:
    """Batches cut into `micro_batches`, whose gradients are summed up in `bits` bits: 32 or 8.

    Raises:
        PtqxError: fewer than one micro-batch, or another width.
    """

    micro_batches: int
    bits: int = 32

    def __post_init__(self) -> None:
        if self.micro_batches < 1:
            raise PtqxError(f"micro_batches must be at least 1, got {self.micro_batches}")
        if self.bits not in (32, 8):
            raise PtqxError(f"bits of accumulated gradients must be 32 or 8, got {self.bits}")


class Int8Gradients:
    """The sum of a model's gradients as int8 codes with a float32 scale for every 256 of them.

    A parameter's gradient is added, and freed, as soon as backward() has it. With a the sum so far,

        t = a + gradient,  s = max|t| / 127 of each group,  codes = floor(t / s + u),  u uniform in [0, 1)

    whose mean is t / s: contributions much smaller than s are kept on average, where rounding to the nearest
    would lose them. Memory is 1.016 bytes a gradient instead of 4, and float32 for one parameter at a time.

    Raises:
        PtqxError: in backward(), a gradient that is not finite, by name; the sums are then forgotten.

    >>> model = nn.Linear(3, 2)
    >>> gradients = Int8Gradients(model)
    >>> model(torch.ones(1, 3)).sum().backward()
    >>> model.weight.grad is None, gradients.sum_of("bias"), gradients.nbytes
    (True, tensor([1., 1.]), 16)
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.seed = seed
        self.additions = 0
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._codes: dict[str, Tensor] = {}  # int8 [n], in the memory order of the parameter
        self._scales: dict[str, Tensor] = {}  # float32 [ceil(n / GROUP)]
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: self._add(name, p))
            for name, parameter in self._parameters.items()
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(tensor.nbytes for tensors in (self._codes, self._scales) for tensor in tensors.values())

    def sum_of(self, name: str) -> Tensor:
        """The sum of a parameter's gradients so far, float32 of its shape."""
        total = torch.empty_like(self._parameters[name])
        flat = _in_memory_order(total, total)
        for chunk, part in self._chunks(name):
            flat[chunk] = part
        return total

    def norm(self) -> float:
        """The 2-norm of all sums together."""
        parts = (part for name in self._codes for _, part in self._chunks(name))
        return math.sqrt(sum(float(part.double().square().sum()) for part in parts))

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float = 0.0) -> None:
        """Let the optimizer take its step, one parameter after the other, and begin new sums.

        Sums are first scaled down to the 2-norm `clip_norm`; 0 leaves them alone.
        """
        factor = min(1.0, clip_norm / (self.norm() + 1e-6)) if clip_norm else 1.0
        for name in list(self._codes):
            parameter = self._parameters[name]
            parameter.grad = self.sum_of(name).mul_(factor)
            del self._codes[name], self._scales[name]
            optimizer.step()
            parameter.grad = None

    def close(self) -> None:
        """Leave the gradients to the parameters again."""
        for hook in self._hooks:
            hook.remove()

    def clear(self) -> None:
        """Forget the sums."""
        self._codes.clear()
        self._scales.clear()

    def _add(self, name: str, parameter: Tensor) -> None:
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        flat = _in_memory_order(gradient, parameter)
        new = name not in self._codes
        if new:
            self._codes[name] = torch.empty(len(flat), dtype=torch.int8, device=flat.device)
            self._scales[name] = torch.empty(-(-len(flat) // GROUP), device=flat.device)
        for chunk in _slices(len(flat)):
            total = flat[chunk].float()
            if not new:
                total = total + self._decoded(name, chunk)
            if not total.isfinite().all():
                self.clear()
                raise PtqxError(
                    f"the gradient of {name} is not finite; the weights are those before this step"
                )
            self._encode(name, chunk, total)
        self.additions += 1

    def _encode(self, name: str, chunk: slice, total: Tensor) -> None:
        groups = nn.functional.pad(total, (0, -len(total) % GROUP)).reshape(-1, GROUP)
        largest = groups.abs().amax(dim=1, keepdim=True)
        scale, zero_point = qparams_from_range(-largest, largest, SCHEME)
        stream = stream_of(f"{name} {chunk.start}")
        noise = uniform_noise(groups.shape, self.seed, stream, self.additions, groups.device)
        codes = stochastic_codes(groups, scale, zero_point, SCHEME, noise).to(torch.int8)
        self._codes[name][chunk] = codes.flatten()[: len(total)]
        self._scales[name][_groups(chunk)] = scale.flatten()

    def _decoded(self, name: str, chunk: slice) -> Tensor:
        codes = self._codes[name][chunk]
        return codes * self._scales[name][_groups(chunk)].repeat_interleave(GROUP)[: len(codes)]

    def _chunks(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        for chunk in _slices(len(self._codes[name])):
            yield chunk, self._decoded(name, chunk)


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def _groups(chunk: slice) -> slice:
    return slice(chunk.start // GROUP, -(-chunk.stop // GROUP))


def _in_memory_order(x: Tensor, like: Tensor) -> Tensor:
    """x flat, in the order in which `like` lies in memory: a view if x lies so too."""
    order = sorted(range(like.dim()), key=like.stride, reverse=True)
    return x.permute(order).reshape(-1)
