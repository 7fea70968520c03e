"""Large results lie in memory that is kept and used again: never by two tensors at a time."""

import threading

import pytest
import torch
from op_samples import scale, zero
from ptqx import ops
from torch import Tensor

LARGE = (3, 700, 1001)  # 8 MB, not a whole number of pages or vectors


def quantized(x: Tensor) -> Tensor:
    return ops.fake_quantize(x, scale(), zero(), -128, 127)


def expected(x: Tensor) -> Tensor:
    return (x / 0.05).round().clamp(-128, 127).add(0.0) * 0.05


@pytest.mark.parametrize("order", ["rows", "columns", "channels_last"])
def test_values_and_strides(order: str) -> None:
    x = torch.randn(LARGE)
    x = x.transpose(0, 2) if order == "columns" else x
    x = x[None].to(memory_format=torch.channels_last) if order == "channels_last" else x
    y = quantized(x)
    assert y.stride() == x.stride()
    assert torch.equal(y, expected(x))


def test_what_is_not_dense_becomes_dense() -> None:
    x = torch.randn(2000, 4000)[:, ::2]
    assert quantized(x).is_contiguous()
    assert torch.equal(quantized(x), expected(x))


def test_memory_is_used_again_only_when_free() -> None:
    x = torch.randn(LARGE)
    first = quantized(x)
    address = first.data_ptr()
    second = quantized(-x)
    assert second.data_ptr() != address
    part = first[0]
    del first
    third = quantized(x + 1)
    assert third.data_ptr() != address, "a view still uses it"
    assert torch.equal(part, expected(x)[0])
    del part
    assert quantized(x).data_ptr() == address
    assert torch.equal(second, expected(-x))


def test_threads_do_not_share_results() -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = torch.randn(LARGE, generator=torch.Generator().manual_seed(seed))
        truth = expected(x)
        wrong.extend(seed for _ in range(5) if not torch.equal(quantized(x), truth))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_result_can_be_resized_and_written() -> None:
    y = quantized(torch.randn(LARGE))
    y.resize_(10, 400_000).fill_(3.0)
    assert bool((y == 3.0).all())
