"""Fake quantization beside torch's own: milliseconds, ratio, share of the bandwidth.

    python benchmarks/fake_quantize_benchmark.py --threads 1 2

Tensors are larger than the caches. Every row is timed in interleaved rounds; medians. "of copy" is the
share of the bandwidth of copying a tensor of the same size into memory that is already there, "of clone" into
new memory, as most operators write; a forward pass moves 8 bytes an element, a backward pass 12.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from ptqx import ops
from ptqx.study.timing import interleaved
from torch import Tensor

QMIN, QMAX = 0, 255
Forward = Callable[[Tensor], Tensor]


def per_tensor() -> dict[str, tuple[Forward, Forward, list[Tensor]]]:
    """Name to ptqx's function, torch's, and what both learn."""
    scale, zero_point = torch.tensor([0.05]), torch.tensor([117], dtype=torch.int32)
    learned = scale.clone().requires_grad_()
    return {
        "straight-through": (
            lambda x: ops.fake_quantize(x, scale, zero_point, QMIN, QMAX),
            lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 117, QMIN, QMAX),
            [],
        ),
        "learned step": (
            lambda x: ops.lsq(x, learned, zero_point, QMIN, QMAX),
            lambda x: torch._fake_quantize_learnable_per_tensor_affine(
                x, learned, zero_point.float(), QMIN, QMAX, 1.0
            ),
            [learned],
        ),
    }


def per_channel(channels: int, axis: int) -> dict[str, tuple[Forward, Forward, list[Tensor]]]:
    scale = torch.linspace(0.04, 0.06, channels)
    zero_point = torch.full((channels,), 117, dtype=torch.int32)
    learned = scale.clone().requires_grad_()
    return {
        "straight-through": (
            lambda x: ops.fake_quantize(x, scale, zero_point, QMIN, QMAX, axis),
            lambda x: torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, QMIN, QMAX),
            [],
        ),
        "learned step": (
            lambda x: ops.lsq(x, learned, zero_point, QMIN, QMAX, axis=axis),
            lambda x: torch._fake_quantize_learnable_per_channel_affine(
                x, learned, zero_point.float(), axis, QMIN, QMAX, 1.0
            ),
            [learned],
        ),
    }


CASES = {
    "activations, per tensor": ((128, 64, 64, 64), per_tensor()),
    "activations, per channel (axis 1)": ((128, 64, 64, 64), per_channel(64, 1)),
    "weights, per channel (axis 0)": ((4096, 4096), per_channel(4096, 0)),
}


def measure(
    title: str,
    shape: tuple[int, ...],
    pairs: dict[str, tuple[Forward, Forward, list[Tensor]]],
    seconds: float,
) -> None:
    x = torch.randn(shape).mul_(3.0).requires_grad_()
    grad, into = (
        torch.randn(shape),
        ops.fake_quantize(x.detach(), torch.ones(1), torch.zeros(1).int(), 0, 255),
    )
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: into.copy_(x.detach()),
        "clone": lambda: x.detach().clone(),
    }
    for name, (ours, torchs, learned) in pairs.items():
        for who, forward in (("ptqx", ours), ("torch", torchs)):
            calls[f"{name} forward {who}"] = partial(forward, x)
            calls[f"{name} backward {who}"] = partial(
                torch.autograd.grad, forward(x), [x, *learned], grad, retain_graph=True
            )
    times = {name: latency.median_ms for name, latency in interleaved(calls, seconds=seconds).items()}

    bytes_of_copy = 8 * x.numel()
    peak = bytes_of_copy / times["copy"] / 1e6  # GB/s
    print(f"\n{title} {list(shape)}, {torch.get_num_threads()} thread(s): copy {peak:.1f} GB/s, ", end="")
    print(f"into new memory {bytes_of_copy / times['clone'] / 1e6:.1f} GB/s")
    print(f"{'':28} {'ptqx ms':>8} {'torch ms':>9} {'ratio':>6} {'of copy':>8} {'of clone':>9}")
    for name in pairs:
        for direction, bytes_per_copied in (("forward", 1.0), ("backward", 1.5)):
            ours, torchs = times[f"{name} {direction} ptqx"], times[f"{name} {direction} torch"]
            shares = [bytes_per_copied * times[copy] / ours for copy in ("copy", "clone")]
            print(
                f"{name + ' ' + direction:28} {ours:8.2f} {torchs:9.2f} {torchs / ours:6.1f}"
                f" {shares[0]:8.0%} {shares[1]:9.0%}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    arguments = parser.parse_args()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for title, (shape, pairs) in CASES.items():
            measure(title, shape, pairs, arguments.seconds)


if __name__ == "__main__":
    main()
