"""Accuracy and loss from 8 bits to 2, after training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ....errors import PtqxError, unknown_name
from ....quant import recipe
from ..config import Study
from ..part import Unit, Values, part
from ..rows import evaluated
from ..subject import Subject

FAMILIES = {"weights": "int{}-weight-only", "weights, 8-bit activations": "w{}a8", "both": "w{0}a{0}"}


@dataclass(frozen=True)
class BitWidthOptions:
    """bits: widths. families: what has them: "weights" alone, "weights, 8-bit activations", or "both".
    edge_bits: of the first and last layer at least; null makes no exception for them."""

    bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2)
    families: tuple[str, ...] = ("weights", "both")
    edge_bits: int | None = 8

    def __post_init__(self) -> None:
        for family in self.families:
            if family not in FAMILIES:
                raise unknown_name("family in config.parts.bit_widths", family, FAMILIES)
        for width in self.bits:
            if width not in range(2, 9):
                raise PtqxError(f"config.parts.bit_widths.bits: expected 2 to 8, got {width}")


@part("bit_widths", BitWidthOptions)
def bit_widths(study: Study, options: BitWidthOptions) -> Iterator[Unit]:
    for family in options.families:
        for width in options.bits:
            name = FAMILIES[family].format(width)
            depends = {"edge_bits": options.edge_bits, "images": study.calibration.images}
            run = _run(family, width, name, options.edge_bits)
            yield Unit("bit_widths", f"{family}: {name}", run, depends)


def _run(family: str, width: int, name: str, edge_bits: int | None) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        _, evaluation = evaluated(subject, recipe(name, edge_bits=edge_bits))
        return {"family": family, "bits": width, "format": name, **subject.accuracy(evaluation)}

    return run
