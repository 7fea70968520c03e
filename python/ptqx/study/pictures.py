"""Pictures of the taxonomy: what the quantizers of ptqx do to numbers, drawn by running them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import PtqxError
from ..files import atomic_write
from ..quant import OBSERVERS, Scheme, make_quantizer, observe_whole, quantize_tensor, recipe, resolve
from .plots import FAINT, INK, LINE_COLORS, blank, styled
from .statistics import sqnr_db

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES: dict[str, Callable[[], Figure]] = {}
DOTS_PER_INCH = 100


def picture(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """Decorator: enter a figure under its function's name."""
    PICTURES[draw.__name__] = styled(draw)
    return PICTURES[draw.__name__]


def draw_pictures(folder: Path) -> list[Path]:
    """Write every picture as NAME.png into `folder`.

    Raises:
        PtqxError: matplotlib is missing, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise PtqxError(f"out: expected a folder, got the file {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in PICTURES.items():
        path = folder / f"{name}.png"
        with atomic_write(path) as partial:
            draw().savefig(partial, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        written.append(path)
    return written


@picture
def uniform() -> Figure:
    """Evenly spaced levels: 8, 4 and 2 bits, with and without a zero point."""
    figure = blank(10.0, 2.9)
    panels = figure.subplots(1, 4)
    symmetric = torch.linspace(-1.2, 1.2, 1201)
    one_sided = torch.linspace(-0.5, 1.9, 1201)
    _staircase(panels[0], symmetric, {"8 bits": Scheme(), "4 bits": Scheme(bits=4)}, (-1, 1), "symmetric")
    asymmetric = {f"{bits} bits": Scheme(bits=bits, signed=False, symmetric=False) for bits in (8, 4)}
    _staircase(panels[1], one_sided, asymmetric, (-0.3, 1.7), "asymmetric")
    narrow = {"narrow": Scheme(bits=4, narrow=True), "full": Scheme(bits=4)}
    _staircase(panels[2], symmetric, narrow, (-1, 1), "4 bits: -7..7 or -8..7")
    two = {"with 0": Scheme(bits=2, midrise=False), "mid-rise": Scheme(bits=2, midrise=True)}
    _staircase(panels[3], symmetric, two, (-1, 1), "2 bits")
    return figure


@picture
def nonuniform() -> Figure:
    """Levels of 4 bits for the same normal weights."""
    weights = _normal_weights()
    schemes = {
        "uniform": Scheme(bits=4),
        "pow2": Scheme(bits=4, levels="pow2"),
        "apot": Scheme(bits=4, levels="apot"),
        "kmeans": Scheme(bits=4, levels="kmeans"),
    }
    return _level_lines(weights, schemes)


@picture
def signs() -> Figure:
    """One and two magnitudes, and binary activations with the gradient of their clipped identity."""
    figure = blank(10.0, 2.9)
    left, middle, right = figure.subplots(1, 3)
    weights = _normal_weights()
    sets = {
        "binary": Scheme(bits=1, levels="binary"),
        "ternary": Scheme(bits=2, levels="ternary"),
        "ttq": Scheme(bits=2, levels="ttq"),
    }
    _histogram(left, weights)
    top = float(left.get_ylim()[1])
    for line, (name, scheme) in enumerate(sets.items()):
        levels = quantize_tensor(weights, scheme).dequantize().unique().tolist()
        left.plot(levels, [top * (0.35 + 0.2 * line)] * len(levels), "o", color=LINE_COLORS[line], label=name)
    left.legend(frameon=False, fontsize=8)
    left.set_title("weights", fontsize=9, loc="left")

    x = torch.linspace(-1.0, 3.0, 801)
    after_relu = _normal_weights().mul(1.2).relu()
    for line, (values, name) in enumerate(((_normal_weights(), "mean 0"), (after_relu, "after ReLU"))):
        quantizer = make_quantizer(recipe("w1a1").activations or Scheme())
        quantizer.fit(values)
        probe = x.clone().requires_grad_()
        real = quantizer(probe)
        real.sum().backward()
        assert probe.grad is not None
        middle.plot(x, real.detach(), color=LINE_COLORS[line], label=name)
        right.plot(x, probe.grad, color=LINE_COLORS[line], label=name)
    middle.set_title("sign(x - threshold) * scale", fontsize=9, loc="left")
    right.set_title("its gradient in training", fontsize=9, loc="left")
    for panel in (middle, right):
        panel.legend(frameon=False, fontsize=8)
        panel.set_xlabel("x")
    return figure


@picture
def fixed_point() -> Figure:
    """Scales that are powers of two, and shift-and-scale of data far from 0."""
    figure = blank(10.0, 2.9)
    left, right = figure.subplots(1, 2)
    largest = torch.linspace(0.25, 4.0, 800)
    for line, (name, levels) in enumerate((("int8", "uniform"), ("fixed8", "fixed"))):
        scheme = Scheme(levels=levels, granularity="channel")
        scale = quantize_tensor(largest[:, None], scheme).parameters["scale"]
        left.plot(largest, scale, color=LINE_COLORS[line], label=name)
    left.set_xlabel("largest |x|")
    left.set_ylabel("scale")
    left.legend(frameon=False, fontsize=8)
    data = 20 + _normal_weights() / 3
    _histogram(right, data)
    top = float(right.get_ylim()[1])
    codes = torch.arange(16, dtype=torch.float32)
    for line, name in enumerate(("uniform", "shift")):
        fitted = quantize_tensor(data, Scheme(bits=4, levels=name, signed=False, symmetric=False))
        levels_of_codes = replace(fitted, codes=codes).dequantize()
        height = [top * (0.4 + 0.25 * line)] * 16
        right.plot(
            levels_of_codes, height, "o", markersize=4, color=LINE_COLORS[line], label=f"{name}, 4 bits"
        )
    right.legend(frameon=False, fontsize=8, loc="upper left")
    right.set_xlabel("x")
    return figure


@picture
def rounding() -> Figure:
    """What nearest and stochastic rounding give, and the mean of the latter over many seeds."""
    figure = blank(10.0, 2.7)
    panels = figure.subplots(1, 2)
    x = torch.linspace(-2.5, 2.5, 501)
    ends = torch.cat([x, torch.tensor([7.0])])  # so that the scale is 1
    nearest = quantize_tensor(ends, Scheme(bits=4)).dequantize()[:-1]
    drawn = [
        quantize_tensor(ends, Scheme(bits=4, rounding="stochastic", seed=seed)).dequantize()[:-1]
        for seed in range(200)
    ]
    panels[0].plot(x, nearest, color=LINE_COLORS[0], label="nearest, half to even")
    panels[0].plot(x, drawn[0], ".", markersize=2.5, color=LINE_COLORS[1], label="stochastic, one seed")
    panels[1].plot(x, nearest - x, color=LINE_COLORS[0], label="nearest")
    panels[1].plot(x, torch.stack(drawn).mean(0) - x, color=LINE_COLORS[1], label="stochastic, mean of 200")
    panels[1].set_ylabel("error")
    panels[1].set_ylim(-0.6, 0.9)
    for panel in panels:
        panel.legend(frameon=False, fontsize=8)
        panel.set_xlabel("x, in steps")
    return figure


@picture
def granularity() -> Figure:
    """Channels of different sizes: SQNR of each with one scale a tensor, a channel and a group."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-1.5, 0.5, 10)[torch.randperm(10, generator=generator)]
    weight = torch.randn(10, 64, 3, 3, generator=generator) * sizes.reshape(-1, 1, 1, 1)
    weight[:, :8] *= 3  # a group of input channels with larger weights
    figure = blank(10.0, 2.9)
    axes = figure.subplots()
    for line, kind in enumerate(("tensor", "channel", "group")):
        scheme = Scheme(bits=4, granularity=kind, group_size=8 if kind == "group" else 0)
        real = quantize_tensor(weight, scheme).dequantize()
        heights = [float(sqnr_db(w, r)) for w, r in zip(weight, real, strict=True)]
        positions = [channel + 0.27 * (line - 1) for channel in range(10)]
        axes.bar(positions, heights, 0.25, color=LINE_COLORS[line], label=f"a scale for each {kind}")
    axes.set_xticks(range(10), [f"max {float(w.abs().max()):.2g}" for w in weight], fontsize=8)
    axes.set_ylabel("SQNR at 4 bits, dB")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    return figure


@picture
def ranges() -> Figure:
    """Where each observer ends the range of the same activations at 4 bits."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, generator=generator).relu()
    x[:5] = torch.tensor([7.0, 8.0, 9.0, 7.5, 8.5])
    figure = blank(10.0, 2.9)
    axes = figure.subplots()
    axes.hist(x[x > 0].tolist(), bins=160, color=FAINT)
    axes.set_yscale("log")
    for line, name in enumerate(OBSERVERS):
        scheme = Scheme(bits=4, signed=False, symmetric=False, observer=name)
        high = float(observe_whole(x, scheme)[1])
        style = "--" if name == "moving_average" else "-"
        color = LINE_COLORS[line % len(LINE_COLORS)]
        axes.axvline(high, color=color, linestyle=style, label=f"{name}: {high:.2f}")
    axes.set_xlim(-0.3, 11.5)
    axes.legend(frameon=False, fontsize=8, loc="right")
    axes.set_xlabel("activation")
    axes.set_ylabel("values")
    return figure


@picture
def training() -> Figure:
    """Straight-through gradients of trained quantizers, to the value and to what they learn."""
    unsigned = Scheme(bits=2, signed=False, symmetric=False)
    kinds = {"fixed": unsigned, "lsq": unsigned, "pact": unsigned, "sign": recipe("w1a1").activations}
    figure = blank(10.0, 4.2)
    panels = figure.subplots(2, 4, sharex=True)
    x = torch.linspace(-1.0, 4.0, 1001)
    for column, (kind, scheme) in enumerate(kinds.items()):
        assert scheme is not None
        quantizer = make_quantizer(scheme, "lsq" if kind == "sign" else kind)
        quantizer.fit(torch.tensor([0.0, 3.0]))
        values = x.clone().requires_grad_()
        real = quantizer(values)
        (to_value,) = torch.autograd.grad(real.sum(), values, retain_graph=True)
        panels[0][column].plot(x, real.detach(), color=INK)
        panels[0][column].set_title(kind, fontsize=9, loc="left")
        panels[1][column].plot(x, to_value, color=LINE_COLORS[0], label="of x")
        for line, (name, parameter) in enumerate(quantizer.named_parameters(), start=1):
            share = _per_value(quantizer, x, parameter)
            label = name.removeprefix("learned_")
            panels[1][column].plot(x, share / share.abs().max(), color=LINE_COLORS[line], label=f"of {label}")
        panels[1][column].set_ylim(-1.25, 2.1)
        panels[1][column].legend(frameon=False, fontsize=7.5, loc="upper center")
    panels[0][0].set_ylabel("value")
    panels[1][0].set_ylabel("gradient (scaled to 1)")
    return figure


@picture
def scope() -> Figure:
    """Bits of weights and activations of five layers under several recipes."""
    names = ("int8", "int4-weight-only", "int4", "w4a4", "w2a4", "w1a1")
    layers = ("conv1", "conv2", "conv3", "conv4", "fc")
    figure = blank(10.0, 2.6)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, part in zip(panels, (0, 1), strict=True):
        bits = []
        for name in names:
            schemes = [resolve(recipe(name), layer, layer in ("conv1", "fc"))[part] for layer in layers]
            bits.append([32 if scheme is None else scheme.bits for scheme in schemes])
        panel.imshow(torch.tensor(bits).log2().tolist(), cmap="Blues", vmin=-1, vmax=7, aspect="auto")
        for row, line in enumerate(bits):
            for column, width in enumerate(line):
                panel.text(column, row, "float" if width == 32 else str(width), ha="center", va="center")
        panel.set_xticks(range(len(layers)), layers)
        panel.set_yticks(range(len(names)), names)
        panel.grid(visible=False)
        panel.set_title(("bits of weights", "bits of the layer's input")[part], fontsize=9, loc="left")
    return figure


def _normal_weights() -> Tensor:
    return torch.randn(4000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)


def _staircase(
    axes: Axes, x: Tensor, schemes: dict[str, Scheme], ends: tuple[float, float], title: str
) -> None:
    """Real value of the code against x, for a range from `ends[0]` to `ends[1]`."""
    axes.plot(x, x, color=FAINT, linewidth=1)
    for line, (name, scheme) in enumerate(schemes.items()):
        quantizer = make_quantizer(scheme)
        quantizer.fit(torch.tensor(ends))
        axes.plot(x, quantizer(x), color=LINE_COLORS[line], linewidth=1.4, label=name)
    axes.set_title(title, fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=8)
    axes.set_xlabel("x")


def _level_lines(weights: Tensor, schemes: dict[str, Scheme]) -> Figure:
    figure = blank(10.0, 3.2)
    axes = figure.subplots()
    _histogram(axes, weights)
    top = float(axes.get_ylim()[1])
    for line, (name, scheme) in enumerate(schemes.items()):
        quantized = quantize_tensor(weights, scheme)
        levels = quantized.dequantize().unique()
        height = top * (0.2 + 0.22 * line)
        label = f"{name}: {float(sqnr_db(weights, quantized.dequantize())):.1f} dB"
        axes.plot(levels, [height] * len(levels), "|", markersize=14, color=LINE_COLORS[line], mew=1.6)
        axes.text(3.2, height, label, va="center", color=LINE_COLORS[line], fontsize=9)
    axes.set_xlim(-3.3, 4.6)
    axes.set_xlabel("weight")
    return figure


def _histogram(axes: Axes, values: Tensor) -> None:
    axes.hist(values.tolist(), bins=80, color=FAINT)
    axes.set_yticks([])
    axes.grid(visible=False)


def _per_value(quantizer: Any, x: Tensor, parameter: Tensor) -> Tensor:
    """The gradient that each value of x alone gives to a parameter."""
    shares = []
    for value in x:
        real = quantizer(value.reshape(1))
        shares.append(torch.autograd.grad(real.sum(), parameter)[0].reshape(()))
    return torch.stack(shares)
