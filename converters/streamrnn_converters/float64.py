"""The original ONNX file in float64: a third answer where onnxruntime and the engine differ.

The file's floats are widened and onnx's own reference evaluator runs it. It shares with the engine NumPy and the parsing of
protobuf, and nothing else: no reader, no pass, no op, no kernel, no plan. Three of onnx's ops are replaced here by their
formulas: its ConvTranspose puts groups of several channels in the wrong places, its BatchNormalization before opset 14
normalises by the batch, and its Loop lets outer values hide what is carried and joins stacked outputs along an axis they have.

What it cannot run: what onnx's evaluator lacks (quantised ops of opset 10, com.microsoft, Scan along another axis or backwards)
and lists of tensors that SplitToSequence made without a kept axis.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn_converters.oracle import FileInput
from streamrnn_converters.surgery import read_model

#: CPU seconds that one validation may spend on float64; looked at between two calls of the file
BUDGET = 120.0
#: seconds between two reports of progress
_PATIENCE = 10.0
#: attributes that name the type of what a node gives
_TYPES = ("to", "dtype", "output_dtype", "output_datatype")
#: ReferenceEvaluator calls ops in its own way
_Op: Any = OpRun


class BatchNormalization(_Op):  # type: ignore[misc]
    """(x - mean) / sqrt(var + epsilon) * scale + bias for each channel, by the stored statistics."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **attributes: Any) -> tuple[Array]:
        if attributes.get("training_mode") or attributes.get("spatial", 1) == 0:
            raise NotImplementedError("BatchNormalization by the statistics of the batch, or of each element")
        rows = [a.reshape(-1, *[1] * (x.ndim - 2)) for a in (scale, bias, mean, var)]
        return ((x - rows[2]) / np.sqrt(rows[3] + attributes["epsilon"]) * rows[0] + rows[1],)


class ConvTranspose(_Op):  # type: ignore[misc]
    """y[n, m, i * stride + k * dilation - pad] += x[n, c, i] * w[c, m, k] within each group."""

    op_domain = ""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        if attributes.get("output_shape") is not None or attributes.get("auto_pad") not in (None, "NOTSET", "VALID"):
            raise NotImplementedError("ConvTranspose whose pads follow from its output shape")
        nd, sizes, taps = x.ndim - 2, x.shape[2:], w.shape[2:]
        groups = attributes.get("group") or 1
        stride, dilation = (attributes.get(key) or [1] * nd for key in ("strides", "dilations"))
        pads, extra = attributes.get("pads") or [0] * 2 * nd, attributes.get("output_padding") or [0] * nd
        inner = x.reshape(x.shape[0], groups, -1, *sizes)
        weight = w.reshape(groups, -1, *w.shape[1:])
        full = [(sizes[d] - 1) * stride[d] + (taps[d] - 1) * dilation[d] + 1 + extra[d] for d in range(nd)]
        y = np.zeros((x.shape[0], groups, w.shape[1], *full), x.dtype)
        for tap in np.ndindex(*taps):
            first = [tap[d] * dilation[d] for d in range(nd)]
            at = tuple(slice(first[d], first[d] + (sizes[d] - 1) * stride[d] + 1, stride[d]) for d in range(nd))
            y[:, :, :, *at] += np.einsum("ngc...,gcm->ngm...", inner, weight[:, :, :, *tap])
        y = y.reshape(x.shape[0], -1, *full)
        y = y[:, :, *(slice(pads[d], full[d] - pads[nd + d]) for d in range(nd))]
        return (y if b is None else y + b.reshape(-1, *[1] * nd),)


class Loop(_Op):  # type: ignore[misc]
    """The body while its condition holds, at most `trips` times; outputs beyond the carried values are stacked."""

    op_domain = ""

    def need_context(self) -> bool:
        return True

    def _run(
        self, trips: Array | None, go: Array | None, *carried: Any, context: Mapping[str, Any] | None = None, **rest: Any
    ) -> tuple[Any, ...]:
        names, results = self.body.input_names, self.body.output_names
        count, values = len(names) - 2, list(carried)
        stacked: list[list[Array]] = [[] for _ in results[count + 1 :]]
        going, turn = go is None or bool(np.all(go)), 0
        while going and (trips is None or turn < int(np.ravel(trips)[0])):
            own = dict(zip(names, [np.array(turn, np.int64), np.array(going), *values], strict=True))
            found = self._run_body({**(context or {}), **own}, attributes=rest.get("attributes"))
            going, values, turn = bool(np.all(found[0])), list(found[1 : count + 1]), turn + 1
            for column, value in zip(stacked, found[count + 1 :], strict=True):
                column.append(value)
        if stacked and not turn:
            raise NotImplementedError("Loop that never runs and stacks values")
        return (*values, *(np.stack(column) for column in stacked))


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose float32 is float64: weights, constants, inputs, outputs and what nodes are told to give."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _widen_graph(copy.graph)
    for function in copy.functions:
        for node in function.node:
            _widen_node(node)
    return copy


def _widen_graph(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.name in _TYPES and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        if attribute.HasField("g"):
            _widen_graph(attribute.g)
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value = np.asarray(attribute.f if attribute.name == "value_float" else list(attribute.floats), np.float64)
            attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(value)))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


class Clock:
    """CPU time spent on float64. `planned`: calls that the current question needs, 0 where that is not known."""

    def __init__(self, budget: float, notify: Callable[[str], None]) -> None:
        self.spent, self._budget, self._notify = 0.0, budget, notify
        self.ask(0)

    def ask(self, planned: int) -> None:
        """Begin another question."""
        self._planned, self._calls, self._begun, self._told = planned, 0, self.spent, time.monotonic()

    def check(self, seconds: float) -> None:
        """Another call took `seconds`. Raises UnsupportedError as soon as the rest of the budget will not do."""
        self.spent += seconds
        self._calls += 1
        whole = self._begun + (self.spent - self._begun) / self._calls * max(self._planned, self._calls)
        if self.spent > self._budget or (self._calls > 2 and whole > self._budget):
            raise UnsupportedError(f"it takes longer than {self._budget:.0f} s: about {whole:.0f} s of CPU time")
        if time.monotonic() - self._told > _PATIENCE:
            self._told = time.monotonic()
            self._notify(f"float64: {self._calls} of {self._planned or '?'} calls, about {whole - self.spent:.0f} s to go")


class Float64:
    """A file in float64, with the interface of a Session. Raises UnsupportedError where it cannot be evaluated."""

    optimised = False

    def __init__(self, model: str | Path | bytes, clock: Clock) -> None:
        self.model = model if isinstance(model, bytes) else str(model)
        self.clock = clock
        proto = widened(read_model(model))
        given = {tensor.name for tensor in proto.graph.initializer}
        self.inputs = {i.name: _file_input(i) for i in proto.graph.input if i.name not in given}
        self.outputs = tuple(output.name for output in proto.graph.output)
        self._run = _guarded(lambda: ReferenceEvaluator(proto, new_ops=[BatchNormalization, ConvTranspose, Loop])).run

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
        begun = time.process_time()
        given = {name: self.inputs[name].fitted(value) for name, value in feeds.items() if name in self.inputs}
        with np.errstate(all="ignore"):
            values = _guarded(lambda: self._run(None, given))
        self.clock.check(time.process_time() - begun)
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}

    def on(self, model: bytes) -> Float64:
        """Another form of the file, evaluated alike."""
        return Float64(model, self.clock)


def _file_input(declared: onnx.ValueInfoProto) -> FileInput:
    kind = declared.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
    return FileInput(declared.name, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), dims)


def _guarded(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # onnx raises many unrelated types, and NumPy's own pass through
        cause = error.__cause__ or error
        raise UnsupportedError(str(cause).strip().splitlines()[0][:200] if str(cause).strip() else repr(cause)) from None
