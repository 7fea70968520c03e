"""Quantizers of binary activations: scale and threshold as calibrated, or learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import ops
from ..errors import PtqxError
from .affine import MIN_SCALE, check_finite
from .level_quantizer import slowed
from .levels import Sign
from .midrise import ObservedLevels
from .quantizer import Quantizer
from .registry import register_quantizer
from .scheme import Scheme


@register_quantizer("sign_fixed")
class SignFixed(Quantizer):
    """scale * sign(x - threshold), both as calibrated.

    The gradient is that of the clipped identity: 1 where |x - threshold| <= scale, else 0 (Hubara et al.,
    "Binarized Neural Networks", NeurIPS 2016; XNOR-Net; Bi-Real Net).

    >>> quantizer = SignFixed(Scheme(bits=1, levels="sign", signed=False, symmetric=False))
    >>> quantizer.fit(torch.tensor([-1.0, 1.0]))
    >>> x = torch.tensor([-3.0, -0.5, 0.0, 2.0], requires_grad=True)
    >>> quantizer(x).sum().backward()
    >>> quantizer(x).tolist(), x.grad.tolist()
    ([-1.0, -1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0])
    """

    threshold: Tensor

    def _check_scheme(self, scheme: Scheme) -> None:
        if scheme.levels != "sign":
            raise PtqxError(f"a {type(self).__name__} quantizer needs levels='sign', got {scheme.levels!r}")

    def _make_qparams(self, ones: Tensor) -> None:
        super()._make_qparams(ones)
        self.register_buffer("threshold", torch.zeros_like(ones))

    @torch.no_grad()
    def _set_range(self, observed: ObservedLevels) -> None:
        found = Sign.around(observed.low, observed.high)
        self._set_qparams(found["scale"], self.zero_point)
        self._set_threshold(found["threshold"])
        self.calibrated.fill_(1)

    def _set_threshold(self, threshold: Tensor) -> None:
        self.threshold.copy_(threshold)

    def quantize(self, x: Tensor) -> Tensor:
        check_finite(x, self.tensor_name)
        return self.codes_f32(x).to(self.scheme.dtype)

    def rounded(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        return (x.float() >= self.threshold.detach()).float()

    def _training_threshold(self, x: Tensor) -> Tensor:
        return self.threshold

    def _fake_quantize(self, x: Tensor) -> Tensor:
        return self._signs(x) * self.scale.detach()

    def _codes(self, x: Tensor) -> Tensor:
        return self._signs(x)

    def _signs(self, x: Tensor) -> Tensor:
        """In the type that autocast gives a convolution."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return ops.sign_codes(x, self._training_scale(x), self._training_threshold(x), dtype=dtype)


@register_quantizer("sign")
class LearnedSign(SignFixed):
    """Scale and threshold are parameters, which start from calibration.

    With u = (x - threshold) / scale and g the gradient of the result, the scale's is g * (sign(u) - u) where
    |u| <= 1 and g * sign(u) beyond, the threshold's -g where |u| <= 1 and 0 beyond, summed and multiplied by
    1 / sqrt(N) of the N values, as "lsq" does with its step. Liu et al., "ReActNet", ECCV 2020 (there a
    threshold for every channel, which the bias of a batch norm before it is here).
    """

    learned = True
    learned_scale: nn.Parameter
    learned_threshold: nn.Parameter

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        return self.learned_scale.abs().clamp(min=MIN_SCALE)

    @property
    def threshold(self) -> Tensor:  # type: ignore[override]
        return self.learned_threshold

    def _make_qparams(self, ones: Tensor) -> None:
        self.learned_scale = nn.Parameter(ones)
        self.learned_threshold = nn.Parameter(torch.zeros_like(ones))
        self.register_buffer("zero_point", torch.zeros_like(ones, dtype=torch.int32))

    @torch.no_grad()
    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        self.learned_scale.copy_(scale)

    def _set_threshold(self, threshold: Tensor) -> None:
        self.learned_threshold.copy_(threshold)

    def _training_scale(self, x: Tensor) -> Tensor:
        return slowed(self.scale, x, 1.0)

    def _training_threshold(self, x: Tensor) -> Tensor:
        return slowed(self.learned_threshold, x, 1.0)
