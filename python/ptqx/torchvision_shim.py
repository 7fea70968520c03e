"""Import torchvision lazily, also where its compiled operators don't match the installed torch.

On import, torchvision registers shape rules for `nms` and `qnms`, and fails if its binary did not load.
Defining the two schemas is enough for the models and data sets; the operators themselves stay unavailable.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from .errors import PtqxError

_NMS_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # its definitions live as long as this object


def import_torchvision(needed_by: str) -> ModuleType:
    """Return the torchvision module, with `models` and `datasets`.

    Args:
        needed_by: what needs it, for the message.

    Raises:
        PtqxError: it is not installed, or does not import.
    """
    global _library
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        raise PtqxError(f"{needed_by} needs torchvision: pip install 'ptqx[study]'") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    if _library is None:
        _library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            _library.define(operator + _NMS_ARGUMENTS)
    return importlib.import_module("torchvision")
