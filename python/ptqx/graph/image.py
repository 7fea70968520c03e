"""What programs that read image files need to know of a network."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import PtqxError


@dataclass(frozen=True)
class ImageOptions:
    """How an image becomes the network's input, and what its outputs are called.

    The image is resized (bilinear, antialiased, aspect kept) until its shorter side has `resize` pixels, its
    centre is cropped to the input's height and width, and every channel becomes (pixel / 255 - mean) / std.

    Attributes:
        mean, std: one number a channel, of pixels scaled to [0, 1]; std is positive.
        resize: pixels; 0 stands for the larger of the input's sides.
        classes: names of the outputs in order; empty if there are none.

    Raises:
        PtqxError: a value outside these.

    >>> ImageOptions(mean=(0.5,), std=(0.25,), classes=("cat", "dog")).to_dict()
    {'mean': [0.5], 'std': [0.25], 'resize': 0, 'classes': ['cat', 'dog']}
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int = 0
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not _is_sequence(values) or not all(_is_finite(value) for value in values):
                raise PtqxError(f"{name}: expected finite numbers, one a channel, got {values!r}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            raise PtqxError(f"std: expected {len(self.mean)} positive numbers, got {self.std}")
        if type(self.resize) is not int or not 0 <= self.resize < 2**16:
            raise PtqxError(f"resize: expected 0 to 65535, got {self.resize!r}")
        if not _is_sequence(self.classes) or not all(isinstance(name, str) for name in self.classes):
            raise PtqxError(f"classes: expected names, got {self.classes!r}")
        object.__setattr__(self, "classes", tuple(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; `image_options_from_dict` gives them back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def image_options_from_dict(values: Any) -> ImageOptions:
    """The options of `to_dict`."""
    if not isinstance(values, dict) or set(values) != {"mean", "std", "resize", "classes"}:
        raise PtqxError("image: expected an object of mean, std, resize and classes")
    return ImageOptions(**values)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
