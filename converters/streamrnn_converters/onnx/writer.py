"""A step graph back as an ONNX step model: state goes in and out by name, so that onnxruntime can run one frame at a time.

A sequence file cannot do that. The written model is what `bench` compares with, and a second opinion on `streamify`:
onnxruntime on it must give what the engine gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn.ir.types import TensorType

#: an opset that every supported onnxruntime knows and in which the ops have the reader's newest form
OPSET = 21
#: attributes of step graphs that ONNX does not know
_OWN = ("warmup", "chunked")
_DTYPE_ATTRS = ("to", "dtype")


def write_step_model(graph: Graph) -> onnx.ModelProto:
    """The ONNX model of a step graph that is not fused yet (`convert(..., dump=)` shows it after "align").

    State s is the input `s` and the output `s.out`; `step` counts the steps where the graph has a delay. Raises
    UnsupportedError for a graph that takes several frames a step, or was fused.
    """
    if int(str(graph.meta.get("frames", 1))) != 1:
        raise UnsupportedError(f"model '{graph.name}' takes several frames a step; no ONNX step model is written for it")
    return _Writer(graph).model()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = dict(graph.constants)
        self.inputs: dict[str, TensorType] = {name: graph.types[name] for name in graph.inputs}
        self.outputs: dict[str, TensorType] = {}
        self.rings = {n.inputs[1]: n for n in graph.nodes if n.op == "Window" and len(n.inputs) > 1}
        self.heads = {n.inputs[2] for n in self.rings.values()}
        self.counts = any(s.delay for s in graph.streams.values())

    def model(self) -> onnx.ModelProto:
        for state in self.graph.states:
            if state.read not in self.rings and state.read not in self.heads:
                self.inputs[state.read] = self.graph.types[state.read]
        if self.counts:
            self.inputs["step"] = TensorType.of(np.zeros(1, np.int64))
            self.emit("Add", ["step", self.constant("one", np.array([1]))], ["step.out"])
            self.outputs["step.out"] = self.inputs["step"]
        for node in self.graph.nodes:
            if node.op == "Window":
                self.window(node)
            else:
                self.node(node)
        for state in self.graph.states:
            if state.read in self.inputs:
                self.state(state)
        for name in self.graph.outputs:
            self.output(name)
        return self.finish()

    def finish(self) -> onnx.ModelProto:
        def infos(typed: Mapping[str, TensorType]) -> list[Any]:
            kinds = {n: helper.np_dtype_to_tensor_dtype(t.dtype.numpy) for n, t in typed.items()}
            return [helper.make_tensor_value_info(n, kinds[n], list(t.shape)) for n, t in typed.items()]

        arrays = [numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "step", infos(self.inputs), infos(self.outputs), arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model)
        return model

    # -- pieces ---------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, outputs, **attrs))
        return outputs[0]

    def constant(self, name: str, value: Array) -> str:
        self.constants[f"const.{name}"] = value
        return f"const.{name}"

    def after(self, delay: int) -> str:
        """A truth value: whether `delay` steps were made."""
        name = f"after{delay}"
        if not any(name in node.output for node in self.nodes):
            self.emit("GreaterOrEqual", ["step", self.constant(name, np.array([delay]))], [name])
        return name

    def gate(self, delay: int, value: str, filler: str, out: str) -> str:
        """`value` once `delay` steps were made, `filler` before."""
        return self.emit("Where", [self.after(delay), value, filler], [out])

    def node(self, node: Node) -> None:
        if node.op == "Fused":
            raise UnsupportedError(f"node '{node.name}' was fused; write the graph as it is before the fuse pass")
        attrs: dict[str, Any] = {k: v for k, v in node.attrs.items() if v is not None and k not in _OWN}
        for name in _DTYPE_ATTRS:
            if isinstance(attrs.get(name), str):
                attrs[name] = int(helper.np_dtype_to_tensor_dtype(np.dtype(str(attrs[name]))))
        if node.op in ("LSTM", "GRU", "RNN"):
            attrs.setdefault("hidden_size", self.graph.types[node.inputs[2]].shape[2])
        self.nodes.append(helper.make_node(node.op, list(node.inputs), list(node.outputs), name=node.name, **attrs))

    def window(self, node: Node) -> None:
        """The ring as a plain queue along the time axis: [past, x], of which taps are gathered and the newest frames kept."""
        x, y = node.inputs[0], node.outputs[0]
        type_ = self.graph.types[x]
        axis, history = int(str(node.attrs["axis"])), int(str(node.attrs.get("history", 0)))
        if axis < 0:
            raise UnsupportedError(f"node '{node.name}': a delayed answer has no ONNX step model")
        taps, dilation = int(str(node.attrs["taps"])), int(str(node.attrs["dilation"]))
        fill = np.array(float(str(node.attrs.get("fill", 0.0))), np.float32)
        warmup = int(str(node.attrs.get("warmup", 0)))
        if warmup:
            x = self.gate(warmup, x, self.constant(f"{node.name}.fill", fill), f"{node.name}.x")
        both = x
        if history:
            past = type_.with_shape(tuple(history if d == axis else n for d, n in enumerate(type_.shape)))
            queue = f"{node.name}.queue"
            self.inputs[queue] = past
            both = self.emit("Concat", [queue, x], [f"{node.name}.both"], axis=axis)
            newest = self.constant(f"{node.name}.newest", np.arange(1, history + 1))
            self.emit("Gather", [both, newest], [f"{queue}.out"], axis=axis)
            self.outputs[f"{queue}.out"] = past
        picked = self.constant(f"{node.name}.taps", np.arange(taps) * dilation)
        self.emit("Gather", [both, picked], [y], axis=axis)

    def state(self, state: State) -> None:
        """The next value of a state, which filler must not touch."""
        warmup = 0
        for node in self.graph.nodes:
            if state.write in node.outputs:
                warmup = int(str(node.attrs.get("warmup", 0)))
        out = f"{state.read}.out"
        if warmup:
            self.gate(warmup, state.write, state.read, out)
        else:
            self.emit("Identity", [state.write], [out])
        self.outputs[out] = self.graph.types[state.read]

    def output(self, name: str) -> None:
        stream = self.graph.streams.get(name)
        out = f"{name}.now"
        if stream is not None and stream.delay:
            zero = self.constant(f"{name}.zero", np.zeros((), self.graph.types[name].dtype.numpy))
            self.gate(stream.delay, name, zero, out)
        else:
            self.emit("Identity", [name], [out])
        self.outputs[out] = self.graph.types[name]


def initial_state(graph: Graph, model: onnx.ModelProto) -> dict[str, Array]:
    """The state inputs of a written model at reset: zeros for the step count, `fill` for queues, `init` for states."""
    found: dict[str, Array] = {}
    inits = {s.read: s.init for s in graph.states}
    fills = {f"{n.name}.queue": float(str(n.attrs.get("fill", 0.0))) for n in graph.nodes if n.op == "Window"}
    for info in model.graph.input:
        if info.name in graph.inputs:
            continue
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        if info.name in inits:
            found[info.name] = inits[info.name]
        elif info.name in fills:
            found[info.name] = np.full(shape, fills[info.name], np.float32)
        else:
            found[info.name] = np.zeros(shape, np.int64)
    return found
