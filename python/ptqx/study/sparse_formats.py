"""Formats of networks without some of their channels or weights: pruned, pruned50, sparse24, sparse50, …"""

from __future__ import annotations

import re
from dataclasses import replace

from torch import nn
from torch.optim.swa_utils import update_bn

from .. import graph
from ..data import ImageDataset
from ..errors import PtqxError
from ..graph.compression import compressed
from ..qat import KeepZeros, train_quantized
from ..sparsity import Pattern, cost, remove_channels, sparsify, zero_share
from .formats import QAT_SUFFIX, Candidate, Task, integer_candidate, register_format
from .report import plural
from .rows import file_size

RECIPE = "int8"
PRUNED, SPARSE = re.compile(r"pruned(\d\d)?"), re.compile(r"sparse(24|\d\d)")
DEFAULT_SHARE = 30  # percent of the parameters


def _accepts(name: str) -> bool:
    plain = name.removesuffix(QAT_SUFFIX)
    return any(pattern.fullmatch(plain) for pattern in (PRUNED, SPARSE)) and not plain.endswith("00")


@register_format(["pruned", "sparse24", "sparse50", "pruned-qat", "sparse24-qat", "sparse50-qat"], _accepts)
def without_some(name: str, task: Task) -> Candidate:
    """int8 after pruning, and with "-qat" after training as integers; else nothing is trained.

    prunedNN: whole channels gone until NN percent of the parameters are (30 if it does not say), batch norms
    re-estimated. sparse24: of four neighbouring weights two are 0. sparseNN: the smallest NN percent of every
    layer are 0.
    """
    plain = name.removesuffix(QAT_SUFFIX)
    if match := PRUNED.fullmatch(plain):
        model, note = _pruned(task, int(match[1] or DEFAULT_SHARE) / 100)
    else:
        share = plain.removeprefix("sparse")
        pattern = Pattern(keep=2, of=4) if share == "24" else Pattern(int(share) / 100)
        model = sparsify(task.model, task.example[:1], pattern)
        note = f"{100 * zero_share(model):.0f} % of the weights 0, stored and computed like the others"
    if name.endswith(QAT_SUFFIX):
        candidate = _trained(name, model, task, note)
    else:
        prepared = graph.calibrate(graph.prepare(model, RECIPE, task.example), task.calibration)
        candidate = integer_candidate(name, "ptq", prepared, task, note)
    packed = file_size(len(compressed(candidate.file.read_bytes())))
    return replace(candidate, detail=f"{candidate.detail}; {packed} compressed")


def _pruned(task: Task, share: float) -> tuple[nn.Module, str]:
    model = remove_channels(task.model, task.example[:1], share).model.eval()
    update_bn(task.calibration, model)
    left = cost(model, task.example[:1]).parameters
    before = cost(task.model, task.example[:1]).parameters
    return model.eval(), f"{100 * (1 - left / before):.0f} % of the parameters removed"


def _trained(name: str, model: nn.Module, task: Task, note: str) -> Candidate:
    if not isinstance(task.train, ImageDataset) or not isinstance(task.test, ImageDataset):
        raise PtqxError(f"format {name!r} trains, so train and test must be ptqx.data.ImageDataset")
    prepared = train_quantized(
        model,
        RECIPE,
        task.train,
        task.test,
        task.qat,
        task.calibration,
        teacher=task.model if task.qat.distillation else None,
        hooks=[KeepZeros()],
        progress=task.progress,
    )
    return integer_candidate(name, "qat", prepared, task, f"{note}; {plural(task.qat.epochs, 'epoch')}")
