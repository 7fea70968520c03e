"""Two processes under torchrun: the same model on both, with everything on."""

from __future__ import annotations

from collections.abc import Callable

Torchrun = Callable[..., str]

WORKER = """
import torch
from ptqx.data import Loader, calibration_split, load
from ptqx.models import cnn
from ptqx.qat import QATConfig, train_quantized
from ptqx.train import distributed

train, test = load("digits").subset(slice(0, 400)), load("digits", split="test").subset(slice(0, 60))
config = QATConfig(
    epochs=2, batch_size=32, amp="off", lr=0.1, ema=0.5, distillation=0.5, progressive=(4,),
    freeze_oscillating=0.002, freeze_batch_norm=0.5, val_split=0.2,
)
torch.manual_seed(0)
model = cnn(width=4)
batches = list(Loader(calibration_split(train, 64), 64))
with distributed.process_group(torch.device("cpu")):
    prep = train_quantized(model, "w3a3", train, test, config, batches, progress=False)
    own = prep.state_dict()
    states = distributed.gather(own)
    assert all(torch.equal(states[0][name], states[1][name]) for name in own)
    if distributed.rank() == 0:
        assert prep.history[-1]["frozen"] > 0
        print([row["weight_bits"] for row in prep.history])
"""


def test_ranks_end_with_the_same_model(torchrun: Torchrun) -> None:
    assert torchrun(WORKER) == "[3, 4, 3]\n"
