"""The engine where programs put it: worker processes, several threads, changing thread counts."""

import threading

import ptqx
import pytest
import torch
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
