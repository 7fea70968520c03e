"""Quantizers whose ranges are found, not learned: in calibration, along the way, or for each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from ..errors import PtqxError
from .affine import check_finite, qparams_from_range
from .batch_range import batch_range, scheme_text
from .midrise import ObservedLevels
from .quantizer import Quantizer
from .registry import register_quantizer
from .scheme import Scheme


@register_quantizer("fixed")
class Fixed(Quantizer):
    """Scale and zero point stay as calibrated; gradients pass straight through inside the range, 0 outside.

    >>> quantizer = Fixed(Scheme(bits=4, granularity="channel"), channels=2)
    >>> quantizer.fit(torch.tensor([[7.0, -3.0], [0.7, 0.14]]))
    >>> quantizer.scale
    tensor([1.0000, 0.1000])
    >>> quantizer.codes_f32(torch.tensor([[2.5, -9.0], [0.7, 0.14]]))
    tensor([[ 2., -8.],
            [ 7.,  1.]])
    """


@register_quantizer("moving_average")
class MovingAverage(Quantizer):
    """While training, until `frozen`, the range follows the data: range += momentum * (batch's - range).

    The range of a batch, or of a weight (taken whole: momentum 1), is what the scheme's observer sees in it
    alone. Calibration, if there was one, gives the start, else the first batch; in eval() the range rests.
    Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self, scheme: Scheme, channels: int = 1, groups: int = 1, name: str = "input", momentum: float = 0.01
    ) -> None:
        super().__init__(scheme, channels, groups, name)
        if not 0.0 < momentum <= 1.0:
            raise PtqxError(f"momentum: expected a number in (0, 1], got {momentum}")
        self.momentum = momentum if scheme.granularity == "tensor" else 1.0
        self.frozen = False
        self._scheme_text = scheme_text(scheme)
        self.register_buffer("low", torch.zeros_like(self.scale))
        self.register_buffer("high", torch.zeros_like(self.scale))

    def _set_range(self, observed: ObservedLevels) -> None:
        super()._set_range(observed)
        self.low.copy_(observed.low)
        self.high.copy_(observed.high)

    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        super()._set_qparams(scale, zero_point)
        self.low.copy_((self.scheme.qmin - zero_point) * scale)
        self.high.copy_((self.scheme.qmax - zero_point) * scale)

    @torch.no_grad()
    def _prepare_scaled(self, x: Tensor, factor: Tensor) -> None:
        self._prepare(x * factor.reshape(-1, *[1] * (x.dim() - 1)))

    @torch.no_grad()
    def _prepare(self, x: Tensor) -> None:
        if not self.training or self.frozen:
            super()._prepare(x)
            return
        low, high, midrise = batch_range(x, self._scheme_text, self.tensor_name, self.scale.shape)
        # The first batch is the start. Not a question of Python's, so that a graph can be made of it.
        share = torch.where(self.calibrated.bool(), self.momentum, 1.0)
        low, high = torch.lerp(self.low, low, share), torch.lerp(self.high, high, share)
        self._set_range(ObservedLevels(low, high, midrise))


@register_quantizer("dynamic")
class Dynamic(Quantizer):
    """Granularity "sample": each sample of a batch is quantized by its own min and max; nothing to calibrate.

    `qparams(x)` gives scale and zero_point, [N], as ONNX DynamicQuantizeLinear would for each sample alone.
    """

    def __init__(self, scheme: Scheme, channels: int = 1, groups: int = 1, name: str = "input") -> None:
        super().__init__(scheme, channels, groups, name)
        if scheme.granularity != "sample":
            raise PtqxError(
                f"{name}: quantizer 'dynamic' needs granularity='sample', got {scheme.granularity!r}"
            )
        self.calibrated.fill_(1)

    def observe(self, x: Tensor) -> None:
        """Only checks that x is finite."""
        check_finite(x, self.tensor_name)

    def qparams(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.aminmax(x.detach().float().flatten(1), dim=1)
        return qparams_from_range(low, high, self.scheme)

    def _fake_quantize(self, x: Tensor) -> Tensor:
        scale, zero_point = self.qparams(x)
        return ops.fake_quantize(x, scale, zero_point, self.scheme.qmin, self.scheme.qmax, 0, 0)
