"""Checkpoints of others into our models, and a new head for fine-tuning."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import PtqxError, listed, unknown_name
from ..files import read_tensors

TRAINED = Path(__file__).parent / "trained"


def trained_on(model_name: str) -> list[str]:
    """Names of the data sets for which trained weights of that model come with ptqx.

    >>> trained_on("lenet5")
    ['mnist']
    """
    return sorted(
        path.stem.removeprefix(f"{model_name}_") for path in TRAINED.glob(f"{model_name}_*.safetensors")
    )


def weights_file(model_name: str, weights: str | os.PathLike[str]) -> Path:
    """The file that `weights` means: its path, or the name of a data set of `trained_on`.

    Raises:
        PtqxError: a bare name that is neither a file nor such a data set.
    """
    path = Path(weights)
    if path.suffix or len(path.parts) > 1 or path.is_file():
        return path
    if path.name not in trained_on(model_name):
        raise unknown_name(
            f"weights of {model_name} (a file, or a data set)", path.name, trained_on(model_name)
        )
    return TRAINED / f"{model_name}_{path.name}.safetensors"


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load a checkpoint file into `model`, in place and strictly, and return the model.

    Storage in another floating type (float16 files) is converted to the parameters' own. The layers of a
    model that `ptqx.sparsity.save` wrote become as narrow as its tensors are.
    Formats and wrappers: `ptqx.files.read_tensors`.

    Raises:
        PtqxError: an unreadable file; missing or unexpected keys; shapes that differ; another number of
            classes; NaN or Inf among the values. The model is unchanged then.
    """
    tensors, metadata = read_tensors(path)
    tensors = _canonical(model, tensors)
    _fit_widths(model, tensors, metadata, path)
    model.load_state_dict(tensors)
    return model


def load_pretrained(model: nn.Module, path: str | os.PathLike[str]) -> bool:
    """Load a checkpoint for fine-tuning; return True if its head was kept.

    Everything but the last linear layer must fit. A head of another number of classes is left out, so that
    the model keeps its own, freshly initialized one.
    """
    tensors, metadata = read_tensors(path)
    tensors = _canonical(model, tensors)
    own = model.state_dict()
    head = head_name(model)
    head_keys = [f"{head}.{name}" for name, _ in model.get_submodule(head).named_parameters()]
    kept = all(key in tensors and len(tensors[key]) == len(own[key]) for key in head_keys)
    if not kept:
        weight, bias = f"{head}.weight", f"{head}.bias"
        features = tensors.get(weight, own[weight]).shape[-1]  # fewer where channels were removed
        tensors |= {weight: own[weight][:, :features], **({bias: own[bias]} if bias in own else {})}
    _fit_widths(model, tensors, metadata, path)
    model.load_state_dict(tensors)
    return kept


def head_name(model: nn.Module) -> str:
    """Name of the last `nn.Linear`, the layer that gives the logits.

    >>> head_name(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    '2'
    """
    name = _last_linear(model)
    if name is None:
        raise PtqxError(f"{type(model).__name__} has no linear layer, so its head can't be told")
    return name


def replace_head(model: nn.Module, num_classes: int) -> nn.Module:
    """Replace the last linear layer by a new one with `num_classes` outputs, in place; return the model.

    >>> replace_head(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 3)[1].out_features
    3
    """
    name = head_name(model)
    old = model.get_submodule(name)
    assert isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None, device=old.weight.device)
    model.set_submodule(name, new.to(old.weight.dtype))
    return model


def _last_linear(model: nn.Module) -> str | None:
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None


def _canonical(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys under the model's own names; counters that old checkpoints lack are added."""
    rename = getattr(model, "canonical_key", None)
    if rename is not None:
        tensors = {rename(key): tensor for key, tensor in tensors.items()}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            tensors.setdefault(key, torch.zeros_like(value))
    return tensors


def _fit_widths(
    model: nn.Module, tensors: dict[str, Tensor], metadata: dict[str, str], path: str | os.PathLike[str]
) -> None:
    """Check that the tensors fit; where a checkpoint has fewer channels, make the model's layers as
    narrow."""
    from ..sparsity import OWN_WIDTHS, WIDTHS, take_widths

    own = model.state_dict()
    narrower = {
        key: tensor
        for key, tensor in tensors.items()
        if metadata.get(WIDTHS) == OWN_WIDTHS and key in own and _is_narrower(tensor, own[key])
    }
    head = _last_linear(model)
    narrower.pop(f"{head}.bias", None)
    if f"{head}.weight" in narrower and len(tensors[f"{head}.weight"]) != len(own[f"{head}.weight"]):
        del narrower[f"{head}.weight"]
    _check_fits(model, {**tensors, **{key: own[key] for key in narrower}}, path)
    _check_finite(narrower, path)
    take_widths(model, narrower)


def _is_narrower(tensor: Tensor, own: Tensor) -> bool:
    """Of fewer output or input channels, and otherwise alike."""
    return (
        tensor.shape != own.shape
        and tensor.dim() == own.dim()
        and tensor.is_floating_point()
        and tensor.numel() > 0
        and tensor.shape[2:] == own.shape[2:]
        and all(a <= b for a, b in zip(tensor.shape, own.shape, strict=True))
    )


def _check_fits(model: nn.Module, tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    own = model.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - own.keys())
    if missing or unexpected:
        keys = {"missing": missing, "unexpected": unexpected}
        parts = "; ".join(f"{what} {listed(names)}" for what, names in keys.items() if names)
        raise PtqxError(f"{path} does not fit {type(model).__name__}: {parts}")
    differing = [key for key in own if own[key].shape != tensors[key].shape]
    head = _last_linear(model)
    if differing and all(key in (f"{head}.weight", f"{head}.bias") for key in differing):
        classes, wanted = tensors[differing[0]].shape[:1], own[differing[0]].shape[0]
        raise PtqxError(
            f"{path} was trained for {classes[0] if classes else 'no'} classes ({differing[0]}), "
            f"the model has num_classes={wanted}"
        )
    if differing:
        shapes = [f"{k} {tuple(tensors[k].shape)} instead of {tuple(own[k].shape)}" for k in differing]
        raise PtqxError(f"{path} does not fit {type(model).__name__}: {listed(shapes)}")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() != own[key].is_floating_point():
            raise PtqxError(f"{path}: {key} is {tensor.dtype}, expected {own[key].dtype}")
    _check_finite(tensors, path)


def _check_finite(tensors: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    for key, tensor in tensors.items():
        bad = 0 if not tensor.is_floating_point() else int((~torch.isfinite(tensor)).sum())
        if bad:
            raise PtqxError(f"{path}: {key} has {bad} values that are NaN or Inf")
