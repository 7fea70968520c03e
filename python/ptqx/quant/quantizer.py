"""Quantizer modules: scale and zero point of one tensor of a network, found by calibration or learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import ops
from ..errors import PtqxError
from .affine import MIN_SCALE, check_finite, codes_f32, expand_to
from .midrise import ObservedLevels, level_offset, observe_levels, qparams_of_levels
from .observer import make_observer
from .registry import LEVELS, QUANTIZERS
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
    learned: ClassVar[bool] = False  # has parameters
    symmetric_kind: ClassVar[str | None] = None  # what takes its place where the scheme is symmetric
    scale: Tensor
    zero_point: Tensor
    calibrated: Tensor
    midrise: Tensor | None

    def __init__(self, scheme: Scheme, channels: int = 1, groups: int = 1, name: str = "input") -> None:
        super().__init__()
        self.tensor_name = name
        self._check_scheme(scheme)
        self.scheme = scheme
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
        self._prepare_scaled(x, factor)
        # round(x * factor / scale) / factor, whose sign is that of x
        scale = self._training_scale(x) / factor.abs()
        return ops.fake_quantize(x, scale, self.zero_point.expand(len(scale)), scheme.qmin, scheme.qmax, 0, 0)

    def quantize(self, x: Tensor) -> Tensor:
        """The codes, int8 or uint8; NaN and infinities raise a PtqxError with their count."""
        self._check_calibrated()
        scheme = self.scheme
        scale, zero_point = self.qparams(x)
        x = self._from_code_0(x, scale)
        if x.device.type != "cpu":  # of training: the kernel is the CPU's
            check_finite(x, self.tensor_name)
            return self.rounded(x, scale, zero_point).to(scheme.dtype)
        try:
            return ops.quantize(x, scale, zero_point, scheme.qmin, scheme.qmax, 0, scheme.group_size)
        except ValueError as error:
            raise PtqxError(f"{self.tensor_name}: {error}") from error

    def codes_f32(self, x: Tensor) -> Tensor:
        """The same codes as float32, in plain torch (NaN stays NaN)."""
        self._check_calibrated()
        scale, zero_point = self.qparams(x)
        x = self._from_code_0(x, scale)
        return self.rounded(x, scale, zero_point)

    def _from_code_0(self, x: Tensor, scale: Tensor) -> Tensor:
        """x less the real value of code 0, detached."""
        x = x.detach()
        return x if self.midrise is None else x - level_offset(scale, self.midrise, x, self.scheme)

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
        if scheme.symmetric and self.symmetric_kind is not None:
            raise PtqxError(
                f"{self.tensor_name}: a {type(self).__name__} quantizer needs symmetric=False; "
                f"{self.symmetric_kind!r} takes its place where the scheme is symmetric"
            )
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

    def _prepare_scaled(self, x: Tensor, factor: Tensor) -> None:
        """_prepare(x * factor)"""
        self._prepare(x)

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


def make_quantizer(
    scheme: Scheme, kind: str = "fixed", channels: int = 1, groups: int = 1, name: str = "input"
) -> Quantizer:
    """The quantizer module registered as `kind`; dynamic schemes (granularity "sample") get "dynamic", and
    symmetric ones, weights above all, "lsq" where `kind` learns an offset or a clip.

    Levels other than uniform and stochastic rounding have quantizers of their own, which learn in the way
    of `kind` where they can.

    >>> scheme = Scheme(bits=4, granularity="group", group_size=8)
    >>> make_quantizer(scheme, "lsq", channels=64, groups=4).scale.shape
    torch.Size([64, 4])
    """
    cls: type[Quantizer] = QUANTIZERS[_kind_for(scheme, kind)]
    if scheme.symmetric and cls.symmetric_kind is not None:
        cls = QUANTIZERS[cls.symmetric_kind]
    return cls(scheme, channels, groups, name)


def _kind_for(scheme: Scheme, kind: str) -> str:
    """`kind`, or what does the same for a scheme that it is not made for."""
    if scheme.granularity == "sample":
        return "dynamic"
    if scheme.levels == "sign":
        return "sign_fixed" if kind == "fixed" else "sign"
    if scheme.levels == "fixed":
        return "fixed_point" if kind == "fixed" else "fixed_point_moving_average"
    if scheme.levels != "uniform":
        learned = LEVELS[scheme.levels].learned_by
        return {"fixed": "levels", "moving_average": "refitted_levels"}.get(kind, learned)
    if scheme.rounding == "stochastic":
        return {"fixed": "stochastic", "moving_average": "stochastic_moving_average"}.get(
            kind, "stochastic_lsq"
        )
    return kind
