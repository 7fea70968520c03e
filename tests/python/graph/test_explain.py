from __future__ import annotations

import json

import networks
import pytest
import torch
from ptqx import _C
from ptqx.errors import PtqxError
from ptqx.graph import compile, coverage, explain, quantize
from torch import nn

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def ceiling():
    before = _C.isa_ceiling()
    yield _C.set_isa_ceiling
    _C.set_isa_ceiling(before)


def test_every_layer_has_a_row_with_its_kernel_and_multiplications() -> None:
    model = quantize(networks.with_statistics(networks.Residual()), [X])
    rows = {row.name: row for row in explain(model).rows}
    covered = coverage(model).rows
    kernels = {name for _, name, _, _ in _C.kernels()}
    assert {row.name for row in covered} <= set(rows)
    for row in covered:
        assert (rows[row.name].macs, rows[row.name].bits) == (row.macs, row.bits)
        assert rows[row.name].reason
        assert not row.macs or rows[row.name].kernel in kernels
    assert explain(compile(model, X)).rows == explain(model).rows
    assert len(json.loads(json.dumps(explain(model).to_dicts()))) == len(rows)


def test_kernels_follow_the_instruction_set(ceiling) -> None:
    model = quantize(nn.Sequential(nn.Conv2d(3, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 10)), [X])
    ceiling(_C.isas_supported()[-1])
    first = next(row for row in explain(model).rows if row.name == "0")
    assert first.reason == "the best kernel for this CPU" or "few pixels" in first.reason
    ceiling("avx2")
    first = next(row for row in explain(model).rows if row.name == "0")
    assert first.kernel.endswith("_avx2") and first.tile and "avx2" in first.reason
    ceiling("scalar")
    assert next(row for row in explain(model).rows if row.name == "0").kernel.endswith("_scalar")
    assert next(row for row in explain(model).rows if row.name == "1").runs == "view"


def test_float_layers_have_their_reason() -> None:
    model = quantize(networks.PartlyUntraceable(), [X])
    (row,) = (row for row in explain(model).rows if row.runs == "float")
    assert "control flow" in row.reason
    assert "control flow" in str(explain(model))


def test_other_modules_are_refused() -> None:
    with pytest.raises(PtqxError, match="expected an integer model or an engine"):
        explain(nn.Conv2d(1, 1, 1))
