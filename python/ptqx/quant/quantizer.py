"""Quantizer modules: scale and zero point of one tensor of a network, found by calibration or learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from ..errors import PtqxError
from .affine import MIN_SCALE, check_finite, codes_f32, expand_to, qparams_from_range
from .batch_range import batch_range, scheme_text
from .midrise import ObservedLevels, level_offset, observe_levels, qparams_of_levels
from .observer import make_observer
from .registry import LEVELS, QUANTIZERS, register_quantizer
from .scheme import Scheme


class Quantizer(nn.Module):
    """Quantizes one tensor; all parameters and buffers have their final shapes from construction on.

    Activations (granularity "tensor"): `observe` every calibration batch, then `compute_qparams`.
    Weights: `fit` the whole tensor, as often as it changes.

    Args:
        scheme: how to quantize.
        channels: output channels of a weight, if the granularity is "channel" or "group".
        groups: groups of input channels, if it is "group".
        name: what error messages call the tensor.

    Attributes:
        scale: float32 > 0: [1], [channels] or [channels, groups].
        zero_point: int32 of the same shape.
        midrise: uint8, [1] or [channels]: 1 where real = scale * (q + 1/2). None unless the scheme is one of
            four levels (`Scheme.midrise`).
        calibrated: uint8 [1], 1 once scale and zero_point are set.
        enabled: False makes forward the identity.
        observing: True makes forward observe its input and return it unchanged.

    A new quantizer is one subclass decorated with `@register_quantizer("name")`; it may override `qparams`,
    `_make_qparams`, `_set_qparams`, `_prepare` and `_fake_quantize`.
    """

    name: str  # registered name, on the class
    scale: Tensor
    zero_point: Tensor
    calibrated: Tensor
    midrise: Tensor | None

    def __init__(self, scheme: Scheme, channels: int = 1, groups: int = 1, name: str = "input") -> None:
        super().__init__()
        self._check_scheme(scheme)
        self.scheme = scheme
        self.tensor_name = name
        self.enabled = True
        self.observing = False
        shape = {"channel": (channels,), "group": (channels, groups)}.get(scheme.granularity, (1,))
        self.register_buffer("calibrated", torch.zeros(1, dtype=torch.uint8))
        levels = torch.full(shape[:1], int(bool(scheme.midrise)), dtype=torch.uint8)
        self.register_buffer("midrise", levels if scheme.chooses_levels else None)
        self._make_qparams(torch.ones(shape))
        self.observer = make_observer(scheme) if scheme.granularity == "tensor" else None
        self._known_calibrated = False

    def observe(self, x: Tensor) -> None:
        """Take a batch into the statistics; a tensor quantized per channel or group is taken whole (`fit`).

        Raises:
            PtqxError: NaN or infinite values, with their count.
        """
        if self.observer is None:
            self.fit(x)
        else:
            self.observer.update(x, self.tensor_name)

    def compute_qparams(self) -> None:
        """Set scale and zero_point from what was observed. Repeating it changes nothing.

        Raises:
            PtqxError: nothing was observed.
        """
        if self.observer is None:
            self.require_calibrated()
            return
        try:
            self._set_range(ObservedLevels(*self.observer.range(), self.midrise))
        except PtqxError as error:
            raise PtqxError(f"{self.tensor_name}: {error}") from error

    def fit(self, x: Tensor) -> None:
        """Set scale and zero_point from this whole tensor alone, as the scheme's observer sees it."""
        observed = observe_levels(x, self.scheme, self.tensor_name)
        if observed.low.shape != self.scale.shape:
            raise PtqxError(
                f"{self.tensor_name}: a tensor of shape {tuple(x.shape)} needs scales of shape "
                f"{tuple(observed.low.shape)}, the quantizer has {tuple(self.scale.shape)}"
            )
        self._set_range(observed)

    def set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        """Set scale (finite, >= 2**-64) and zero_point from outside; both must have the quantizer's shape."""
        for label, value in (("scale", scale), ("zero_point", zero_point)):
            if value.shape != self.scale.shape:
                raise PtqxError(
                    f"{self.tensor_name}: {label}: expected shape {tuple(self.scale.shape)}, "
                    f"got {tuple(value.shape)}"
                )
        if not bool((torch.isfinite(scale) & (scale >= MIN_SCALE)).all()):
            raise PtqxError(
                f"{self.tensor_name}: scale: expected finite numbers >= 2**-64, got {scale.tolist()}"
            )
        if not bool(((zero_point >= self.scheme.qmin) & (zero_point <= self.scheme.qmax)).all()):
            raise PtqxError(
                f"{self.tensor_name}: zero_point: expected {self.scheme.qmin} to {self.scheme.qmax}, "
                f"got {zero_point.tolist()}"
            )
        self._set_qparams(scale, zero_point)
        self.calibrated.fill_(1)

    def require_calibrated(self) -> None:
        """Raise a PtqxError unless scale and zero_point were set."""
        if not bool(self.calibrated):
            raise PtqxError(f"{self.tensor_name}: the quantizer is not calibrated; run ptqx.calibrate first")
        self._known_calibrated = True

    def forward(self, x: Tensor) -> Tensor:
        """(q(x) - zero_point) * scale, with straight-through gradients; x while observing or not enabled.

        Where `midrise` is 1, (q(x) + 1/2) * scale.
        """
        if self.observing:
            self.observe(x)
            return x
        if not self.enabled:
            return x
        self._prepare(x)
        if self.midrise is None:
            return self._fake_quantize(x)
        offset = level_offset(self._training_scale(x), self.midrise, x, self.scheme)
        return self._fake_quantize(x - offset) + offset

    def forward_codes(self, x: Tensor) -> Tensor:
        """forward(x) / scale, whole numbers, with forward's gradients for a reader that multiplies by the
        scale again, as a constant. Per tensor, calibrated and enabled."""
        self._prepare(x)
        return self._codes(x)

    def forward_scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        """forward(x * factor) / factor of a weight and a factor [channels], in one pass where it can be."""
        scheme = self.scheme
        odd = scheme.symmetric and scheme.qmin == -scheme.qmax
        if not odd or scheme.group_size or self.observing or not self.enabled:
            return self._forward_scaled_apart(x, factor)
        self._prepare(x)
        # round(x * factor / scale) / factor, whose sign is that of x
        scale = self._training_scale(x) / factor.abs()
        return ops.fake_quantize(x, scale, self.zero_point.expand(len(scale)), scheme.qmin, scheme.qmax, 0, 0)

    def quantize(self, x: Tensor) -> Tensor:
        """The codes, int8 or uint8; NaN and infinities raise a PtqxError with their count."""
        self._check_calibrated()
        scheme = self.scheme
        scale, zero_point = self.qparams(x)
        x = x.detach() - level_offset(scale, self.midrise, x, scheme)
        try:
            return ops.quantize(x, scale, zero_point, scheme.qmin, scheme.qmax, 0, scheme.group_size)
        except ValueError as error:
            raise PtqxError(f"{self.tensor_name}: {error}") from error

    def codes_f32(self, x: Tensor) -> Tensor:
        """The same codes as float32, in plain torch (NaN stays NaN)."""
        self._check_calibrated()
        scale, zero_point = self.qparams(x)
        x = x.detach() - level_offset(scale, self.midrise, x, self.scheme)
        return self.rounded(x, scale, zero_point)

    def rounded(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """clamp(round(x / scale) + zero_point, qmin, qmax) as float32, by the scheme's rounding; scale and
        zero_point have the quantizer's shape."""
        scale, zero_point = (expand_to(parameter, x, self.scheme) for parameter in (scale, zero_point))
        return codes_f32(x, scale, zero_point, self.scheme.qmin, self.scheme.qmax)

    def qparams(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point, detached, that x is quantized with; only dynamic quantizers look at x."""
        return self.scale.detach(), self.zero_point

    def merge(self, other: Quantizer) -> None:
        """Take in what another quantizer of the same scheme has observed."""
        if self.observer is not None and other.observer is not None:
            self.observer.merge(other.observer)

    def sync(self, process_group: Any = None) -> None:
        """Merge what was observed over all ranks; once, after calibration and before `compute_qparams`."""
        if self.observer is not None:
            self.observer.sync(process_group)

    def extra_repr(self) -> str:
        return f"{self.tensor_name!r}, {self.scheme}"

    def _check_scheme(self, scheme: Scheme) -> None:
        if scheme.levels != "uniform" or scheme.rounding != "nearest":
            raise PtqxError(
                f"a {type(self).__name__} quantizer needs levels='uniform' and rounding='nearest', "
                f"got {scheme.levels!r} and {scheme.rounding!r}; make_quantizer finds the one for them"
            )

    def _make_qparams(self, ones: Tensor) -> None:
        self.register_buffer("scale", ones)
        self.register_buffer("zero_point", torch.zeros_like(ones, dtype=torch.int32))

    def _set_range(self, observed: ObservedLevels) -> None:
        if self.midrise is not None and observed.midrise is not None:
            self.midrise.copy_(observed.midrise)
        self._set_qparams(*qparams_of_levels(observed, self.scheme))
        self.calibrated.fill_(1)

    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def _prepare(self, x: Tensor) -> None:
        self._check_calibrated()

    def _check_calibrated(self) -> None:
        # Once; and not while tracing, where reading a buffer would break the graph.
        if not self._known_calibrated and not torch.compiler.is_compiling():
            self.require_calibrated()

    def _forward_scaled_apart(self, x: Tensor, factor: Tensor) -> Tensor:
        column = factor.reshape(-1, *[1] * (x.dim() - 1))
        return self(x * column) / column

    def _training_scale(self, x: Tensor) -> Tensor:
        """scale, with the gradient that it learns from."""
        return self.scale

    def _fake_quantize(self, x: Tensor) -> Tensor:
        scheme = self.scheme
        return ops.fake_quantize(
            x, self.scale, self.zero_point, scheme.qmin, scheme.qmax, 0, scheme.group_size
        )

    def _codes(self, x: Tensor) -> Tensor:
        return ops.lsq_codes(x, self.scale, self.zero_point, self.scheme.qmin, self.scheme.qmax, 1.0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        self._known_calibrated = False
        super()._load_from_state_dict(state_dict, prefix, *args)


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

    def forward_scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        return self._forward_scaled_apart(x, factor)  # its range is that of x * factor

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


@register_quantizer("lsq")
class LSQ(Quantizer):
    """Learned step size: the scale is a parameter, trained with the network; it starts from calibration.

    scale = max(|learned_scale|, 2**-64), so it is positive whatever the optimizer does. Inside the range its
    gradient is q - zero_point - x / scale, outside the end's distance from the zero point, summed over the N
    values that share it and multiplied by 1 / sqrt(N * qmax).
    Esser et al., "Learned Step Size Quantization", ICLR 2020.
    """

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


@register_quantizer("lsq+")
class LSQPlus(LSQ):
    """LSQ with a learned zero point for asymmetric schemes, kept in [qmin, qmax], rounded in use.

    Its gradient is -scale for every value outside the range, 0 inside, with LSQ's factor.
    Bhalgat et al., "LSQ+", CVPR workshops 2020.
    """

    learned_zero_point: nn.Parameter

    def __init__(self, scheme: Scheme, channels: int = 1, groups: int = 1, name: str = "input") -> None:
        if scheme.symmetric:
            raise PtqxError(
                f"{name}: quantizer 'lsq+' learns a zero point: it needs symmetric=False; use 'lsq'"
            )
        super().__init__(scheme, channels, groups, name)

    @property
    def zero_point(self) -> Tensor:  # type: ignore[override]
        return self._bounded_zero_point().detach().round().int()

    def _make_qparams(self, ones: Tensor) -> None:
        self.learned_scale = nn.Parameter(ones)
        self.learned_zero_point = nn.Parameter(torch.zeros_like(ones))

    @torch.no_grad()
    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        self.learned_scale.copy_(scale)
        self.learned_zero_point.copy_(zero_point)

    def _fake_quantize(self, x: Tensor) -> Tensor:
        return self._lsq(x, self._bounded_zero_point())

    def _codes(self, x: Tensor) -> Tensor:
        return self._lsq_codes(x, self._bounded_zero_point())

    def _bounded_zero_point(self) -> Tensor:
        return self.learned_zero_point.clamp(self.scheme.qmin, self.scheme.qmax)


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


def make_quantizer(
    scheme: Scheme, kind: str = "fixed", channels: int = 1, groups: int = 1, name: str = "input"
) -> Quantizer:
    """The quantizer module registered as `kind`; dynamic schemes (granularity "sample") get "dynamic".

    Levels other than uniform and stochastic rounding have quantizers of their own, which learn in the way
    of `kind` where they can.

    >>> scheme = Scheme(bits=4, granularity="group", group_size=8)
    >>> make_quantizer(scheme, "lsq", channels=64, groups=4).scale.shape
    torch.Size([64, 4])
    """
    quantizer: Quantizer = QUANTIZERS[_kind_for(scheme, kind)](scheme, channels, groups, name)
    return quantizer


def _kind_for(scheme: Scheme, kind: str) -> str:
    """`kind`, or what does the same for a scheme that it is not made for."""
    if scheme.granularity == "sample":
        return "dynamic"
    if scheme.levels != "uniform":
        learned = LEVELS[scheme.levels].learned_by
        return {"fixed": "levels", "moving_average": "refitted_levels"}.get(kind, learned)
    if scheme.rounding == "stochastic":
        return {"fixed": "stochastic", "moving_average": "stochastic_moving_average"}.get(
            kind, "stochastic_lsq"
        )
    return kind
