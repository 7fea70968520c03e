"""Quantizers of weights whose levels are a list: as fitted, fitted again at every step, or learned."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from ..errors import PtqxError
from .affine import MIN_SCALE, check_finite, expand_to
from .levels import Parameters, TrainedTernary, fit_levels, level_of, make_levels
from .quantizer import Quantizer
from .registry import register_quantizer
from .scheme import Scheme


@register_quantizer("levels")
class LevelQuantizer(Quantizer):
    """A weight in any levels but "uniform", which stay as fitted. Gradients pass to every value unchanged.

    The parameters of the levels are buffers under their names ("scale", "levels", ...); zero_point is 0 and
    has no meaning.

    >>> quantizer = LevelQuantizer(Scheme(bits=3, levels="pow2"))
    >>> quantizer.fit(torch.tensor([0.25, -0.9, 0.3, 1.0]))
    >>> quantizer(torch.tensor([0.25, -0.9, 0.3, 1.0]))
    tensor([ 0.2500, -1.0000,  0.2500,  1.0000])
    """

    levels: Tensor

    def _check_scheme(self, scheme: Scheme) -> None:
        if scheme.levels == "uniform":
            raise PtqxError(f"a {type(self).__name__} quantizer is for levels other than 'uniform'")
        self.level_set = make_levels(scheme)

    def _make_qparams(self, ones: Tensor) -> None:
        self._blank = self.level_set.blank(tuple(ones.shape), self.scheme)
        for name, value in self._blank.items():
            self.register_buffer(name, value.clone())
        self.register_buffer("zero_point", torch.zeros_like(ones, dtype=torch.int32))

    @property
    def level_parameters(self) -> Parameters:
        """What the levels are made of, detached."""
        return {name: getattr(self, name).detach() for name in self._blank}

    def observe(self, x: Tensor) -> None:
        """A weight is taken whole: `fit`."""
        self.fit(x)

    def compute_qparams(self) -> None:
        """Nothing but a check: `fit` has set everything."""
        self.require_calibrated()

    def fit(self, x: Tensor, importance: Tensor | None = None) -> None:
        """Find the levels of this whole tensor; `importance` as in `quantize_tensor`."""
        parameters = fit_levels(self.level_set, x.detach(), self.scheme, self.tensor_name, importance)
        if parameters["scale"].shape != self.scale.shape:
            raise PtqxError(
                f"{self.tensor_name}: a tensor of shape {tuple(x.shape)} needs scales of shape "
                f"{tuple(parameters['scale'].shape)}, the quantizer has {tuple(self.scale.shape)}"
            )
        self._take(parameters)
        self.calibrated.fill_(1)

    def codes_f32(self, x: Tensor) -> Tensor:
        self._check_calibrated()
        return self.level_set.codes(x.detach().float(), self.level_parameters, self.scheme)

    def quantize(self, x: Tensor) -> Tensor:
        check_finite(x, self.tensor_name)
        return self.codes_f32(x).to(self.scheme.dtype)

    def forward_scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        return self._forward_scaled_apart(x, factor)

    @torch.no_grad()
    def _take(self, parameters: Parameters) -> None:
        for name in self._blank:
            getattr(self, name).copy_(parameters[name])

    def _fake_quantize(self, x: Tensor) -> Tensor:
        codes = self.codes_f32(x)
        return self.level_set.values(codes, self.level_parameters, self.scheme) + (x - x.detach())


@register_quantizer("refitted_levels")
class RefittedLevels(LevelQuantizer):
    """While training, until `frozen`, the levels are fitted to the weight as it is, at every step.

    So are binary and ternary weights trained by XNOR-Net (2016) and TWN (2016): with the gradient of the
    quantized weight.
    """

    def __init__(self, scheme: Scheme, channels: int = 1, groups: int = 1, name: str = "input") -> None:
        super().__init__(scheme, channels, groups, name)
        self.frozen = False

    def _prepare(self, x: Tensor) -> None:
        if self.training and not self.frozen:
            self.fit(x)
        else:
            super()._prepare(x)


@register_quantizer("learned_scale")
class LearnedScale(LevelQuantizer):
    """The scale is a parameter: real = scale * level(x / scale), as "lsq" does with uniform levels.

    The gradient of the scale is level - x / scale between the smallest and the largest level and that level
    outside, summed over the N values that share it and multiplied by 1 / sqrt(N * largest level). The
    gradient of the weight passes unchanged, outside too (Li et al., APoT, ICLR 2020).
    """

    learned_scale: nn.Parameter

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        return self.learned_scale.abs().clamp(min=MIN_SCALE)

    def _make_qparams(self, ones: Tensor) -> None:
        super()._make_qparams(ones)
        del self._buffers["scale"]
        self.learned_scale = nn.Parameter(ones)

    def _set_qparams(self, scale: Tensor, zero_point: Tensor) -> None:
        with torch.no_grad():
            self.learned_scale.copy_(scale)

    @torch.no_grad()
    def _take(self, parameters: Parameters) -> None:
        for name in self._blank:
            (self.learned_scale if name == "scale" else getattr(self, name)).copy_(parameters[name])

    def _training_scale(self, x: Tensor) -> Tensor:
        largest = float(self.levels.abs().max())
        return slowed(self.scale, x, largest)

    def _fake_quantize(self, x: Tensor) -> Tensor:
        scale = expand_to(self._training_scale(x), x, self.scheme)
        steps = x.detach() / scale
        inside = steps.clamp(float(self.levels.min()), float(self.levels.max()))
        level = level_of(self.codes_f32(x), self.levels)
        return scale * (inside + (level - inside).detach()) + (x - x.detach())


@register_quantizer("learned_levels")
class LearnedLevels(LevelQuantizer):
    """The levels of a codebook are parameters: each gets the gradients of all values that took it.

    Where the levels lie on a grid of whole numbers they are rounded in use, with straight-through gradients.
    The gradient of the weight passes unchanged. Han et al., "Deep Compression", ICLR 2016, section 3.3.
    """

    learned_levels: nn.Parameter

    @property
    def levels(self) -> Tensor:  # type: ignore[override]
        return self._rounded_levels().detach().sort(dim=1).values

    def _make_qparams(self, ones: Tensor) -> None:
        super()._make_qparams(ones)
        levels = self._buffers.pop("levels")
        assert levels is not None
        self.learned_levels = nn.Parameter(levels)

    @torch.no_grad()
    def _take(self, parameters: Parameters) -> None:
        for name in self._blank:
            (self.learned_levels if name == "levels" else getattr(self, name)).copy_(parameters[name])

    def _rounded_levels(self) -> Tensor:
        if not self.level_set.on_grid:
            return self.learned_levels
        on_grid = self.learned_levels.round().clamp(-127, 127)
        return self.learned_levels + (on_grid - self.learned_levels).detach()

    def _fake_quantize(self, x: Tensor) -> Tensor:
        levels = self._rounded_levels().sort(dim=1).values
        scale = expand_to(self.scale, x, self.scheme)
        return level_of(self.codes_f32(x), levels) * scale + (x - x.detach())


@register_quantizer("learned_sides")
class LearnedSides(LevelQuantizer):
    """Trained ternary quantization: both magnitudes p and n are parameters, the threshold follows the weight.

    With g the gradient of the quantized weight: p gets the sum of g over x > threshold, n minus that over
    x < -threshold, both times 1 / sqrt(N) of the N values that share them, because the plain sum diverges at
    the weights' learning rate; the weight gets g * p above, g between, g * n below. Zhu et al., TTQ, ICLR
    2017, equations 7 and 8.
    """

    positive: nn.Parameter
    negative: nn.Parameter
    threshold: Tensor

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        return self._grid()[0]

    @property
    def levels(self) -> Tensor:  # type: ignore[override]
        return self._grid()[1]

    def _make_qparams(self, ones: Tensor) -> None:
        super()._make_qparams(ones)
        del self._buffers["scale"], self._buffers["levels"]
        self.positive, self.negative = nn.Parameter(ones), nn.Parameter(ones.clone())

    def _grid(self) -> tuple[Tensor, Tensor]:
        return TrainedTernary.grid(*(side.detach().abs() for side in (self.positive, self.negative)))

    @torch.no_grad()
    def _take(self, parameters: Parameters) -> None:
        scale, levels = parameters["scale"], parameters["levels"]
        self.positive.copy_(scale * levels[:, 3])
        self.negative.copy_(-scale * levels[:, 0])
        self.threshold.copy_(parameters["threshold"])

    def _prepare(self, x: Tensor) -> None:
        super()._prepare(x)
        if self.training:
            # In units of the scale, which has moved: the threshold itself is a share of max |x|.
            fitted = cast(TrainedTernary, self.level_set).absolute_threshold(x.detach(), self.scheme)
            self.threshold.copy_(fitted / self.scale)

    def _fake_quantize(self, x: Tensor) -> Tensor:
        codes = self.codes_f32(x)
        above, below = (codes > 0).to(x.dtype), (codes < 0).to(x.dtype)
        learned = (slowed(side.abs(), x, 1.0) for side in (self.positive, self.negative))
        sides = [expand_to(side, x, self.scheme) for side in learned]
        value = above * sides[0] - below * sides[1]
        on_grid = self.level_set.values(codes, self.level_parameters, self.scheme)
        factor = (above * sides[0] + below * sides[1] + (1 - above - below)).detach()
        return value + (on_grid - value).detach() + (x - x.detach()) * factor


def slowed(scale: Tensor, x: Tensor, largest: float) -> Tensor:
    """scale, its gradient multiplied by 1 / sqrt(N * largest)."""
    learned = scale / math.sqrt(max(x.numel() / scale.numel(), 1.0) * largest)
    return scale.detach() + (learned - learned.detach())
