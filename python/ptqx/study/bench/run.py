"""Models x batch sizes x threads x engines, timed in one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ... import _C
from ...errors import PtqxError
from .. import machine
from ..statistics import sqnr_db
from ..timing import Latency, interleaved, thread_count
from .networks import load_network
from .registry import ENGINES, Engine, Load, Network, Session, Unavailable, engine, engine_names
from .report import BenchReport, Row
from .steps import step_rates

SAMPLE_SECONDS, SETTLE_SECONDS = 0.1, 0.05
CEILING_SECONDS = 0.25
REASON_LENGTH = 160


def bench(
    models: Sequence[str] = ("vgg11_bn", "resnet20"),
    batch_sizes: Sequence[int] = (1, 64),
    threads: Sequence[int] | None = None,
    engines: Sequence[str] | None = None,
    *,
    rounds: int = 7,
    layers: bool = False,
    progress: bool = True,
) -> BenchReport:
    """Time networks in every engine on the same images: float32 NCHW in, logits out, the same threads.

    First the machine's own limits are measured. Then, for each model, batch size and number of threads, all
    engines take turns in `rounds` rounds of 0.1 s each, after 0.05 s to settle, and medians and quartiles of
    the time of one batch are kept. Engines that are not installed or that fail are listed with the reason.

    Args:
        models: names that `ptqx.models.build` knows, and torchvision's segmentation networks, with random
            weights.
        batch_sizes: images given at a time.
        threads: numbers of threads; by default one, and as many as torch uses.
        engines: of `engine_names`; all by default.
        layers: also time each step of the engine, on one thread.

    Raises:
        PtqxError: an unknown model or engine, or a number below 1.
    """
    chosen = [engine(name) for name in dict.fromkeys(engines or engine_names())]
    threads = threads or sorted({1, torch.get_num_threads()})
    for name, values in (("models", models), ("batch_sizes", batch_sizes), ("threads", threads)):
        if not values:
            raise PtqxError(f"{name} must not be empty")
    for name, values in (("batch_sizes", batch_sizes), ("threads", threads)):
        if min(values) < 1:
            raise PtqxError(f"{name} must be at least 1, got {min(values)}")
    if rounds < 2:
        raise PtqxError(f"rounds must be at least 2, got {rounds}")
    networks = {name: load_network(name) for name in dict.fromkeys(models)}
    report = BenchReport(
        info={
            "rounds": rounds,
            "sample_seconds": SAMPLE_SECONDS,
            "settle_seconds": SETTLE_SECONDS,
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        },
        machine=machine.describe(),
        ceilings=[
            {"threads": count} | _C.measure_machine(count, CEILING_SECONDS) for count in sorted({1, *threads})
        ],
    )
    combinations = [(batch, count) for count in threads for batch in batch_sizes]
    steps = len(networks) * len(chosen) * (1 + len(combinations)) + len(networks) * len(combinations)
    with tqdm(total=steps, disable=not progress) as bar, torch.no_grad():
        for network in networks.values():
            prepared = _prepared(network, chosen, report, bar)
            for batch_size, count in combinations:
                _measure(network, prepared, batch_size, count, rounds, report, bar)
            if layers:
                for batch_size in batch_sizes:
                    report.steps.extend(step_rates(network, batch_size, report.ceilings[0]["u8s8_macs"]))
    return report


def _prepared(
    network: Network, engines: Sequence[Engine], report: BenchReport, bar: tqdm[Any]
) -> dict[str, Load]:
    prepared = {}
    for one in engines:
        bar.set_description(f"{network.name}: prepare {one.name}")
        with _skipping(one, report, {"model": network.name, "batch": None, "threads": None}):
            one.check_available()
            prepared[one.name] = one.prepare(network)
        bar.update()
    return prepared


def _measure(
    network: Network,
    prepared: dict[str, Load],
    batch_size: int,
    threads: int,
    rounds: int,
    report: BenchReport,
    bar: tqdm[Any],
) -> None:
    """One model, batch size and number of threads in all engines."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch_size, *network.image_shape, generator=generator)
    where = {"model": network.name, "batch": batch_size, "threads": threads}
    label = f"{network.name}, batch {batch_size}, {threads} threads"
    torch.compiler.reset()  # torch.compile keeps a limited number of variants of one function
    with thread_count(threads):
        expected = network.model(images)
        sessions: dict[str, Session] = {}
        sqnr: dict[str, float] = {}
        for name, load in prepared.items():
            bar.set_description(f"{label}: load {name}")
            with _skipping(engine(name), report, where):
                session = load(images, threads)
                sqnr[name] = sqnr_db(expected, _logits(session, expected))
                sessions[name] = session
            bar.update()
        bar.set_description(f"{label}: time")
        times = interleaved(
            {name: session.run for name, session in sessions.items()},
            rounds=rounds,
            sample_seconds=SAMPLE_SECONDS,
            settle_seconds=SETTLE_SECONDS,
        )
        for name, session in sessions.items():
            if session.memory is not None:
                used = session.memory()
                report.memory.append({**where, "engine": name, **asdict(used), "total": used.total})
        bar.update()
    report.rows.extend(_rows(where, sessions, times, sqnr))


def _logits(session: Session, expected: Tensor) -> Tensor:
    logits = torch.as_tensor(session.run()).float()
    if logits.shape != expected.shape:
        raise RuntimeError(f"gives {list(logits.shape)} for logits of {list(expected.shape)}")
    return logits


def _rows(
    where: dict[str, Any], sessions: dict[str, Session], times: dict[str, Latency], sqnr: dict[str, float]
) -> list[Row]:
    peers = [times[name].median_ms for name in sessions if ENGINES[name].peer]
    fp32 = times.get("torch-fp32")
    return [
        Row(
            model=where["model"],
            batch=where["batch"],
            threads=where["threads"],
            engine=name,
            arithmetic=ENGINES[name].arithmetic,
            images_per_second=1e3 * where["batch"] / latency.median_ms,
            median_ms=latency.median_ms,
            lower_quartile_ms=latency.lower_quartile_ms,
            upper_quartile_ms=latency.upper_quartile_ms,
            rounds=latency.rounds,
            ratio_to_best_peer=min(peers) / latency.median_ms if peers else None,
            ratio_to_torch_fp32=fp32.median_ms / latency.median_ms if fp32 else None,
            sqnr_db=sqnr[name],
            detail=sessions[name].detail,
        )
        for name, latency in times.items()
    ]


@contextmanager
def _skipping(one: Engine, report: BenchReport, where: dict[str, Any]) -> Iterator[None]:
    """What keeps an engine from running is noted; a defect of ptqx is not."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except Exception as error:  # other engines' errors have no common type
        if one.ours and not isinstance(error, (PtqxError, Unavailable)):
            raise
        text = " ".join(str(error).split())
        reason = text if isinstance(error, Unavailable) else f"fails: {type(error).__name__}: {text}"
        report.skipped.append({**where, "engine": one.name, "reason": reason[:REASON_LENGTH]})
