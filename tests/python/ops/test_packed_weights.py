"""Layers remember their packed weights: never longer than the weights stay what they are."""

import threading

import torch
from op_samples import s8, u8, zero
from ptqx import _C, ops
from torch import Tensor

X = u8(2, 8, 6, 6)


def convolved(weight: Tensor, zero_point: Tensor | None = None) -> Tensor:
    return ops.conv2d_s32(X, weight, zero(3), zero_point)


def expected(weight: Tensor, zero_point: int = 0) -> Tensor:
    return torch.conv2d(X.double() - 3, weight.double() - zero_point).int()


def assert_right(weight: Tensor) -> None:
    for _ in range(2):
        assert torch.equal(convolved(weight), expected(weight))


def test_writes_are_noticed() -> None:
    weight = s8(16, 8, 3, 3)
    assert_right(weight)
    weight.add_(1)
    assert_right(weight)
    weight[3, 2].zero_()
    assert_right(weight)
    weight.detach().neg_()
    assert_right(weight)
    weight.data = s8(16, 8, 3, 3, seed=9)
    assert_right(weight)


def test_loading_a_state_dict_is_noticed() -> None:
    module = torch.nn.Module()
    module.register_buffer("weight", s8(16, 8, 3, 3))
    assert_right(module.weight)
    module.load_state_dict({"weight": s8(16, 8, 3, 3, seed=5)})
    assert_right(module.weight)


def test_inference_tensors_count_no_writes_and_are_read_every_time() -> None:
    with torch.inference_mode():
        weight = s8(16, 8, 3, 3)
        assert_right(weight)
        weight.add_(1)
        assert_right(weight)


def test_a_normal_weight_in_inference_mode() -> None:
    weight = s8(16, 8, 3, 3)
    with torch.inference_mode():
        assert_right(weight)
    weight.add_(1)
    with torch.inference_mode():
        assert_right(weight)


def test_memory_of_a_dead_weight_may_hold_another() -> None:
    addresses = set()
    for seed in range(50):
        weight = s8(16, 8, 3, 3, seed=seed)
        addresses.add(weight.data_ptr())
        assert torch.equal(convolved(weight), expected(weight))
    assert len(addresses) < 50, "no address came twice: nothing was tested"


def test_views_of_one_memory_are_told_apart() -> None:
    storage = s8(32, 8, 3, 3)
    for weight in (storage[:16], storage[16:], storage[::2], storage.flip(0), storage[:16].transpose(2, 3)):
        assert_right(weight)
    unsigned = storage.view(torch.uint8)
    assert torch.equal(convolved(unsigned), expected(unsigned))
    assert torch.equal(convolved(storage), expected(storage))


def test_zero_points_and_geometry_are_part_of_it() -> None:
    weight = s8(16, 8, 3, 3)
    for z in (0, 5, -7, 5):
        assert torch.equal(convolved(weight, zero(z)), expected(weight, z))
    for padding, stride in ((0, 1), (1, 1), (1, 2), (0, 1)):
        got = ops.conv2d_s32(X, weight, zero(3), stride=stride, padding=padding)
        real = torch.conv2d(X.double() - 3, weight.double(), stride=stride, padding=padding)
        assert torch.equal(got, real.int())


def test_binary_weights_and_their_number_of_signs() -> None:
    x = torch.randn(2, 40, 6, 6, generator=torch.Generator().manual_seed(0))
    real = torch.randn(16, 40, 3, 3, generator=torch.Generator().manual_seed(1))
    weight = ops.pack_signs(real)

    def assert_right_signs(channels: int) -> None:
        # Signs beyond the channels are 0 bits in both, and so must be the reference's.
        signs, filters = ops.pack_signs(x[:, :channels]), ops.pack_signs(real[:, :channels])
        assert signs.shape[1] == weight.shape[1]
        weight.copy_(filters)
        truth = torch.conv2d(x[:, :channels].sign(), real[:, :channels].sign()).int()
        for _ in range(2):
            assert torch.equal(ops.binary_conv2d_s32(signs, weight, channels), truth)

    for channels in (40, 33, 40):
        assert_right_signs(channels)
    real.neg_()
    assert_right_signs(40)
    same_bytes = ops.pack_signs(real[:, :33])
    for channels in (33, 40, 33):
        signs = ops.pack_signs(x[:, :33])
        got = ops.binary_conv2d_s32(signs, same_bytes, channels)
        truth = torch.conv2d(x[:, :33].sign(), real[:, :33].sign()).int() + (channels - 33) * 9
        assert torch.equal(got, truth), "the same bytes, other signs"


def test_instruction_sets_have_their_own() -> None:
    weight = s8(16, 8, 3, 3)
    ceiling = _C.isa_ceiling()
    try:
        for isa in [*_C.isas_supported(), *reversed(_C.isas_supported())]:
            _C.set_isa_ceiling(isa)
            assert_right(weight)
    finally:
        _C.set_isa_ceiling(ceiling)


def test_threads() -> None:
    weights = [s8(16, 8, 3, 3, seed=seed) for seed in range(8)]
    truths = [expected(weight) for weight in weights]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(20):
            for i, (weight, truth) in enumerate(zip(weights, truths, strict=True)):
                if not torch.equal(convolved(weight), truth):
                    wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
