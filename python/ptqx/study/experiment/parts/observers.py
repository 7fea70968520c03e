"""How ranges are found: three scalings of weights, per tensor and per channel; observers of activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ....errors import unknown_name
from ....quant import OBSERVERS, Scheme
from ....quant import recipe as find_recipe
from ....train import evaluate
from ...layers import layer_sqnr
from ...scalings import GRANULARITIES, SCALINGS, with_rounded_weights
from ...statistics import Sqnr
from ..config import Study, changed
from ..part import Unit, Values, part
from ..rows import evaluated
from ..subject import Subject


@dataclass(frozen=True)
class ObserverOptions:
    """weight_bits: widths at which weights are scaled in each way, everything else float.
    activation_bits: widths of activations, weights of 8 bits. activations: observers of them."""

    weight_bits: tuple[int, ...] = (8, 4)
    activation_bits: tuple[int, ...] = (8, 4)
    activations: tuple[str, ...] = ("minmax", "moving_average", "percentile", "mse", "kl", "ksigma")

    def __post_init__(self) -> None:
        for observer in self.activations:
            if observer not in OBSERVERS:
                raise unknown_name("observer", observer, OBSERVERS)


@part("observers", ObserverOptions)
def observers(study: Study, options: ObserverOptions) -> Iterator[Unit]:
    for bits in options.weight_bits:
        for granularity in GRANULARITIES:
            for scaling in SCALINGS:
                name = f"weights of {bits} bits, {scaling}, per {granularity}"
                yield Unit("observers", name, _weights(scaling, granularity, bits))
    for bits in options.activation_bits:
        for observer in options.activations:
            name = f"activations of {bits} bits, {observer}"
            yield Unit("observers", name, _activations(observer, bits), {"images": study.calibration.images})


def _weights(scaling: str, granularity: str, bits: int) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        observer, arguments = SCALINGS[scaling]
        scheme = Scheme(
            bits=bits, granularity=granularity, observer=observer, observer_args=tuple(arguments.items())
        )
        model, ratios = with_rounded_weights(subject.model, scheme)
        total = Sqnr(sum(r.signal for r in ratios.values()), sum(r.noise for r in ratios.values()))
        return {
            "what": "weights",
            "bits": bits,
            "observer": scaling,
            "granularity": granularity,
            "sqnr_db": total.db,
            "layers": {name: ratio.db for name, ratio in ratios.items()},
            **subject.accuracy(evaluate(model, subject.test)),
        }

    return run


def _activations(observer: str, bits: int) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        chosen = changed(find_recipe(f"w8a{bits}"), {"activations": {"observer": observer}})
        prepared, evaluation = evaluated(subject, chosen)
        outputs = layer_sqnr(prepared, subject.analysed)
        return {
            "what": "activations",
            "bits": bits,
            "observer": observer,
            "granularity": "tensor",
            "sqnr_db": outputs[-1]["output_db"],
            "layers": {entry["layer"]: entry["output_db"] for entry in outputs},
            **subject.accuracy(evaluation),
        }

    return run
