"""A training step of vgg11_bn (CIFAR, batch 128): quantization-aware beside float, eager and compiled.

    python benchmarks/qat_step_benchmark.py --threads 2 --dtypes fp32 bf16 [--profile]

The quantized step has learned steps (LSQ) for weights and activations, and batch norms that learn. Steps are
interleaved; medians. The ratio is to the faster float step. A step is forward, loss, backward and SGD.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import ptqx
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

BATCH = 128


def step_of(model: nn.Module, forward: Callable[[Tensor], Tensor], bf16: bool) -> Callable[[], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 100, (BATCH,), generator=generator)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(forward(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def steps_of(bf16: bool, compiled: bool) -> dict[str, Callable[[], None]]:
    steps = {}
    for name, quantized, compile_it in (
        ("float", False, False),
        ("float compiled", False, True),
        ("qat", True, False),
        ("qat compiled", True, True),
    ):
        if compile_it and not compiled:
            continue
        torch.manual_seed(0)
        model: nn.Module = ptqx.models.vgg11_bn(num_classes=100)
        if quantized:
            batch = torch.randn(BATCH, 3, 32, 32)
            model = ptqx.prepare(model, "int8", batch[:1], qat=True)
            ptqx.calibrate(model, [batch])
        model.train()
        steps[name] = step_of(model, torch.compile(model) if compile_it else model, bf16)
    return steps


def measure(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median milliseconds; the first two steps of each are not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(samples) for name, samples in times.items()}


def show_profile(step: Callable[[], None]) -> None:
    step()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(2):
            step()
    print(
        recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--dtypes", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager", action="store_true", help="leave out the compiled steps")
    parser.add_argument("--profile", action="store_true", help="what the eager steps spend their time on")
    arguments = parser.parse_args()
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for dtype in arguments.dtypes:
            steps = steps_of(dtype == "bf16", compiled=not (arguments.eager or arguments.profile))
            if arguments.profile:
                for name, step in steps.items():
                    print(f"{name}, {dtype}")
                    show_profile(step)
                continue
            times = measure(steps, arguments.rounds)
            best = min(times[name] for name in times if name.startswith("float"))
            print(f"{dtype}, {threads} thread(s): ", end="")
            print(
                ", ".join(f"{name} {ms:.0f} ms ({ms / best:.2f})" for name, ms in times.items()), flush=True
            )


if __name__ == "__main__":
    main()
