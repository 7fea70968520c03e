"""The worked example of CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

import ptqx
import pytest
import torch
from ptqx.errors import PtqxError
from ptqx.graph import quantize
from ptqx.models import cnn
from ptqx.quant import METHODS

PAGE = Path(__file__).parents[3] / "CONTRIBUTING.md"


@pytest.fixture
def clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "clipping" not in METHODS
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(source, str(PAGE), "exec"), {"__name__": "clipping"})


def test_one_file_makes_a_method(clipping: None) -> None:
    model, x = cnn(width=4).eval(), torch.randn(8, 1, 8, 8)
    scales = [
        next(t for name, t in quantize(model, [x], recipe).state_dict().items() if "weight_scale" in name)
        for recipe in ("int4", "int4+clipping:sigmas=1")
    ]
    assert bool((scales[1] < scales[0]).all())
    assert ptqx.recipe("w4a4+clipping+gptq").methods == ("clipping", "gptq")
    with pytest.raises(PtqxError, match="sigma"):
        quantize(model, [x], "int4+clipping:sigma=1")
