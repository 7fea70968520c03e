"""Learn the rounding of a part of the network, and its activation scales, by gradient descent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import PtqxError
from ..graph.simulated import SimulatedModel
from ..graph.workbench import Workbench
from .soft_quantizers import LearnedScale, SoftRounding, sharpness
from .walk import Segment, Stage, outputs


@dataclass(frozen=True)
class Learning:
    """How `learn` descends: Adam, `steps` times on `batch` samples.

    Attributes:
        rate: of the rounding variables.
        scale_rate: of the logarithms of activation scales; 0 leaves them.
        drop: share of values that are not rounded, at every quantizer of activations and at the input.
        regularizer: weight of the term that makes every weight choose, annealed after `warmup` of the steps.
        seed: of the samples drawn and of what is dropped.
    """

    steps: int
    batch: int
    rate: float
    scale_rate: float
    drop: float
    regularizer: float
    warmup: float
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise PtqxError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("drop", "warmup"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise PtqxError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")


@torch.enable_grad()
def learn(bench: Workbench, stage: Stage, part: Segment, how: Learning) -> None:
    """Make the part's outputs like the float network's; leave weights on their levels.

    Minimises E |y - y_float|^2 (summed over channels) with soft rounding of all weights in the part, inputs
    of the quantized network mixed with the float ones.
    """
    generator = torch.Generator().manual_seed(how.seed)
    with torch.no_grad(), bench.reference.observe(statistics=False):
        wanted = outputs(bench, bench.reference, part, stage.floats)
    read = {name for node in part.nodes for name in node.inputs if name in stage.quantized}
    names = {node.name for node in stage.layers}
    roundings = {node.name: SoftRounding(bench, node) for node in part.nodes if node.name in names}
    scales = _learned_scales(bench, part, how, generator)
    optimizer = torch.optim.Adam(
        [
            {"params": [r.v for r in roundings.values()], "lr": how.rate},
            {"params": [s.log_factor for s in scales.values()], "lr": how.scale_rate},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, how.steps)
    stands = {**{f"{name}/weight": rounding for name, rounding in roundings.items()}, **scales}
    with _standing_in(bench.prep, stands):
        steps = tqdm(range(how.steps), stage.layers[0].name, disable=not bench.progress, leave=False)
        for step in steps:
            rows = torch.randint(len(bench.inputs), (how.batch,), generator=generator)
            mixed = {name: _mixed(stage, name, rows, how.drop, generator) for name in read}
            got = part.run(bench.prep, mixed)
            loss = torch.stack([_distance(got[name], wanted[name][rows]) for name in part.outputs]).sum()
            progress = step / how.steps
            if progress >= how.warmup:
                exponent = sharpness(progress, how.warmup)
                loss = loss + how.regularizer * sum(r.undecided(exponent) for r in roundings.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    for node in part.nodes:
        if node.name in roundings:
            bench.set_weight(node, roundings[node.name].hard())
    for scale in scales.values():
        scale.finish()


def _distance(got: Tensor, wanted: Tensor) -> Tensor:
    return (got - wanted).square().sum(1).mean()


def _mixed(stage: Stage, name: str, rows: Tensor, drop: float, generator: torch.Generator) -> Tensor:
    x = stage.quantized[name][rows]
    if not drop or stage.quantized[name] is stage.floats[name]:
        return x
    dropped = torch.rand(x.shape, generator=generator) < drop
    return torch.where(dropped, stage.floats[name][rows], x)


def _learned_scales(
    bench: Workbench, part: Segment, how: Learning, generator: torch.Generator
) -> dict[str, LearnedScale]:
    nodes = {node.name for node in part.nodes}
    sites = bench.prep.graph.quantizers
    keys = [k for k, site in sites.items() if site.owner in nodes and site.scheme.granularity == "tensor"]
    if not how.scale_rate and not how.drop:
        return {}
    return {
        f"{key}/output": LearnedScale(bench.prep.activation_quantizer(key), how.drop, generator)
        for key in keys
    }


@contextmanager
def _standing_in(model: SimulatedModel, stands: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside, the model computes with these instead of its quantizers of those names."""
    keys = {name.replace(".", "/"): module for name, module in stands.items()}
    replaced = {key: model.quantizers[key] for key in keys}
    model.quantizers.update(keys)
    try:
        yield
    finally:
        model.quantizers.update(replaced)
