"""Models by name: ours through `@register`, any other from torchvision or timm."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from ..errors import PtqxError, unknown_name
from ..torchvision_shim import import_torchvision
from .checkpoint import load_weights

Builder = Callable[..., nn.Module]
B = TypeVar("B", bound=Builder)

_BUILDERS: dict[str, Builder] = {}
TIMM = "timm/"


def register(builder: B) -> B:
    """Decorator: make a builder available to `build` under its function name."""
    _BUILDERS[builder.__name__] = builder
    return builder


def names() -> list[str]:
    """Names of ptqx's own models."""
    return sorted(_BUILDERS)


def build(
    name: str, num_classes: int, *, weights: str | os.PathLike[str] | None = None, **arguments: Any
) -> nn.Module:
    """Build a model by name: one of `names()`, timm's after "timm/", else the torchvision model of that name.

    Args:
        num_classes: size of the last layer, at least 2.
        weights: a checkpoint file (`load_weights`), or the name of a data set for which trained weights come
            with ptqx (`trained_on`); None leaves the random initialization.
        arguments: the builder's other keyword arguments, such as `in_channels` or `shortcut`.

    Raises:
        PtqxError: an unknown name (the nearest are listed), an option the builder lacks, torchvision or timm
            missing, or a checkpoint that does not fit.

    >>> sum(p.numel() for p in build("vgg11_bn", 100).parameters())
    9802596
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise PtqxError(f"num_classes must be an int of at least 2, got {num_classes!r}")
    if name in _BUILDERS:
        return _BUILDERS[name](num_classes=num_classes, weights=weights, **_accepted(name, arguments))
    make = _of_timm if name.startswith(TIMM) else _of_torchvision
    try:
        model = make(name, num_classes, arguments)
    except TypeError as error:
        raise PtqxError(f"model {name!r} does not accept these options: {error}") from error
    return model if weights is None else load_weights(model, weights)


def _of_torchvision(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    torchvision = import_torchvision(f"model {name!r} (not one of ptqx's own: {', '.join(names())})")
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown_name("model", name, [*names(), *known])
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **arguments)
    return model


def _of_timm(name: str, num_classes: int, arguments: dict[str, Any]) -> nn.Module:
    import_torchvision(f"model {name!r}")  # in a way that timm's own import of it finds
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise PtqxError(f"model {name!r} needs timm: pip install timm ({error})") from error
    known = [TIMM + known for known in timm.list_models()]
    if name not in known:
        raise unknown_name("model", name, known)
    model: nn.Module = timm.create_model(name.removeprefix(TIMM), num_classes=num_classes, **arguments)
    return model


def options(name: str) -> set[str]:
    """Keyword arguments of one of ptqx's own builders beside `num_classes` and `weights`; none for others."""
    if name not in _BUILDERS:
        return set()
    return set(inspect.signature(_BUILDERS[name]).parameters) - {"num_classes", "weights"}


def image_options(name: str, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The options of one of ptqx's own builders that follow from images of (channels, height, width).

    >>> image_options("lenet5", (1, 8, 8)), image_options("resnet20", (3, 32, 32))
    ({'in_channels': 1, 'image_size': 8}, {'in_channels': 3})
    """
    channels, height, _ = image_shape
    known = options(name)
    return {key: value for key, value in (("in_channels", channels), ("image_size", height)) if key in known}


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as keyword arguments for `build`; what reads as a number is one.

    >>> parse_options(["shortcut=A", "dropout=0.1"])
    {'shortcut': 'A', 'dropout': 0.1}

    Raises:
        PtqxError: a pair without a name or a value.
    """
    return dict(_parsed(pair) for pair in pairs)


def _parsed(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise PtqxError(f"--model-option must be NAME=VALUE, got {pair!r}")
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def _accepted(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    known = options(name)
    for option in arguments:
        if option not in known:
            raise unknown_name(f"option of model {name}", option, known)
    return arguments
