"""From the loss to the optimizer: how a run's gradients are summed up, sent and used."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import PtqxError
from .. import distributed
from ..log import Row
from .accumulation import Int8Gradients
from .exchange import GradientExchange

if TYPE_CHECKING:
    from ..config import TrainConfig


class GradientPath:
    """What a run does with gradients, by its config.

    Raises:
        PtqxError: a way of sending gradients for one process alone, or int8 sums for several.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model = model
        self.clip_norm = config.clip_norm
        self.micro_batches = 1
        self.exchange: GradientExchange | None = None
        self.sums: Int8Gradients | None = None
        if config.gradients is not None:
            if distributed.world_size() == 1:
                raise PtqxError(
                    f"gradients of {config.gradients.bits} bit are what several processes send each other, "
                    "and there is one; start it by torchrun --nproc-per-node=2 -m ptqx.train, or leave "
                    "them in float32"
                )
            self.exchange = GradientExchange(model, config.gradients, config.seed)
        if config.accumulation is not None:
            self.micro_batches = config.accumulation.micro_batches
            if config.accumulation.bits == 8:
                if distributed.world_size() > 1:
                    raise PtqxError(
                        "gradients accumulated in 8 bits save memory in one process alone; "
                        "DistributedDataParallel has float32 buckets for all of them"
                    )
                self.sums = Int8Gradients(model, config.seed)

    def network(self) -> nn.Module:
        """The model, or under torchrun what averages its gradients over the processes."""
        if distributed.world_size() == 1:
            return self.model
        network = DistributedDataParallel(self.model)
        if self.exchange is not None:
            self.exchange.attach(network)
        return network

    def parts(self, batch: int) -> list[slice]:
        """The micro-batches of a batch: sizes that differ by one at most, none empty."""
        count = min(self.micro_batches, batch)
        ends = [batch * i // count for i in range(count + 1)]
        return [slice(start, end) for start, end in pairwise(ends)]

    def unsent(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch: gradients are sent once, after the last one."""
        if last or distributed.world_size() == 1:
            return nullcontext()
        return network.no_sync()  # type: ignore[operator]

    def backward(self, loss: Tensor) -> None:
        try:
            loss.backward()
        except RuntimeError:
            if self.exchange is not None:
                self.exchange.raise_failure()
            raise

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients and take the optimizer's step."""
        if self.sums is not None:
            self.sums.step(optimizer, self.clip_norm)
            return
        if self.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        optimizer.step()

    def accumulated_bytes(self) -> int:
        """What the sums take now."""
        if self.sums is not None:
            return self.sums.nbytes
        return sum(p.grad.nbytes for p in self.model.parameters() if p.grad is not None)

    def close(self) -> None:
        """Leave the model's gradients alone again."""
        if self.sums is not None:
            self.sums.close()

    def columns(self) -> Row:
        """What the log says of it."""
        if self.exchange is None:
            return {}
        return {
            "gradient_bytes": self.exchange.bytes_sent,
            "float32_gradient_bytes": self.exchange.float32_bytes_sent,
        }

    def state_dict(self) -> dict[str, Any]:
        """Of this rank."""
        state: dict[str, Any] = {}
        if self.exchange is not None:
            state["exchange"] = self.exchange.state_dict()
        if self.sums is not None:
            state["additions"] = self.sums.additions
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.exchange is not None:
            self.exchange.load_state_dict(state["exchange"])
        if self.sums is not None:
            self.sums.additions = state["additions"]
