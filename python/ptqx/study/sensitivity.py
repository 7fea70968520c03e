"""Which layers lose most: each one alone quantized, everything else float."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from ..data import ImageDataset
from ..errors import PtqxError
from ..graph import SimulatedModel, calibrate, convert, prepare
from ..graph.placement import layers
from ..quant import Recipe
from ..quant import recipe as find_recipe
from ..train import Evaluation, evaluate
from .bootstrap import RESAMPLES
from .causes import layer_causes
from .compare import ANALYSIS_IMAGES, calibration_batches, first_images
from .curvature import float_network, hessian_traces, labelled_batches
from .layer_costs import engine_program, layer_bytes, step_milliseconds
from .rows import accuracy_columns, markdown_table, signed
from .statistics import sqnr_db

ORDERS = ("loss", "top1", "sqnr", "hessian", "size", "time")


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer alone quantized: its weights and the tensor it reads.

    weight_db, input_db: SQNR of the two by themselves; output_db: of the logits, dB.
    loss_increase: of the mean cross-entropy, with its 95 % interval over the test images.
    top1, drop, drop_ci95, agreement: percent points against the float network.
    hessian_trace: of the loss along the layer's folded weights (`hessian_traces`); None if left out.
    size_bytes: of the layer's tensors in a file; None where the recipe has no integer model.
    milliseconds: of the layer's steps in the engine, one image on one thread; None where it can't run them.
    causes: what stands out in the layer, the likeliest first (`LayerCauses`).
    """

    layer: str
    op: str
    parameters: int
    weight_db: float
    input_db: float
    output_db: float
    loss_increase: float
    loss_ci95: list[float]
    top1: float
    drop: float
    drop_ci95: list[float]
    agreement: float
    hessian_trace: float | None
    size_bytes: int | None
    milliseconds: float | None
    causes: list[str]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Result of `sensitivity`: rows in the network's order.

    Attributes:
        increases: float64 (layers, images): of each image's cross-entropy, by each layer.
    """

    rows: list[LayerSensitivity]
    recipe: Recipe
    float_top1: float
    increases: np.ndarray

    def ranked(self, by: str = "loss") -> list[LayerSensitivity]:
        """The rows, the most sensitive first: by increase of "loss", by drop of "top1", by "sqnr" of the
        logits, by trace of the "hessian"; or the most costly first: by "size" or "time"."""
        keys: dict[str, Any] = {
            "loss": lambda row: row.loss_increase,
            "top1": lambda row: row.drop,
            "sqnr": lambda row: -row.output_db,
            "hessian": lambda row: row.hessian_trace,
            "size": lambda row: row.size_bytes,
            "time": lambda row: row.milliseconds,
        }
        if by not in keys:
            raise PtqxError(f"by: expected {', '.join(ORDERS)}, got {by!r}")
        if any(keys[by](row) is None for row in self.rows):
            raise PtqxError(f"by: {by!r} was not measured; take another of {', '.join(ORDERS)}")
        return sorted(self.rows, key=keys[by], reverse=True)

    def contrast(self, first: str = "conv2d", second: str = "linear", seed: int = 0) -> list[float] | None:
        """Mean increase of loss over the layers of one operation less that of another: value, and 95 %
        interval over the images. None if the network lacks one of them."""
        kinds = np.array([row.op for row in self.rows])
        if first not in kinds or second not in kinds:
            return None
        per_image = self.increases[kinds == first].mean(0) - self.increases[kinds == second].mean(0)
        return [float(per_image.mean()), *_mean_interval(per_image, seed)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain values, ready for JSON."""
        return [asdict(row) for row in self.rows]

    def to_markdown(self, by: str = "loss") -> str:
        header = (
            "layer",
            "loss",
            "drop",
            "95 % interval",
            "logits dB",
            "weight dB",
            "input dB",
            "Hessian trace",
            "bytes",
            "ms",
            "likely cause",
        )
        lines = [
            [
                row.layer,
                f"{row.loss_increase:+.4f}",
                signed(row.drop),
                f"[{signed(row.drop_ci95[0])}, {signed(row.drop_ci95[1])}]",
                *(f"{db:.1f}" for db in (row.output_db, row.weight_db, row.input_db)),
                "-" if row.hessian_trace is None else f"{row.hessian_trace:.3g}",
                "-" if row.size_bytes is None else f"{row.size_bytes:,}",
                "-" if row.milliseconds is None else f"{row.milliseconds:.3g}",
                "; ".join(row.causes) or "-",
            ]
            for row in self.ranked(by)
        ]
        return markdown_table(header, lines, frozenset(header) - {"layer", "likely cause"})

    def __repr__(self) -> str:
        return self.to_markdown()


def sensitivity(
    model: nn.Module,
    calibration: ImageDataset | Iterable[Any],
    test: ImageDataset | Iterable[tuple[Tensor, Tensor]],
    *,
    bits: int = 4,
    recipe: str | Recipe | None = None,
    images: int = 1024,
    hessian_images: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Sensitivity:
    """Quantize every convolution and linear layer alone, weights and input, and measure what it costs.

    The other layers stay float, and so the network is the simulated one. Two layers that read the same tensor
    are each measured with it quantized for both.

    Args:
        model: a float CNN; it is not changed.
        calibration: a data set, or batches; ranges are found on at most `images` of it.
        test: a data set, or a list of batches (x, y), read once per layer. For choosing bit widths take
            training images that calibration does not use.
        bits: of weights and activations, everywhere the same.
        hessian_images: of `test`, for the trace of the Hessian; 0 leaves it out.
        recipe: instead of `bits`: a static recipe's name or a Recipe.

    >>> from ptqx.data import load
    >>> from ptqx.models import cnn
    >>> digits, test = load("digits"), load("digits", split="test")
    >>> result = sensitivity(cnn(width=4).eval(), digits, test, bits=3, images=64)
    >>> [row.layer for row in result.rows]
    ['features.0', 'features.3', 'features.7', 'classifier']
    """
    chosen = find_recipe(f"w{bits}a{bits}", edge_bits=None) if recipe is None else find_recipe(recipe)
    if chosen.kind != "static":
        raise PtqxError(f"recipe: expected one with static activations, got a {chosen.kind} one")
    batches = calibration_batches(calibration, images, seed)
    x = first_images(test, ANALYSIS_IMAGES)
    prep = calibrate(prepare(copy.deepcopy(model).eval(), chosen, x), batches).eval()
    sizes, times = _costs(prep)
    traces: dict[str, float] = {}
    if hessian_images:
        labelled = labelled_batches(test, hessian_images, 0, seed)
        traces = hessian_traces(float_network(model, x), labelled, seed=seed, progress=progress)
    for quantizer in prep.quantizers.values():
        quantizer.enabled = False  # type: ignore[assignment]
    network = _FakeQuantized(prep)
    reference = evaluate(network, test)
    real: dict[str, Tensor] = {prep.graph.input: x}
    prep.float_output(x, keep=real)
    rows, increases = [], []
    for node in tqdm(layers(prep.graph), "layers", disable=not progress, leave=False):
        if node.kind != "static":
            continue
        toggled = [prep.weight_quantizer(node)]
        key = prep.graph.nodes[node.inputs[0]].quantizer
        if key is not None:
            toggled.append(prep.activation_quantizer(key))
        for quantizer in toggled:
            quantizer.enabled = True
        evaluation = evaluate(network, test)
        for quantizer in toggled:
            quantizer.enabled = False
        causes = layer_causes(prep, node, real[node.inputs[0]])
        increase = _losses(evaluation) - _losses(reference)
        increases.append(increase)
        weights = prep.tensor(node.params["weight"]).numel() if "weight" in node.params else 0
        rows.append(
            LayerSensitivity(
                layer=node.name,
                op=node.op,
                parameters=weights,
                weight_db=causes.weight_db,
                input_db=causes.input_db,
                output_db=sqnr_db(reference.logits, evaluation.logits),
                loss_increase=float(increase.mean()),
                loss_ci95=_mean_interval(increase, seed),
                **accuracy_columns(reference, evaluation, seed),
                hessian_trace=traces.get(node.name),
                size_bytes=sizes.get(node.name),
                milliseconds=times.get(node.name),
                causes=causes.causes,
            )
        )
    return Sensitivity(rows, chosen, reference.top1, np.stack(increases))


def _costs(prep: SimulatedModel) -> tuple[dict[str, int], dict[str, float]]:
    """Bytes and milliseconds of the layers, as far as the recipe has an integer model and the engine runs
    it."""
    try:
        converted = convert(prep)
    except PtqxError:  # codes of 16 bits
        return {}, {}
    program = engine_program(converted, 1)
    return layer_bytes(converted), {} if program is None else step_milliseconds([program], 1)[0]


class _FakeQuantized(nn.Module):
    """The simulated model's training arithmetic, in which single quantizers can be left out."""

    def __init__(self, prep: SimulatedModel) -> None:
        super().__init__()
        self.prep = prep

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.prep.fake_quantized(x)


def _losses(evaluation: Evaluation) -> np.ndarray:
    losses = F.cross_entropy(evaluation.logits.double(), evaluation.labels, reduction="none")
    values: np.ndarray = losses.numpy()
    return values


def _mean_interval(values: np.ndarray, seed: int, resamples: int = RESAMPLES // 10) -> list[float]:
    """95 % bootstrap interval of a mean over images."""
    generator = np.random.default_rng(seed)
    means = [float(generator.choice(values, len(values)).mean()) for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return [float(low), float(high)]
