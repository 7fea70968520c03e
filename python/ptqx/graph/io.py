"""The .ptqx file: a safetensors container with the integer graph as JSON in its metadata, checksummed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import PtqxError
from ..files import atomic_write
from .compression import SUFFIX, compressed, expanded, is_compressed
from .document import FORMAT, VERSION, graph_from_json
from .image import ImageOptions
from .integer import IntegerModel

MAX_HEADER = 100 * 2**20
DTYPES = {
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def save(
    model: IntegerModel,
    path: str | os.PathLike[str],
    info: Mapping[str, str] | None = None,
    image: ImageOptions | None = None,
) -> None:
    """Write an integer model to a .ptqx file, atomically.

    Args:
        model: of `ptqx.convert` or `ptqx.load`.
        path: a name that ends in .gz makes a gzip file of it: smaller, read by `load` as it is, and for C++
            programs, which read plain files alone, unpacked by gunzip.
        info: free strings kept in the file: model, dataset, recipe, …
        image: how images become inputs and what outputs are called, for programs that read image files; None
            keeps what the model has.

    Raises:
        PtqxError: `image` does not fit the input's channels or the outputs; a part of the network stayed a
            Python module; or the file can't be written (a full disk leaves what was there).
    """
    if not isinstance(model, IntegerModel):
        raise PtqxError(f"model: expected an integer model of ptqx.convert, got {type(model).__name__}")
    if image is not None:
        _check_image(model, image)
        model.graph = replace(model.graph, image=image)
    content = to_bytes(model, info)
    if Path(path).suffix == SUFFIX:
        content = compressed(content)
    with atomic_write(path) as partial:
        Path(partial).write_bytes(content)


def _check_image(model: IntegerModel, image: ImageOptions) -> None:
    channels = model.graph.input_shape[0]
    if len(model.graph.input_shape) != 3 or len(image.mean) != channels:
        raise PtqxError(
            f"image: mean and std are of {len(image.mean)} channels, the input is {model.graph.input_shape}"
        )
    outputs = model(torch.zeros(0, *model.graph.input_shape)).shape[1:].numel()
    if image.classes and len(image.classes) != outputs:
        raise PtqxError(f"image: {len(image.classes)} classes for {outputs} outputs")


def load(path: str | os.PathLike[str]) -> IntegerModel:
    """Read a .ptqx file, plain or compressed; nothing in it is executed, and no model class is needed.

    Raises:
        PtqxError: no such file, or anything in it that does not fit: lengths, offsets, checksum, version,
            graph, compressed data that would expand to more than 32 times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise PtqxError(f"no such file: {path}")
    try:
        content = path.read_bytes()
        return from_bytes(expanded(content) if is_compressed(content) else content)
    except PtqxError as error:
        raise PtqxError(f"{path}: {error}") from error


def to_bytes(model: IntegerModel, info: Mapping[str, str] | None = None) -> bytes:
    """The content of the .ptqx file: the same bytes for the same model."""
    if info:
        model.graph.info.update({str(k): str(v) for k, v in info.items()})
    graph = model.graph.to_json()
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in model.tensors().items()}
    metadata = {"format": FORMAT, "version": str(VERSION), "graph": graph, "sha256": _sha256(graph, tensors)}
    return _safetensors(tensors, metadata)


def _safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file. Its own package writes the metadata in an order that changes from run to run."""
    header: dict[str, Any] = {"__metadata__": metadata}
    chunks, position = [], 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):  # aligned to their elements
        data = _data(tensors[name])
        offsets = [position, position + len(data)]
        header[name] = {
            "dtype": NAMES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": offsets,
        }
        chunks.append(data)
        position += len(data)
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    return b"".join([len(encoded).to_bytes(8, "little"), encoded, *chunks])


def _data(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def from_bytes(content: bytes) -> IntegerModel:
    """The model in the content of a .ptqx file."""
    metadata, entries, data = _parse_header(content)
    if metadata.get("format") != FORMAT:
        raise PtqxError("it is no .ptqx file: the metadata lack format 'ptqx'")
    if metadata.get("version") != str(VERSION):
        raise PtqxError(f"version {metadata.get('version')!r}; this ptqx reads version {VERSION}")
    if "graph" not in metadata or "sha256" not in metadata:
        raise PtqxError("the metadata lack the graph or its checksum")
    tensors = _read_tensors(entries, data)
    if _sha256(metadata["graph"], tensors) != metadata["sha256"]:
        raise PtqxError("the checksum does not fit: the file is damaged or was altered")
    graph = graph_from_json(metadata["graph"])
    extra = set(tensors) - graph.tensor_names()
    if extra:
        raise PtqxError(f"the tensor {min(extra)!r} belongs to no node")
    model = IntegerModel(graph, tensors)
    _try_out(model)
    return model


def _parse_header(content: bytes) -> tuple[dict[str, str], dict[str, Any], memoryview]:
    if len(content) < 8:
        raise PtqxError("it is truncated: no header")
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER or length > len(content) - 8:
        raise PtqxError(f"the header claims {length} bytes, more than the file has or than is allowed")
    try:
        header = json.loads(content[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique_keys)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise PtqxError(f"the header is no valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise PtqxError("the header must be a JSON object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise PtqxError("the header lacks __metadata__ of strings")
    return metadata, header, memoryview(content)[8 + length :]


def _read_tensors(entries: dict[str, Any], data: memoryview) -> dict[str, Tensor]:
    """Views are copied; every entry must begin where the one before it ended, and the last end with the
    file."""
    checked = sorted(
        (_checked_entry(name, entry, len(data)) for name, entry in entries.items()), key=lambda e: e[2:]
    )
    tensors, position = {}, 0
    for name, dtype, begin, end, shape in checked:
        if begin != position:
            raise PtqxError(f"tensor {name!r} begins at {begin}, expected {position}")
        position = end
        raw = (
            torch.frombuffer(bytearray(data[begin:end]), dtype=dtype)
            if end > begin
            else torch.empty(0, dtype=dtype)
        )
        tensors[name] = raw.reshape(shape)
    if position != len(data):
        raise PtqxError(f"{len(data) - position} bytes after the last tensor")
    return tensors


def _checked_entry(name: str, entry: Any, size: int) -> tuple[str, torch.dtype, int, int, list[int]]:
    keys = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise PtqxError(f"tensor {name!r}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in DTYPES:
        raise PtqxError(f"tensor {name!r}: dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    if not _is_numbers(shape) or not _is_numbers(offsets) or len(offsets) != 2 or len(shape) > 8:
        raise PtqxError(f"tensor {name!r}: shape and data_offsets must be whole numbers, not negative")
    begin, end = offsets
    count = 1
    for extent in shape:
        count *= extent
        if count > size and extent:
            raise PtqxError(f"tensor {name!r}: shape {shape} is larger than the file")
    if not begin <= end <= size or end - begin != count * DTYPES[dtype].itemsize:
        raise PtqxError(f"tensor {name!r}: offsets {offsets} do not fit {dtype} of shape {shape}")
    return name, DTYPES[dtype], begin, end, shape


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**62 for v in value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise PtqxError("the header has an object with the same key twice")
    return keys


def _sha256(graph: str, tensors: Mapping[str, Tensor]) -> str:
    """Over the graph, then for every tensor by name: name, dtype, shape, each followed by NUL, and its
    bytes."""
    digest = hashlib.sha256(graph.encode("utf-8"))
    for name in sorted(tensors, key=lambda n: n.encode("utf-8")):
        tensor = tensors[name]
        shape = ",".join(str(extent) for extent in tensor.shape)
        if tensor.dtype not in NAMES:
            raise PtqxError(f"tensor {name!r} is {tensor.dtype}; a .ptqx file holds {', '.join(DTYPES)}")
        digest.update(f"{name}\0{NAMES[tensor.dtype]}\0{shape}\0".encode())
        digest.update(_data(tensor))
    return digest.hexdigest()


def _try_out(model: IntegerModel) -> None:
    """Run it on no sample at all: whatever in the graph does not fit shows, and nothing large is
    allocated."""
    try:
        with torch.no_grad():
            model(torch.zeros(0, *model.graph.input_shape))
    except PtqxError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PtqxError(f"the graph does not fit its tensors: {message}") from error
