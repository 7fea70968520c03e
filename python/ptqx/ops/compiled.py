"""The compiled library of operators, of the torch that runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

try:
    from .. import _C  # registers torch.ops.ptqx
except ImportError as error:
    raise ImportError(
        f"ptqx's compiled part cannot be loaded by torch {torch.__version__} ({error}); "
        "rebuild it with `pip install --no-build-isolation .`"
    ) from None

_built_for = _C.build_info()["torch_version"]
if _built_for != torch.__version__:
    raise ImportError(
        f"ptqx was compiled for torch {_built_for}, this is torch {torch.__version__}; "
        "rebuild it with `pip install --no-build-isolation .`"
    )

operators = torch.ops.ptqx
Ints = int | Sequence[int]  # one, or one for each axis
