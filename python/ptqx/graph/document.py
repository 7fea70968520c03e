"""The integer graph: what an IntegerModel runs and a .ptqx file stores, as JSON version 1."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ..errors import PtqxError
from .image import ImageOptions, image_options_from_dict
from .structure import Structure, leaves, structure_from_json, structure_to_json
from .tuning import Tuning, tuning_from_dict

FORMAT = "ptqx"
VERSION = 1
PRODUCER = "ptqx 0.1.0"
CODE_RANGES = {"uint8": (0, 255), "int16": (-(2**15), 2**15 - 1)}


@dataclass(frozen=True)
class Output:
    """What a node gives: "float32" values, or "uint8" or "int16" codes in [qmin, qmax] whose scale and zero
    point are tensors."""

    dtype: str = "float32"
    scale: str = ""
    zero_point: str = ""
    qmin: int = 0
    qmax: int = 255


@dataclass(frozen=True)
class IntegerNode:
    """One step. `tensors` maps roles ("weight", "bias", …) to tensor names; `reason` says why it computes in
    float."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: dict[str, Any]
    tensors: dict[str, str]
    output: Output
    reason: str = ""


@dataclass(frozen=True)
class IntegerGraph:
    """Steps in execution order. `input_shape` is of one sample, NCHW; `output` is what the network returns, a
    node's name or a structure of names; `info` are free strings; `image` is for programs that read image
    files; `tuning` is the engine's, for machines it was measured on."""

    input: str
    input_shape: tuple[int, ...]
    output: Structure
    nodes: dict[str, IntegerNode]
    info: dict[str, str] = field(default_factory=dict)
    image: ImageOptions | None = None
    tuning: Tuning | None = None

    def __iter__(self) -> Iterator[IntegerNode]:
        return iter(self.nodes.values())

    @property
    def outputs(self) -> list[str]:
        """Names of the nodes whose values the network returns."""
        return leaves(self.output)

    def tensor_names(self) -> set[str]:
        names = {t for node in self for t in node.tensors.values()}
        outputs = [node.output for node in self if node.output.dtype != "float32"]
        return names.union(*({o.scale, o.zero_point} for o in outputs))

    def to_json(self) -> str:
        """
        Raises:
            PtqxError: a part of the network stayed a Python module.
        """
        document = {
            "format": FORMAT,
            "version": VERSION,
            "producer": PRODUCER,
            "info": self.info,
            "input": {"name": self.input, "shape": list(self.input_shape)},
            "output": structure_to_json(self.output),
            "nodes": [_node_to_json(node) for node in self],
        }
        if self.image is not None:
            document["image"] = self.image.to_dict()
        if self.tuning is not None:
            document["tuning"] = self.tuning.to_dict()
        return json.dumps(document, allow_nan=False)


def graph_from_json(text: str) -> IntegerGraph:
    """Parse and check a document: format, version, types, that names are unique and resolve to earlier nodes.

    Raises:
        PtqxError: the first violation.
    """
    try:
        document = json.loads(text, object_pairs_hook=_unique_keys)
    except (json.JSONDecodeError, RecursionError) as error:
        raise PtqxError(f"the graph is no valid JSON: {error}") from error
    _require(isinstance(document, dict), "the graph must be a JSON object")
    _require(document.get("format") == FORMAT, f"format: expected {FORMAT!r}, got {document.get('format')!r}")
    _require(
        document.get("version") == VERSION,
        f"version {document.get('version')!r} of the graph; this ptqx reads version {VERSION}",
    )
    entry = document.get("input")
    _require(
        isinstance(entry, dict) and isinstance(entry.get("name"), str), "input must be an object with a name"
    )
    shape = entry.get("shape")
    _require(_is_shape(shape), f"input.shape: expected 1 to 4 positive whole numbers, got {shape!r}")
    nodes: dict[str, IntegerNode] = {}
    _require(isinstance(document.get("nodes"), list), "nodes must be a list")
    for raw in document["nodes"]:
        node = _node_from_json(raw)
        _require(node.name not in nodes and node.name != entry["name"], f"two nodes are called {node.name!r}")
        for name in node.inputs:
            _require(
                name in nodes or name == entry["name"],
                f"node {node.name!r} reads {name!r}, which is no earlier node",
            )
        nodes[node.name] = node
    output = structure_from_json(document.get("output"))
    _require(leaves(output) != [], "output: the graph returns no tensor")
    for name in leaves(output):
        _require(name in nodes or name == entry["name"], f"output {name!r} is no node")
        real = name not in nodes or nodes[name].output.dtype == "float32"
        _require(real, f"the output node {name!r} must give float32")
    info = document.get("info", {})
    _require(
        isinstance(info, dict) and all(isinstance(v, str) for v in info.values()), "info must map to strings"
    )
    image = image_options_from_dict(document["image"]) if "image" in document else None
    tuning = tuning_from_dict(document["tuning"]) if "tuning" in document else None
    return IntegerGraph(entry["name"], tuple(shape), output, nodes, info, image, tuning)


def _node_to_json(node: IntegerNode) -> dict[str, Any]:
    if node.op == "float":
        raise PtqxError(f"{node.name} stayed a Python module ({node.reason}); a .ptqx file can't hold it")
    output: dict[str, Any] = {"dtype": node.output.dtype}
    if node.output.dtype != "float32":
        o = node.output
        output |= {"scale": o.scale, "zero_point": o.zero_point, "qmin": o.qmin, "qmax": o.qmax}
    entry = {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "attrs": {key: _finite(value) for key, value in node.attrs.items()},
        "tensors": node.tensors,
        "output": output,
    }
    return {**entry, "reason": node.reason} if node.reason else entry


def _node_from_json(raw: Any) -> IntegerNode:
    _require(isinstance(raw, dict), "every node must be an object")
    name, op, inputs = raw.get("name"), raw.get("op"), raw.get("inputs")
    _require(isinstance(name, str) and name != "", f"a node's name must be a string, got {name!r}")
    _require(isinstance(op, str), f"node {name!r}: op must be a string")
    _require(_is_strings(inputs) and len(inputs) > 0, f"node {name!r}: inputs must be names")
    attrs, tensors, output = raw.get("attrs", {}), raw.get("tensors", {}), raw.get("output")
    _require(isinstance(attrs, dict), f"node {name!r}: attrs must be an object")
    _require(
        isinstance(tensors, dict) and _is_strings(list(tensors.values())),
        f"node {name!r}: tensors must map roles to names",
    )
    _require(isinstance(output, dict), f"node {name!r}: output must be an object")
    reason = raw.get("reason", "")
    _require(isinstance(reason, str), f"node {name!r}: reason must be a string")
    read = {key: _number(value) for key, value in attrs.items()}
    return IntegerNode(name, op, tuple(inputs), read, tensors, _output_from_json(name, output), reason)


def _output_from_json(name: str, raw: Mapping[str, Any]) -> Output:
    dtype = raw.get("dtype")
    if dtype == "float32":
        return Output()
    _require(
        isinstance(dtype, str) and dtype in CODE_RANGES,
        f"node {name!r}: output.dtype must be 'uint8', 'int16' or 'float32', got {dtype!r}",
    )
    lowest, highest = CODE_RANGES[str(dtype)]
    keys = ("scale", "zero_point", "qmin", "qmax")
    scale, zero_point, qmin, qmax = cast(tuple[str, str, int, int], tuple(raw.get(key) for key in keys))
    _require(
        isinstance(scale, str) and isinstance(zero_point, str), f"node {name!r}: output needs tensor names"
    )
    _require(
        type(qmin) is int and type(qmax) is int and lowest <= qmin < qmax <= highest,
        f"node {name!r}: expected {lowest} <= qmin < qmax <= {highest}, got {qmin!r} and {qmax!r}",
    )
    return Output(str(dtype), scale, zero_point, qmin, qmax)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise PtqxError(message)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    _require(len(keys) == len(pairs), "the graph has an object with the same key twice")
    return keys


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 4
        and all(type(v) is int and 0 < v < 2**31 for v in value)
    )


def _finite(value: Any) -> Any:
    """JSON has no infinities: they become strings."""
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(v) for v in value]
    return float(value) if value in ("inf", "-inf") else value
