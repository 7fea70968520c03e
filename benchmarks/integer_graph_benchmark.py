"""The integer graph called layer by layer, eager and through torch.compile, beside the engine.

    python benchmarks/integer_graph_benchmark.py --threads 1 2 --batch 64

Random weights; interleaved rounds, medians, milliseconds a batch and the ratio to the engine.
"""

from __future__ import annotations

import argparse
from functools import partial

import ptqx
import torch
from ptqx.study.timing import interleaved

MODELS = {"vgg11_bn": ptqx.models.vgg11_bn, "resnet20": ptqx.models.resnet20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[64])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    parser.add_argument("--eager", action="store_true", help="leave out torch.compile")
    arguments = parser.parse_args()
    for name, make in MODELS.items():
        torch.manual_seed(0)
        images = torch.randn(max(arguments.batch), 3, 32, 32)
        qmodel = ptqx.quantize(make(num_classes=100).eval(), [images[:8]], "int8")
        engine = ptqx.compile(qmodel, images[:1])
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            for batch in arguments.batch:
                x = images[:batch]
                calls = {"engine": partial(engine, x), "eager": partial(qmodel, x)}
                if not arguments.eager:
                    calls["compiled"] = partial(torch.compile(qmodel, fullgraph=True), x)
                with torch.inference_mode():
                    times = interleaved(calls, seconds=arguments.seconds)
                base = times["engine"].median_ms
                columns = [
                    f"{way} {t.median_ms:.2f} ms ({t.median_ms / base:.2f})" for way, t in times.items()
                ]
                print(f"{name}, batch {batch}, {threads} thread(s): {', '.join(columns)}", flush=True)


if __name__ == "__main__":
    main()
