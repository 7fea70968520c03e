"""Every operator against its twin in op_oracle.py, on every sample, thread count and instruction set."""

from __future__ import annotations

import time
from collections.abc import Iterator

import op_samples
import pytest
import torch
from op_samples import ALL, Sample, sample_id
from ptqx import _C, ops

# Sums of floats are taken in another order: relative error by place of the output.
INEXACT = {
    "moments": {0: 1e-12, 1: 1e-12},
    "fake_quantize_backward": {1: 1e-5, 2: 1e-5},
    "lsq_backward": {1: 1e-5, 2: 1e-5},
    "sign_codes_backward": {1: 1e-5, 2: 1e-5},
}


def as_tuple(result: object) -> tuple[torch.Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def isa_ceiling() -> Iterator[None]:
    before = _C.isa_ceiling()
    yield
    _C.set_isa_ceiling(before)


@pytest.mark.parametrize("sample", ALL, ids=sample_id)
def test_result_equals_oracle(sample: Sample) -> None:
    results, expected = as_tuple(sample.run()), as_tuple(sample.expected())
    assert len(results) == len(expected)
    for place, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        assert result.dtype == wanted.dtype
        tolerance = INEXACT.get(sample.operator, {}).get(place, 0.0)
        largest = wanted.abs().max().item() if tolerance else 0.0  # sums cancel: relative to the largest
        torch.testing.assert_close(result, wanted, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


# Their strides follow the input's, or the last dimension holds the features.
NOT_SPATIAL = ("fake_quantize", "lsq", "sign_codes", "linear", "pack", "unpack", "engine_run")
SPATIAL = [sample for sample in ALL if not sample.operator.startswith(NOT_SPATIAL)]


@pytest.mark.parametrize("sample", SPATIAL, ids=sample_id)
def test_spatial_output_is_channels_last(sample: Sample) -> None:
    for result in as_tuple(sample.run()):
        if result.dim() == 4:
            _, c, h, w = result.shape
            assert result.stride() == (h * w * c, 1, w * c, c)


@pytest.mark.parametrize("sample", ALL, ids=sample_id)
def test_threads_give_same_bits(sample: Sample, threads: None) -> None:
    torch.set_num_threads(1)
    alone = as_tuple(sample.run())
    torch.set_num_threads(2)
    for a, b in zip(alone, as_tuple(sample.run()), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("isa", [isa for isa in _C.isas_known() if isa != "scalar"])
@pytest.mark.parametrize("operator", op_samples.SAMPLES)
def test_instruction_sets_give_same_bits(operator: str, isa: str, isa_ceiling: None) -> None:
    if isa not in _C.isas_supported():
        pytest.skip(f"this CPU lacks {isa}")
    for sample in op_samples.SAMPLES[operator]:
        _C.set_isa_ceiling("scalar")
        scalar = as_tuple(sample.run())
        _C.set_isa_ceiling(isa)
        for a, b in zip(scalar, as_tuple(sample.run()), strict=True):
            torch.testing.assert_close(
                a, b, rtol=0, atol=0, equal_nan=True, msg=lambda m, s=sample: f"{s.id}: {m}"
            )


def test_every_operator_has_samples() -> None:
    registered = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("ptqx::")
    }
    assert registered == set(op_samples.SAMPLES)


def test_every_operator_has_a_function() -> None:
    assert set(op_samples.SAMPLES) <= set(ops.__all__)
    for name in ops.__all__:
        assert getattr(ops, name).__doc__


@pytest.mark.parametrize("sample", ALL, ids=sample_id)
def test_function_passes_arguments_through(sample: Sample) -> None:
    results = as_tuple(getattr(ops, sample.operator)(*sample.args, **sample.kwargs))
    for a, b in zip(results, as_tuple(sample.run()), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_two_threads_share_the_work(threads: None) -> None:
    """at::parallel_for is silently serial when it is compiled without OpenMP."""
    torch.set_num_threads(2)
    x = torch.rand(16, 64, 56, 56)
    args = (x, torch.tensor([0.01]), torch.tensor([0], dtype=torch.int32), 0, 255)
    ops.quantize(*args)
    everywhere, here = time.process_time(), time.thread_time()
    for _ in range(20):
        ops.quantize(*args)
    everywhere, here = time.process_time() - everywhere, time.thread_time() - here
    assert everywhere - here > 0.25 * here, f"{here:.3f} s here, {everywhere - here:.3f} s on other threads"
