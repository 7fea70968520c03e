"""Operators inside torch.compile and torch.export: one graph, dynamic batch, the same bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from op_samples import bias_for, engine_program, reals, s8, scale, scales, u8, zero
from ptqx import ops
from torch import Tensor, nn

CLIP = ("clip", [0.0, float("inf")])


class IntegerNetwork(nn.Module):
    """quantize, convolution with a residual, pool, scale by channel, lookup, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        buffers = {
            "scale": scale(0.04),
            "zero_point": zero(120),
            "weight": s8(8, 8, 3, 3),
            "weight_scale": scales(8),
            "bias": bias_for(8),
            "table": u8(256),
            "packed": ops.pack_int4(s8(10, 8, low=-8, high=8)),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        q = (self.scale, self.zero_point)
        codes = ops.quantize(x, *q, 0, 255)
        y = ops.conv2d(codes, *q, self.weight, self.weight_scale, None, self.bias, *q, 0, 255, padding=1,
                       activation=CLIP[0], activation_args=CLIP[1], residual=codes, residual_scale=q[0],
                       residual_zero_point=q[1])  # fmt: skip
        y = ops.cat([ops.max_pool2d(y, 2), ops.avg_pool2d(y, *q, *q, 0, 255, 2)])[:, :8]
        y = ops.mul(y, *q, ops.adaptive_avg_pool2d(y, *q, *q, 0, 255, 1), *q, *q, 0, 255)
        y = ops.lookup(ops.add(y, *q, y, *q, *q, 0, 255), self.table)
        weight = ops.unpack_int4(self.packed, [10, 8])
        return ops.linear_f32(y.amax((2, 3)), *q, weight, self.scale, None, None)


class Training(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 6, 3)
        self.scale = nn.Parameter(scale(0.1))
        self.zero_point = nn.Parameter(torch.tensor([3.0]))
        self.weight_scale = nn.Parameter(scales(6))
        self.register_buffer("weight_zero_point", torch.zeros(6, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        x = ops.fake_quantize(x, self.scale, self.zero_point, 0, 15)
        weight = ops.lsq(self.conv.weight, self.weight_scale, self.weight_zero_point, -7, 7)
        return nn.functional.conv2d(x, weight, self.conv.bias)


class EngineNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("program", engine_program())

    def forward(self, x: Tensor) -> Tensor:
        return ops.engine_run(x, self.program, [4])


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    """The compiler's caches know nothing of operators that were rebuilt."""
    torch._dynamo.reset()
    with torch.compiler.config.patch(force_disable_caches=True):
        yield


@pytest.fixture(params=["contiguous", "channels-last"])
def images(request: pytest.FixtureRequest) -> Tensor:
    x = reals(4, 8, 6, 6)
    return x.contiguous(memory_format=torch.channels_last) if request.param == "channels-last" else x


# The default compiler writes C++ and runs a C++ compiler; aot_eager runs all of the tracing.
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_network_gives_same_bits_for_every_batch_size(backend: str, images: Tensor) -> None:
    network = IntegerNetwork()
    compiled = torch.compile(network, backend=backend, fullgraph=True, dynamic=True)
    for batch in (4, 2, 3):
        assert torch.equal(compiled(images[:batch]), network(images[:batch]))


def test_compiled_training_gives_same_gradients(images: Tensor) -> None:
    network = Training()
    twin = copy.deepcopy(network)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (4, 3):
        network(images[:batch]).square().sum().backward()
        compiled(images[:batch]).square().sum().backward()
    for (name, a), b in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-5 * a.grad.abs().max().item(), msg=name)


@pytest.mark.parametrize("network", [IntegerNetwork(), EngineNetwork()], ids=["operators", "engine"])
def test_exported_network_gives_same_bits_for_every_batch_size(network: nn.Module) -> None:
    shape = (8, 6, 6) if isinstance(network, IntegerNetwork) else (12,)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(network, (reals(4, *shape),), dynamic_shapes=({0: batch},))
    for size in (1, 4, 9):
        x = reals(size, *shape)
        assert torch.equal(exported.module()(x), network(x))


def test_engine_network_compiles_copies_and_loads() -> None:
    network = EngineNetwork()
    x = reals(5, 12)
    expected = network(x)
    assert torch.equal(torch.compile(network, backend="aot_eager", fullgraph=True)(x), expected)
    assert torch.equal(copy.deepcopy(network)(x), expected)
    other = EngineNetwork()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), expected)


def test_autocast_leaves_fake_quantize_in_the_type_of_its_input() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = Training()(reals(2, 8, 6, 6))
    assert y.dtype == torch.bfloat16
    x = reals(2, 8).bfloat16()
    assert ops.fake_quantize(x, scale(), zero(), 0, 15).dtype == torch.bfloat16
