"""The engine where programs put it: worker processes, several threads, changing thread counts."""

import copy
import ctypes
import gc
import pickle
import subprocess
import tempfile
import threading
from pathlib import Path

import ptqx
import pytest
import torch
from ptqx import _C
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


@pytest.fixture(scope="module")
def engine() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 70, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(70, 10),
    ).eval()
    x = torch.randn(8, 3, 16, 16)
    return ptqx.compile(ptqx.quantize(model, [x], "int8"), x)


class _Logits(Dataset[Tensor]):
    """Runs the engine in whatever process the loader calls it."""

    def __init__(self, engine: nn.Module, images: Tensor) -> None:
        self.engine, self.images = engine, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.engine(self.images[index : index + 1])[0]


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 17])
def test_thread_count_may_change_between_runs(engine: nn.Module, batch: int) -> None:
    x = torch.randn(batch, 3, 16, 16)
    expected = engine(x)
    for threads in (2, 1, 4, 3, 1, 2):
        torch.set_num_threads(threads)
        assert torch.equal(engine(x), expected), threads


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_runs_in_loader_workers(engine: nn.Module, method: str) -> None:
    images = torch.randn(6, 3, 16, 16)
    torch.set_num_threads(2)
    expected = engine(images)  # the parent's threads exist before the fork
    loader = DataLoader(_Logits(engine, images), batch_size=3, num_workers=2, multiprocessing_context=method)
    assert torch.equal(torch.cat(list(loader)), expected)


def test_eight_callers_at_a_time(engine: nn.Module) -> None:
    torch.set_num_threads(2)
    inputs = [torch.randn(1 + i % 3, 3, 16, 16) for i in range(8)]
    expected = [engine(x) for x in inputs]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(25):
            if not torch.equal(engine(inputs[index]), expected[index]):
                wrong.append(index)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=120)
        assert not caller.is_alive(), "a caller waits for ever"
    assert wrong == []


def test_error_leaves_the_engine_usable(engine: nn.Module) -> None:
    torch.set_num_threads(2)
    x = torch.randn(4, 3, 16, 16)
    expected = engine(x)
    bad = x.clone()
    bad[2, 1, 3, 3] = float("nan")
    bad[3, 0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="2 of 3072 values are not finite"):
        engine(bad)
    assert torch.equal(engine(x), expected)


@pytest.fixture(scope="module")
def large_engine() -> nn.Module:
    """Its file is larger than what is worth a request to the system."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True)
    if kind.stdout.strip() in ("", "tmpfs"):
        pytest.skip("the temporary folder is no disk")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 2000)).eval()
    x = torch.randn(2, 3, 8, 8)
    return ptqx.compile(ptqx.quantize(model, [x], "int8"), x)


def file_in_memory(engine: nn.Module) -> int:
    return _C.engine_memory(engine.program, 1, 1)["program"]


def test_weights_are_in_memory_once(large_engine: nn.Module) -> None:
    x = torch.randn(2, 3, 8, 8)
    expected = large_engine(x)
    assert large_engine.program.numel() > 2**20
    assert file_in_memory(large_engine) < 2**16
    content = large_engine.state_dict()["program"].numpy().tobytes()  # reads all of it
    assert file_in_memory(large_engine) == len(content)
    copies = [copy.deepcopy(large_engine), pickle.loads(pickle.dumps(large_engine))]
    for engine in copies:
        assert torch.equal(engine(x), expected)
        assert file_in_memory(engine) < 2**16
        assert engine.program.numpy().tobytes() == content


def memory_of_this_process() -> int:
    """Bytes that are in no file."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["RssAnon"].split()[0])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_weights_of_the_integer_model_go_with_it() -> None:
    features = 4096  # 16 MiB of weights
    x = torch.randn(2, features)
    qmodel = ptqx.quantize(nn.Sequential(nn.Linear(features, features)), [x], "int8")
    engine = ptqx.compile(qmodel, x)
    before = memory_of_this_process()
    del qmodel
    engine(x)
    freed = before - memory_of_this_process()
    assert freed > 1.8 * features**2, "its codes, and their packed form that its operators remembered"


def test_a_written_program_is_another_network(large_engine: nn.Module) -> None:
    engine = copy.deepcopy(large_engine)
    engine.load_state_dict(large_engine.state_dict())
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(engine(x), large_engine(x))
    engine.program[-1] += 1
    with pytest.raises(ValueError, match="damaged or was altered"):
        engine(x)
    assert not torch.equal(engine.program, large_engine.program)
