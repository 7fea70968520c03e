"""Two processes: calibration merges what every rank saw, DistributedDataParallel trains the simulated
model."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parents[1]))  # the spawned processes know nothing of pytest
import networks
from ptqx.graph import calibrate, convert, prepare

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 5


def simulated(qat: bool):
    torch.manual_seed(0)
    return prepare(networks.with_statistics(networks.Residual()), "int8", X, qat)


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    share = slice(4 * rank, 4 * rank + 4)
    prep = calibrate(simulated(qat=True), [X[share]])
    torch.save(prep.state_dict(), f"{folder}/calibrated{rank}.pt")
    parallel = torch.nn.parallel.DistributedDataParallel(prep.train())
    optimizer = torch.optim.SGD(parallel.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(parallel(X[share]), LABELS[share]).backward()
        optimizer.step()
    torch.save(dict(prep.named_parameters()), f"{folder}/trained{rank}.pt")
    model = convert(prep)
    assert torch.equal(model(X), prep.eval()(X))
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo")
def test_two_processes_calibrate_as_one_and_train_together(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(work, (port, str(tmp_path)), nprocs=2, start_method="spawn")
    alone = calibrate(simulated(qat=True), [X]).state_dict()
    for rank in (0, 1):
        together = torch.load(tmp_path / f"calibrated{rank}.pt", weights_only=True)
        assert all(torch.equal(together[key], alone[key]) for key in alone)
    first, second = (torch.load(tmp_path / f"trained{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], alone["conv1.weight"])
