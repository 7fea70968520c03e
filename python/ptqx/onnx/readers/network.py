"""The integer graph in the making: real values become nodes in codes, or in float32 where nothing quantizes
them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...errors import PtqxError
from ...graph.activations import ACTIVATIONS
from ...graph.channel_order import TO_FIRST, TO_LAST
from ...graph.document import Output
from ...graph.formulas import MOST_PRODUCT_DEPTH
from ...graph.operators.normalization import REASON
from ..tables import Function
from .blocks import BLOCKS, Step, blocks_of, is_undone, rearranged
from .images import Images
from .layers import lowered_layer, runs_in_integers
from .nodes import ROUNDING
from .operations import (
    MOVEMENTS,
    Layer,
    LayerNorm,
    array_of,
    average_of,
    function_of,
    group_norm_of,
    is_transpose,
    layer_norm_of,
    layer_of,
)
from .products import SOFTMAX, unmoved
from .tail import Tail, peeled
from .values import Constant, Dequantized, Pending, Quantization, QuantizedConstant, Real, Value

MOVERS = (*MOVEMENTS, *BLOCKS)


class Network(Images):
    """Turns values into nodes."""

    def __init__(self, input: str, input_shape: tuple[int, ...]) -> None:
        super().__init__(input, input_shape)
        self._unnamed: set[str] = set()  # codes of what the ONNX file holds in float32
        self._real: dict[int, tuple[Value, str]] = {}  # the value is kept so that its id is not used again

    # ---- codes ----

    def codes(self, value: Value, meaning: Quantization, name: str) -> str:
        """The node that gives `value` in codes of that meaning."""
        if isinstance(value, Dequantized):
            same = self._rescaled(value.node, meaning, name)
            is_move = same in self._unnamed and self.nodes[same].op not in ROUNDING
            return self._renamed(same, name) if is_move else same
        if isinstance(value, Pending):
            node = self._codes_of_layer(value, meaning, name)
            node = node or self._codes_of_cat(value, meaning, name)
            node = node or self._codes_of_pair(value, meaning, name)
            node = node or self._codes_of_function(value, meaning, name)
            node = node or self._of_real_values(value, meaning, name)
            if node:
                return node
        return self._add(name, "quantize", [self.real(value)], {}, {}, meaning, self.shape_of(value))

    def _codes_of_layer(self, value: Pending, meaning: Quantization, name: str) -> str | None:
        inner, tail = peeled(value)
        layer, residual = layer_of(inner), None
        if layer is None and isinstance(inner, Pending) and inner.op_type == "Add":
            layer, residual = self._layer_and_residual(inner)
        if layer is None or not runs_in_integers(layer):
            return None
        return self._layer(layer, tail, name, value.shape, meaning, residual)

    def _layer_and_residual(self, value: Pending) -> tuple[Layer | None, str | None]:
        for first, second in (value.inputs, value.inputs[::-1]):
            assert first is not None
            if isinstance(second, Dequantized) and self._shapes[second.node] == value.shape:
                layer = layer_of(first)
                if layer is not None:
                    return layer, second.node
        return None, None

    def _codes_of_cat(self, value: Pending, meaning: Quantization, name: str) -> str | None:
        if value.op_type != "Concat":
            return None
        parts = []
        for index, part in enumerate(value.inputs):
            if not isinstance(part, Dequantized):
                return None
            parts.append(self._rescaled(part.node, meaning, f"{name}/{index}"))
        return self._add(name, "cat", parts, {"dim": _channels(value)}, {}, meaning, value.shape)

    def _codes_of_pair(self, value: Pending, meaning: Quantization, name: str) -> str | None:
        """Sums, products and averages."""
        inner, tail = peeled(value)
        if not isinstance(inner, Pending) or not all(isinstance(v, Dequantized) for v in inner.inputs[:1]):
            return None
        nodes = [v.node for v in inner.inputs if isinstance(v, Dequantized)]
        if inner.op_type in ("Add", "Mul") and len(nodes) == 2 and tail.slopes is None:
            first, second = sorted(nodes, key=lambda node: self._shapes[node] != value.shape)
            attrs = tail.attrs(meaning.scale)
            self._require_broadcast(inner, first, second)
            return self._add(name, inner.op_type.lower(), [first, second], attrs, {}, meaning, value.shape)
        average = average_of(inner, self._shapes[nodes[0]])
        if average is None or tail.function is not None or tail.slopes is not None:
            return None
        return self._average(inner, *average, nodes[0], name, meaning)

    def _codes_of_function(self, value: Pending, meaning: Quantization, name: str) -> str | None:
        functions: list[Function] = []
        inner: Value = value
        while isinstance(inner, Pending):
            found = function_of(inner)
            if found is None:
                return None
            functions.insert(0, found[:2])
            inner = found[2]
        if not isinstance(inner, Dequantized):
            return None
        return self._rescaled(inner.node, meaning, name, tuple(functions))

    def _of_real_values(self, value: Pending, meaning: Quantization | None, name: str) -> str | None:
        """What gives codes or real values."""
        node = self._norm(value, meaning, name) or self._product(value, meaning, name)
        return node or self._softmax(value, meaning, name)

    def _product(self, value: Pending, meaning: Quantization | None, name: str) -> str | None:
        """Of two values of codes, with numbers that multiply it or them."""
        outer = unmoved(value)
        product = outer.value
        if not isinstance(product, Pending) or product.op_type != "MatMul":
            return None
        first, second = (
            self._operand(v, f"{name}/{role}") for v, role in zip(product.inputs, "ab", strict=True)
        )
        if first is None or second is None:
            return None
        (a, a_factor), (b, b_factor) = first, second
        left, right = self._shapes[a], self._shapes[b]
        if len(left) not in (2, 3) or right[:-1] != (*left[:-2], left[-1]) or left[-1] > MOST_PRODUCT_DEPTH:
            raise PtqxError(
                f"{product.label}: of {list(left)} and {list(right)} a sample; only [rows, m, k] and "
                f"[rows, k, n], with or without rows, k at most {MOST_PRODUCT_DEPTH:,}, can be read"
            )
        axis = len(left) - 1
        inputs = [self._image(a, axis, f"{name}/a"), self._image(b, axis - 1, f"{name}/b")]
        attrs = {"factor": outer.factor * a_factor * b_factor}
        shape = (self._shapes[inputs[1]][2], *self._shapes[inputs[0]][1:])

        def make(image: str) -> str:
            return self._add(image, "matmul", inputs, attrs, {}, meaning, shape)

        return self._from_image(make, axis, outer.dims, value.shape, name)

    def _operand(self, value: Value | None, name: str) -> tuple[str, float] | None:
        """The node of codes that `value` is, transposed perhaps, and what multiplies them."""
        inner = None if value is None else unmoved(value)
        if inner is None or not isinstance(inner.value, Dequantized):
            return None
        node = inner.value.node
        return self._permuted(node, inner.dims, f"{name}/moved") if inner.dims else node, inner.factor

    def _softmax(self, value: Pending, meaning: Quantization | None, name: str) -> str | None:
        """Over any dimension but the batch."""
        outer = unmoved(value)
        softmax = outer.value
        if not isinstance(softmax, Pending) or softmax.op_type not in SOFTMAX or outer.factor != 1.0:
            return None
        x, log = softmax.inputs[0], softmax.op_type == "LogSoftmax"
        if x is None or (log and meaning is not None):
            return None
        shape, axis = softmax.shape, softmax.attrs.get("axis", -1) % (len(softmax.shape) + 1) - 1
        if axis < 0 or len(shape) > 3:
            raise PtqxError(f"{softmax.label}: over axis {axis + 1} of {list(shape)} a sample can't be read")
        if isinstance(x, Dequantized):
            node = self._image(x.node, axis, f"{name}/x")
            image = self.real(x if node == x.node else Dequantized(node, ""))
        else:
            image = self._image(self.real(x), axis, f"{name}/x")

        def make(made: str) -> str:
            attrs, reason = {"log": log}, "exponentials are real numbers"
            return self._add(made, "softmax", [image], attrs, {}, meaning, self._shapes[image], reason)

        return self._from_image(make, axis, outer.dims, value.shape, name)

    def _norm(self, value: Pending, meaning: Quantization | None, name: str) -> str | None:
        norm = group_norm_of(value)
        if norm is None:
            return self._layer_norm(value, meaning, name)
        attrs = {"groups": norm.groups, "eps": norm.eps}
        x = self.real(norm.x)
        return self._add(name, "group_norm", [x], attrs, _parameters(norm), meaning, value.shape, REASON)

    def _layer_norm(self, value: Pending, meaning: Quantization | None, name: str) -> str | None:
        """Over the channels of [N, C], or of [N, C, H, W] between transposes to and from [N, H, W, C]."""
        norm = layer_norm_of(value.inputs[0] if is_transpose(value, TO_FIRST) else value)
        if norm is None or (len(value.shape) == 3) != is_transpose(value, TO_FIRST):
            return None
        x = self.real(norm.x) if len(value.shape) == 1 else self._before_transpose(norm)
        if x is None:
            return None
        attrs = {"eps": norm.eps}
        return self._add(name, "layer_norm", [x], attrs, _parameters(norm), meaning, value.shape, REASON)

    def _before_transpose(self, norm: LayerNorm) -> str | None:
        """float32 of what is transposed to [N, H, W, C] for it; codes were transposed as codes."""
        if isinstance(norm.x, Pending) and is_transpose(norm.x, TO_LAST) and norm.x.inputs[0] is not None:
            return self.real(norm.x.inputs[0])
        if isinstance(norm.x, Dequantized):
            node = self.nodes[norm.x.node]
            if node.op == "permute" and node.attrs["dims"] == TO_LAST:
                return self.real(Dequantized(node.inputs[0], ""))
        return None

    def moved(self, value: Pending) -> Value:
        """A movement of codes gives codes, quantized again or not; all else is `value` itself."""
        if not value.inputs or not all(isinstance(v, Dequantized) for v in value.inputs[:1]):
            return value
        nodes = [v.node for v in value.inputs if isinstance(v, Dequantized)]
        output, name = self._widest_output(nodes), f"{value.tensor}/codes"
        if value.op_type == "Concat":
            meanings = {self.quantization(node) for node in nodes}
            if len(nodes) < len(value.inputs) or len(meanings) > 1:
                return value
            node = self._add(name, "cat", nodes, {"dim": _channels(value)}, {}, output, value.shape)
        elif value.op_type in MOVERS:
            node = self._move(value, nodes[0], name, output)
        else:
            return value
        self._unnamed.add(node)
        return Dequantized(node, value.tensor)

    def _move(self, value: Pending, x: str, name: str, output: Output | None) -> str:
        """A movement of what the node `x` gives."""
        steps = blocks_of(value, self._shapes[x])
        if steps is None:
            op, attrs = MOVEMENTS[value.op_type](value, self._shapes[x])
            whole = self._rearranged(x, value.shape) if op == "reshape" else None
            x, steps = whole or (x, [(op, attrs, value.shape)])
        for number, (op, attrs, shape) in enumerate(steps, 1):
            before = self.nodes.get(x)
            if before is not None and is_undone(before, op, attrs, shape):
                x = before.inputs[0]
                continue
            own = name if number == len(steps) else f"{name}/{op}"
            x = self._add(own, op, [x], attrs, {}, output, shape)
        return x

    def _rearranged(self, permuted: str, shape: tuple[int, ...]) -> tuple[str, list[Step]] | None:
        """What a reshape to `shape` is with the reshape and the permute before it, and of which node."""
        permute = self.nodes.get(permuted)
        split = self.nodes.get(permute.inputs[0]) if permute and permute.op == "permute" else None
        if permute is None or split is None or split.op != "reshape":
            return None
        source = split.inputs[0]
        step = rearranged(self._shapes[source], self._shapes[split.name], list(permute.attrs["dims"]), shape)
        return (source, [step]) if step else None

    # ---- real values ----

    def real(self, value: Value) -> str:
        """The node that gives `value` in float32."""
        if isinstance(value, Real):
            return value.node
        if isinstance(value, Constant | QuantizedConstant):
            raise PtqxError("a constant tensor is an operand; only numbers, weights and biases can be read")
        if id(value) not in self._real:
            self._real[id(value)] = value, self._in_float(value)
        return self._real[id(value)][1]

    def _in_float(self, value: Value) -> str:
        if isinstance(value, Dequantized):
            shape = self._shapes[value.node]
            name = value.tensor or f"{value.node}/real"
            return self._add(name, "dequantize", [value.node], {}, {}, None, shape)
        if not isinstance(value, Pending):
            raise PtqxError("codes are used as if they were real values; dequantize them first")
        inner, tail = peeled(value)
        layer = layer_of(inner)
        if layer is not None:
            return self._layer(layer, tail, value.tensor, value.shape, None, None)
        return self._of_real_values(value, None, value.tensor) or self._operation_in_float(value)

    def _operation_in_float(self, value: Pending) -> str:
        name, shape = value.tensor, value.shape
        found = function_of(value)
        if found is not None:
            attrs = _real_function(*found[:2])
            return self._add(name, "activation", [self.real(found[2])], attrs, {}, None, shape)
        inputs = [v for v in value.inputs if v is not None]
        if value.op_type in ("Add", "Mul") and not any(array_of(v) is not None for v in inputs):
            first, second = sorted(map(self.real, inputs), key=lambda node: self._shapes[node] != shape)
            self._require_broadcast(value, first, second)
            return self._add(name, value.op_type.lower(), [first, second], Tail().attrs(1.0), {}, None, shape)
        if value.op_type == "Concat":
            attrs = {"dim": _channels(value)}
            return self._add(name, "cat", [self.real(v) for v in inputs], attrs, {}, None, shape)
        if value.op_type in MOVERS:
            return self._move(value, self.real(inputs[0]), name, None)
        if value.op_type in ("GlobalAveragePool", "AveragePool", "ReduceMean"):
            x = self.real(inputs[0])
            average = average_of(value, self._shapes[x])
            assert average is not None
            return self._average(value, *average, x, name, None)
        numbers = array_of(value.inputs[0]) if value.op_type == "Expand" else None
        if numbers is not None:
            values = torch.tensor(np.broadcast_to(numbers, (1, *shape))[0]).float()
            return self._add(name, "constant", [self.input], {}, {"values": values}, None, shape)
        if value.op_type == "MatMul" and not any(array_of(v) is not None for v in inputs):
            raise PtqxError(f"{value.label}: of two computed values only if both of them are quantized")
        raise PtqxError(
            f"{value.label}: ptqx has no such operation here; replace it in the float model, "
            "or end the model before it"
        )

    # ---- both ----

    def shape_of(self, value: Value) -> tuple[int, ...]:
        return value.shape if isinstance(value, Pending) else self._shapes[self.real(value)]

    def _layer(
        self,
        layer: Layer,
        tail: Tail,
        name: str,
        shape: tuple[int, ...],
        meaning: Quantization | None,
        residual: str | None,
    ) -> str:
        integer = runs_in_integers(layer)
        if integer:
            assert isinstance(layer.x, Dequantized)
            x, scale = layer.x.node, self.quantization(layer.x.node).scale
        else:
            x, scale = self.real(layer.x), np.float32(1.0)
        if layer.zeros is not None:
            x = self._with_zeros(x, layer.zeros, name)
        lowered = lowered_layer(layer, scale, integer, name)
        attrs = {**lowered.attrs, **tail.attrs(1.0 if meaning is None else meaning.scale)}
        if tail.slopes is not None:
            slopes = np.broadcast_to(tail.slopes.reshape(-1), attrs["weight_shape"][0])
            lowered.tensors["slopes"] = torch.from_numpy(slopes.astype(np.float32).copy())
        inputs = [x] if residual is None else [x, residual]
        op = layer.op if integer else f"{layer.op}_float"
        reason = "" if integer else "its input or its weights are not quantized in the ONNX file"
        return self._add(name, op, inputs, attrs, lowered.tensors, meaning, shape, reason)

    def _with_zeros(self, x: str, factor: list[int], name: str) -> str:
        channels, *sizes = self._shapes[x]
        shape = (channels, *((size - 1) * f + 1 for size, f in zip(sizes, factor, strict=True)))
        output = self.nodes[x].output if x in self.nodes else None
        attrs = {"scale_factor": list(factor)}
        return self._add(f"{name}/zeros", "upsample_zeros2d", [x], attrs, {}, output, shape)

    def _average(
        self, value: Pending, op: str, attrs: dict[str, Any], x: str, name: str, meaning: Quantization | None
    ) -> str:
        channels = self._shapes[x][0]
        if len(value.shape) != 1:
            return self._add(name, op, [x], attrs, {}, meaning, value.shape)
        pooled = self._add(f"{name}/pooled", op, [x], attrs, {}, meaning, (channels, 1, 1))
        flat = {"sample_shape": [channels]}
        output = None if meaning is None else self.nodes[pooled].output
        return self._add(name, "reshape", [pooled], flat, {}, output, value.shape)

    def _require_broadcast(self, value: Pending, first: str, second: str) -> None:
        shapes = self._shapes[first], self._shapes[second]
        smaller = [(value.shape[0], 1, 1), (1, *value.shape[1:])] if value.op_type == "Mul" else []
        if shapes[0] != value.shape or shapes[1] not in (value.shape, *smaller):
            raise PtqxError(f"{value.label}: operands of shapes {shapes[0]} and {shapes[1]} per sample")


def _real_function(name: str, args: list[Any]) -> dict[str, Any]:
    if ACTIVATIONS[name].tail is not None:
        return Tail((name, args)).attrs(1.0)
    return {"activation": name, "activation_args": args}


def _parameters(norm: LayerNorm) -> dict[str, torch.Tensor]:
    return {"weight": torch.from_numpy(norm.weight.copy()), "bias": torch.from_numpy(norm.bias.copy())}


def _channels(value: Pending) -> int:
    axis = value.attrs.get("axis", 1) % (len(value.shape) + 1)
    if axis == 0:
        raise PtqxError(f"{value.label}: batches can't be concatenated")
    return int(axis)
