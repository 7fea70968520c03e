"""Quantized gradients between the processes of a DistributedDataParallel training."""

# Annotations stay objects here: DistributedDataParallel looks at those of its hook.

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from ...errors import PtqxError
from ...quant.noise import stream_of, uniform_noise
from .. import distributed
from .format import GradientFormat

SCALE_BYTES = 4


class GradientExchange:
    """Averages gradients over processes of which each sends codes and scales instead of float32.

    With Q the rounding of `format`, e_r the error that rank r keeps of every parameter (0 at first), N ranks
    and g_r their gradients:

        sent by r:        Q(g_r + e_r)
        kept by r:        e_r = (g_r + e_r) - Q(g_r + e_r)        (not with stochastic rounding: e_r = 0)
        used everywhere:  sum over r of Q(g_r + e_r), in order, divided by N

    Every parameter has a scale of its own, so that what comes out does not depend on how
    DistributedDataParallel fills its buckets, which it does anew after the first step. A bucket is one
    message, scales first and then the codes of its parameters, each beginning a new byte; all ranks get all
    messages (all-gather), so that with N ranks each sends N - 1 of them: this pays for few ranks.

    A gradient that is not finite is sent as the scale NaN: then every rank's backward() raises, and
    `failure` says which parameter, of which rank. The weights have not changed.

    Attributes:
        bytes_sent: of this rank's messages to the others so far, exactly; without what the transport adds.
        float32_bytes_sent: what a ring all-reduce of float32 would have sent.
        failure: the error, once there was one.

    >>> exchange = GradientExchange(nn.Linear(4, 2), GradientFormat(1))
    >>> exchange.message_bytes([8, 2])
    10
    """

    def __init__(self, model: nn.Module, format: GradientFormat, seed: int = 0) -> None:
        self.format = format
        self.seed = seed
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self.errors: dict[str, Tensor] = {}  # flat, in the memory order of the parameter
        self.step = 0
        self.bytes_sent = 0
        self.float32_bytes_sent = 0
        self.failure: PtqxError | None = None
        self.arriving: list[Future[Tensor]] = []  # of this step's buckets

    def attach(self, network: DistributedDataParallel) -> None:
        """Take over the averaging of this network's gradients.

        Raises:
            PtqxError: parameters that are not on the CPU.
        """
        elsewhere = {str(p.device) for p in network.parameters() if p.device.type != "cpu"}
        if elsewhere:
            raise PtqxError(f"gradients are quantized on the CPU only; the model is on {min(elsewhere)}")
        network.register_comm_hook(self, quantized_all_gather)

    def message_bytes(self, sizes: Sequence[int]) -> int:
        """Bytes of the message for parameters of these numbers of elements."""
        return sum(SCALE_BYTES + self.format.packed_bytes(size) for size in sizes)

    def write_message(self, names: Sequence[str], gradients: Sequence[Tensor]) -> Tensor:
        """This rank's message, uint8; what it loses of the gradients is kept for the next one."""
        encoded = [self._encode(name, part) for name, part in zip(names, gradients, strict=True)]
        scales = torch.cat([scale for scale, _ in encoded]).view(torch.uint8)
        return torch.cat([scales, *(packed for _, packed in encoded)])

    def read_messages(
        self, names: Sequence[str], sizes: Sequence[int], messages: Sequence[Tensor]
    ) -> list[Tensor]:
        """The mean gradients, flat float32, from the messages of all ranks.

        Raises:
            PtqxError: a gradient of one of them is not finite.
        """
        header = SCALE_BYTES * len(sizes)
        scales = torch.stack([message[:header].clone().view(torch.float32) for message in messages])
        self._check_finite(names, scales)
        packed_sizes = [self.format.packed_bytes(size) for size in sizes]
        codes = [message[header:].split(packed_sizes) for message in messages]
        means = []
        for index, size in enumerate(sizes):
            total = torch.zeros(size)
            for rank in range(len(messages)):
                total += self.format.decode(scales[rank, index : index + 1], codes[rank][index], size)
            means.append(total.div_(len(messages)))
        return means

    def raise_failure(self) -> None:
        """Raise `failure`, if there is one: backward() passes it on as a RuntimeError with a long text."""
        if self.failure is not None:
            raise self.failure

    def state_dict(self) -> dict[str, Any]:
        """What this rank must go on with; the ranks' states differ."""
        return {
            "format": asdict(self.format),
            "step": self.step,
            "bytes_sent": self.bytes_sent,
            "float32_bytes_sent": self.float32_bytes_sent,
            "errors": self.errors,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; tensors are copied.

        Raises:
            PtqxError: of another format, or of a model with other parameters.
        """
        if state["format"] != asdict(self.format):
            raise PtqxError(f"the state is of gradients in {state['format']}, not {asdict(self.format)}")
        sizes = {name: parameter.numel() for parameter, name in self.names.items()}
        wrong = [name for name, error in state["errors"].items() if sizes.get(name) != error.numel()]
        if wrong:
            raise PtqxError(f"the state is of another model: it has errors of {', '.join(wrong[:3])}")
        self.step = state["step"]
        self.bytes_sent, self.float32_bytes_sent = state["bytes_sent"], state["float32_bytes_sent"]
        self.errors = {name: error.clone() for name, error in state["errors"].items()}

    def _encode(self, name: str, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gradient = gradient.float()
        if not self.format.error_feedback:
            stream = stream_of(f"rank {distributed.rank()}: {name}")
            return self.format.encode(gradient, uniform_noise(gradient.shape, self.seed, stream, self.step))
        wanted = gradient + self.errors[name] if name in self.errors else gradient
        scale, packed = self.format.encode(wanted)
        if scale.isfinite():
            self.errors[name] = wanted - self.format.decode(scale, packed, len(wanted))
        return scale, packed

    def _check_finite(self, names: Sequence[str], scales: Tensor) -> None:
        if scales.isfinite().all():
            return
        rank, index = (~scales.isfinite()).nonzero()[0].tolist()
        raise PtqxError(
            f"the gradient of {names[index]} on rank {rank} is not finite; "
            "the weights are those before this step"
        )


def quantized_all_gather(exchange: GradientExchange, bucket: dist.GradBucket) -> Future[Tensor]:
    """The hook: `network.register_comm_hook(exchange, quantized_all_gather)`."""
    buffer, ranks = bucket.buffer(), distributed.world_size()
    parameters = bucket.parameters()
    names, sizes = [exchange.names[p] for p in parameters], [p.numel() for p in parameters]
    if bucket.index() == 0:
        exchange.failure, exchange.arriving = None, []
    message = exchange.write_message(names, buffer.split(sizes))
    exchange.bytes_sent += (ranks - 1) * message.nbytes
    exchange.float32_bytes_sent += float32_bytes(sum(sizes), ranks)
    exchange.step += bucket.is_last()
    messages = [torch.empty_like(message) for _ in range(ranks)]
    sent = dist.all_gather(messages, message, async_op=True)

    def average(arrived: Future[Any]) -> Tensor:
        arrived.value()  # raises what went wrong on the way
        try:
            buffer.copy_(torch.cat(exchange.read_messages(names, sizes, messages)))
        except PtqxError as failure:
            exchange.failure = failure
        return buffer

    def finish(arrived: Future[Any]) -> Tensor:
        arrived.value()
        exchange.raise_failure()
        return buffer

    averaged = sent.get_future().then(average)
    exchange.arriving.append(averaged)
    if not bucket.is_last():
        return averaged
    # backward() ends at the first error; by then nothing may be under way that writes gradients.
    return torch.futures.collect_all(exchange.arriving).then(finish)


def float32_bytes(count: int, ranks: int) -> int:
    """Bytes that each rank sends in a ring all-reduce of `count` float32: 2 (N - 1) / N of them all.

    >>> float32_bytes(1000, 2), float32_bytes(1000, 4)
    (4000, 6000)
    """
    return 2 * (ranks - 1) * 4 * count // ranks
