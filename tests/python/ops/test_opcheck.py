"""torch.library.opcheck on every sample: schema, autograd, fake tensors, AOT with dynamic shapes."""

from __future__ import annotations

import pytest
import torch
from op_samples import ALL, SAMPLES, Sample, reals, sample_id, scale, scales
from torch import Tensor

# opcheck runs eager and traced code side by side and compares exactly; big inputs add nothing to that.
CHECKED = [sample for sample in ALL if sample.id not in ("many", "special-values")]


@pytest.mark.parametrize("sample", CHECKED, ids=sample_id)
def test_opcheck(sample: Sample) -> None:
    torch.library.opcheck(getattr(torch.ops.ptqx, sample.operator).default, sample.args, sample.kwargs)


@pytest.mark.parametrize("operator", ["fake_quantize", "lsq"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("zero_point", [0, 0.0], ids=["int-zero-point", "float-zero-point"])
def test_opcheck_with_gradients(operator: str, memory_format: torch.memory_format, zero_point: float) -> None:
    x = reals(2, 4, 5, 3).contiguous(memory_format=memory_format).requires_grad_()
    points = torch.full(
        (4,), zero_point, dtype=torch.float32 if isinstance(zero_point, float) else torch.int32
    )
    points.requires_grad_(points.is_floating_point())
    op = getattr(torch.ops.ptqx, operator).default
    torch.library.opcheck(op, (x, scales(4).requires_grad_(), points, -8, 7), {"axis": 1})


@pytest.mark.parametrize("operator", SAMPLES)
def test_meta_has_shape_strides_and_type_of_result(operator: str) -> None:
    for sample in SAMPLES[operator]:
        args = torch.utils._pytree.tree_map_only(Tensor, lambda t: t.to("meta"), (sample.args, sample.kwargs))
        metas = getattr(torch.ops.ptqx, operator)(*args[0], **args[1])
        results = sample.run()
        pairs = zip(metas, results, strict=True) if isinstance(results, tuple | list) else [(metas, results)]
        for meta, result in pairs:
            assert meta.is_meta and meta.dtype == result.dtype, sample.id
            assert meta.shape == result.shape and meta.stride() == result.stride(), sample.id


def test_one_scale_serves_every_batch_size_in_one_graph() -> None:
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    zero_point = torch.zeros(1, dtype=torch.int32)
    function = torch.compile(
        lambda x: torch.ops.ptqx.quantize(x, scale(), zero_point, 0, 255),
        backend=count,
        dynamic=True,
        fullgraph=True,
    )
    for batch in (2, 3, 7):
        function(reals(batch, 3, 4, 4))
    assert graphs == 1
