"""Quantizers that are trained with the network: step sizes, offsets, clips."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import ops
from .affine import MIN_SCALE
from .quantizer import Quantizer
from .registry import register_quantizer


@register_quantizer("lsq")
class LSQ(Quantizer):
    """Learned step size: the scale is a parameter, trained with the network; it starts from calibration.

    scale = max(|learned_scale|, 2**-64), so it is positive whatever the optimizer does. Inside the range its
    gradient is q - zero_point - x / scale, outside the end's distance from the zero point, summed over the N
    values that share it and multiplied by 1 / sqrt(N * qmax).
    Esser et al., "Learned Step Size Quantization", ICLR 2020.
    """

    learned = True
    learned_scale: nn.Parameter

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        return self.learned_scale.abs().clamp(min=MIN_SCALE)

    def _make_qparams(self, ones: Tensor) -> None:
        self.learned_scale = nn.Parameter(ones)
        self.register_buffer("zero_point", torch.zeros_like(ones, dtype=torch.int32))

    @torch.no_grad()
    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        self.learned_scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def _fake_quantize(self, x: Tensor) -> Tensor:
        return self._lsq(x, self.zero_point)

    def _training_scale(self, x: Tensor) -> Tensor:
        scale = self.scale
        values = x.numel() / scale.numel()
        share = 1.0 / math.sqrt(max(values, 1.0) * max(self.scheme.qmax, 1))
        learned = scale * share
        return scale.detach() + (learned - learned.detach())

    def _codes(self, x: Tensor) -> Tensor:
        return self._lsq_codes(x, self.zero_point)

    def _lsq_codes(self, x: Tensor, zero_point: Tensor) -> Tensor:
        return ops.lsq_codes(x, self.scale, zero_point, self.scheme.qmin, self.scheme.qmax)

    def _lsq(self, x: Tensor, zero_point: Tensor) -> Tensor:
        scheme = self.scheme
        return ops.lsq(x, self.scale, zero_point, scheme.qmin, scheme.qmax, 0.0, 0, scheme.group_size)


@register_quantizer("lsq_plus")
class LSQPlus(LSQ):
    """LSQ with a learned offset, for asymmetric schemes: real = scale * q + offset.

    zero_point = round(-offset / scale), kept in [qmin, qmax], so that 0 stays a level (after a ReLU an offset
    has little to win: it can't be above 0). The gradient of the
    scale is q - (x - offset) / scale inside the range, qmin or qmax outside; that of the offset is 0 inside
    and 1 outside. Both have LSQ's factor. Symmetric schemes have no offset: `make_quantizer` gives them
    "lsq".
    Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and better
    initialization", CVPR workshops 2020.

    >>> from ptqx.quant import Scheme
    >>> quantizer = LSQPlus(Scheme(bits=2, signed=False, symmetric=False))
    >>> quantizer.fit(torch.tensor([-1.0, 2.0]))
    >>> quantizer.learned_offset.item(), quantizer.zero_point.item()
    (-1.0, 1)
    """

    symmetric_kind = "lsq"
    learned_offset: nn.Parameter

    @property
    def zero_point(self) -> Tensor:  # type: ignore[override]
        return self._real_zero_point().detach().round().int()

    def _make_qparams(self, ones: Tensor) -> None:
        self.learned_scale = nn.Parameter(ones)
        self.learned_offset = nn.Parameter(torch.zeros_like(ones))

    @torch.no_grad()
    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        self.learned_scale.copy_(scale)
        self.learned_offset.copy_(-zero_point * scale)

    def _fake_quantize(self, x: Tensor) -> Tensor:
        return self._lsq(x, self._real_zero_point())

    def _codes(self, x: Tensor) -> Tensor:
        return self._lsq_codes(x, self._real_zero_point())

    def _real_zero_point(self) -> Tensor:
        return (-self.learned_offset / self.scale).clamp(self.scheme.qmin, self.scheme.qmax)


@register_quantizer("pact")
class PACT(Quantizer):
    """Parameterized clipping of activations: the clip is a parameter, with a weight decay of its own.

    The zero point rests as calibrated; scale = clip / steps, clip > 0 being the far end of the range and
    steps = max(qmax - zero_point, zero_point - qmin) its distance from 0. The clip's gradient is 1 for values
    beyond it, 0 inside the range and, where the range has a near end too, that end / clip for values beyond
    that. After a ReLU the range is [0, clip], as in the paper. Symmetric schemes, those of weights, get "lsq"
    from `make_quantizer`.
    Choi et al., "PACT: Parameterized clipping activation for quantized neural networks", 2018,
    arXiv:1805.06085.

    >>> from ptqx.quant import Scheme
    >>> quantizer = PACT(Scheme(bits=2, signed=False, symmetric=False))
    >>> quantizer.fit(torch.tensor([0.0, 3.0]))
    >>> quantizer(torch.tensor([0.9, 2.0, 7.0])).sum().backward()
    >>> quantizer.learned_clip.item(), quantizer.learned_clip.grad.item()
    (3.0, 1.0)
    """

    learned = True
    symmetric_kind = "lsq"
    learned_clip: nn.Parameter

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        return (self.learned_clip.abs() / self._steps()).clamp(min=MIN_SCALE)

    def _make_qparams(self, ones: Tensor) -> None:
        self.learned_clip = nn.Parameter(ones)
        self.register_buffer("zero_point", torch.zeros_like(ones, dtype=torch.int32))

    @torch.no_grad()
    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        self.zero_point.copy_(zero_point)
        self.learned_clip.copy_(scale * self._steps())

    def _fake_quantize(self, x: Tensor) -> Tensor:
        scale = self.scale.detach()
        return ops.fake_quantize(
            self._clipped(x), scale, self.zero_point, self.scheme.qmin, self.scheme.qmax, 0, 0
        )

    def _codes(self, x: Tensor) -> Tensor:
        scale = self.scale.detach()
        return ops.lsq_codes(
            self._clipped(x), scale, self.zero_point, self.scheme.qmin, self.scheme.qmax, 1.0
        )

    def _steps(self) -> Tensor:
        return torch.maximum(self.scheme.qmax - self.zero_point, self.zero_point - self.scheme.qmin)

    def _clipped(self, x: Tensor) -> Tensor:
        """x between the ends of the range, which get the gradients of what lies beyond them."""
        scale = self.scale
        low, high = ((end - self.zero_point) * scale for end in (self.scheme.qmin, self.scheme.qmax))
        return torch.clamp(x, low, high)
