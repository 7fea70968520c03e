"""Every layer alone at b bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...sensitivity import sensitivity
from ..config import Study
from ..part import Unit, Values, part
from ..subject import Subject


@dataclass(frozen=True)
class SensitivityOptions:
    """bits: widths of weights and activations, one table each. images: test images; None is all."""

    bits: tuple[int, ...] = (4,)
    images: int | None = None


@part("sensitivity", SensitivityOptions)
def layer_sensitivity(study: Study, options: SensitivityOptions) -> Iterator[Unit]:
    for bits in options.bits:
        depends = {"bits": bits, "images": options.images, "calibration": study.calibration.images}
        yield Unit("sensitivity", f"{bits} bits", _run(bits, options.images), depends)


def _run(bits: int, images: int | None) -> Callable[[Subject], Values]:
    def run(subject: Subject) -> Values:
        test = subject.test.subset(slice(0, images))
        result = sensitivity(
            subject.model,
            subject.train,
            test,
            bits=bits,
            images=subject.study.calibration.images,
            seed=subject.study.seed,
        )
        contrast = result.contrast("conv2d", "linear", subject.study.seed)
        return {
            "bits": bits,
            "images": len(test),
            "layers": result.to_dicts(),
            "convolution_minus_linear": contrast,
        }

    return run
