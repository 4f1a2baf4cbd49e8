"""A step graph back as an ONNX step model: state goes in and out by name, so that onnxruntime can run one frame at a time.

A sequence file cannot do that. The written model is what `bench` compares with, and a second opinion on `streamify`:
onnxruntime on it must give what the engine gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array, Graph, Node, State
from streamrnn.ir.types import DType, TensorType
from streamrnn.ops.window import fill_of
from streamrnn_converters.names import Names
from streamrnn_converters.onnx.schema import node_problem

#: an opset that every supported onnxruntime knows and in which the ops have the reader's newest form
OPSET = 21
#: ops of onnxruntime's own domain that step graphs hold without it
_CONTRIB = ("DynamicQuantizeLSTM", "FusedMatMul")
#: attributes of step graphs that ONNX does not know
_OWN = ("warmup", "chunked")


@dataclass(frozen=True)
class StepModel:
    """An ONNX model that is called once a step.

    init:     state input -> its array at the first call.
    feedback: state input -> the output that it takes at the next call.
    outputs:  output of the graph -> output of the model.
    """

    proto: onnx.ModelProto
    init: Mapping[str, Array]
    feedback: Mapping[str, str]
    outputs: Mapping[str, str]


def write_step_model(graph: Graph) -> StepModel:
    """The ONNX model of a step graph that is not fused yet (`convert(..., dump=)` shows it after "align").

    A state s is the input `s.in` and the output `s.out`. A ring is a plain queue along the time axis, oldest frame first; the
    engine's ring is the same turned by its head. Where the graph has a delay, `step` counts the steps. Names that the graph
    uses already get a number.

    Raises UnsupportedError for a graph that takes several frames a step or was fused, and for a node that ONNX cannot say.
    """
    if int(str(graph.meta.get("frames", 1))) != 1:
        raise UnsupportedError(f"model '{graph.name}' takes several frames a step; no ONNX step model is written for it")
    return _Writer(graph).model()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names = Names([*graph.types, *graph.constants])
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = dict(graph.constants)
        self.inputs: dict[str, TensorType] = {name: graph.types[name] for name in graph.inputs}
        self.outputs: dict[str, TensorType] = {}
        self.init: dict[str, Array] = {}
        self.feedback: dict[str, str] = {}
        self.afters: dict[int, str] = {}
        self.counter = ""
        self.hidden: set[str] = set()

    def model(self) -> StepModel:
        windows = [n for n in self.graph.nodes if n.op == "Window"]
        rings = {name for n in windows for name in n.inputs[1:]}
        # random nodes of ONNX keep their generators to themselves
        self.hidden = {name for s in self.graph.states if s.kind == "generator" for name in (s.read, s.write)}
        states = [s for s in self.graph.states if s.read not in rings | self.hidden]
        entries = {state.name: self.state(state.name, state.init) for state in states}
        for state in states:
            self.emit("Identity", [entries[state.name]], [state.read])
        for node in self.graph.nodes:
            if node.op == "Window":
                self.window(node)
            else:
                self.node(node, self.graph, {})
        for state in states:
            self.write(state, entries[state.name])
        results = {name: self.result(name) for name in self.graph.outputs}
        if self.counter:
            self.emit("Add", [self.counter, self.constant("one", np.array([1]))], [self.feedback[self.counter]])
        return StepModel(self.finish(), self.init, self.feedback, results)

    def finish(self) -> onnx.ModelProto:
        arrays = [numpy_helper.from_array(np.asarray(a, order="C"), n) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "step", _infos(self.inputs), _infos(self.outputs), arrays)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        return model

    # -- pieces ---------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), **attrs))
        return outputs[0]

    def constant(self, what: str, value: Array) -> str:
        name = self.names.fresh(what)
        self.constants[name] = value
        return name

    def state(self, what: str, init: Array) -> str:
        """A new state input; `feedback` has the output that somebody has to write."""
        name, out = self.names.fresh(f"{what}.in"), self.names.fresh(f"{what}.out")
        self.inputs[name] = self.outputs[out] = TensorType.of(init)
        self.init[name] = init
        self.feedback[name] = out
        return name

    def after(self, delay: int) -> str:
        """A truth value: whether `delay` steps were made."""
        if not self.counter:
            self.counter = self.state("step", np.zeros(1, np.int64))
        if delay not in self.afters:
            limit = self.constant(f"delay{delay}", np.array([delay]))
            self.afters[delay] = self.emit("GreaterOrEqual", [self.counter, limit], [self.names.fresh(f"after{delay}")])
        return self.afters[delay]

    def gate(self, delay: int, value: str, filler: str, out: str) -> str:
        """`value` once `delay` steps were made, `filler` before."""
        return self.emit("Where", [self.after(delay), value, filler], [out])

    def node(self, node: Node, graph: Graph, names: Mapping[str, str]) -> None:
        """A node of `graph`, whose values have other names in the written model where `names` says so."""
        if node.op == "Fused":
            raise UnsupportedError(f"node '{node.name}' was fused; write the graph as it is before the fuse pass")
        if node.bodies:
            self.control(node, graph, names)
            return
        attrs: dict[str, Any] = {k: v for k, v in node.attrs.items() if v is not None and k not in _OWN}
        if node.op == "ConstantOfShape":
            attrs = {"value": numpy_helper.from_array(np.array([attrs.get("value", 0)], str(attrs.get("dtype", "float32"))))}
        for key in ("to", "dtype"):
            if key in attrs:
                attrs[key] = int(helper.np_dtype_to_tensor_dtype(np.dtype(str(attrs[key]))))
        if node.op in ("LSTM", "GRU", "RNN"):
            attrs.setdefault("hidden_size", graph.types[node.inputs[2]].shape[2])
        inputs, outputs = (
            [names.get(name, name) for name in side if name not in self.hidden] for side in (node.inputs, node.outputs)
        )
        domain = "com.microsoft" if node.op in _CONTRIB else ""
        proto = helper.make_node(node.op, inputs, outputs, name=node.name, domain=domain, **attrs)
        problem = "" if domain else node_problem(proto, OPSET)
        if problem:
            raise UnsupportedError(f"node '{node.name}' ({node.op}) has no counterpart in ONNX opset {OPSET}: {problem}")
        self.nodes.append(proto)

    def control(self, node: Node, graph: Graph, names: Mapping[str, str]) -> None:
        """A branch or a loop. In ONNX a body reads what it captures under the name that this has outside."""
        given = [names.get(name, name) for name in node.inputs]
        if not self.hidden.isdisjoint(given):
            raise UnsupportedError(f"node '{node.name}' ({node.op}) draws random numbers in its body, which is not written")
        results = [names.get(name, name) if name else self.names.fresh(f"{node.name}.unused") for name in node.outputs]
        if node.op == "If":
            branches = [self.body(body, given[1:], 0) for body in node.bodies]
            self.emit("If", given[:1], results, then_branch=branches[0], else_branch=branches[1])
            return
        [body] = node.bodies
        if node.op == "Loop":
            count = _number(node, "carried", 0)
            self.emit("Loop", given[: 2 + count], results, body=self.body(body, given[2:], count, counts=True))
            return
        states, scans = _number(node, "states", 0), _number(node, "num_scan_inputs", 0)
        if scans:
            attrs = {key: node.attrs[key] for key in node.attrs if key == "num_scan_inputs" or key.endswith("_directions")}
            self.emit("Scan", given[: states + scans], results, body=self.body(body, given, states + scans), **attrs)
            return
        trips = self.constant(f"{node.name}.trips", np.array(_number(node, "trips", 0)))
        looped = self.body(body, given, states, counts=True, always=True)
        self.emit("Loop", [trips, "", *given[:states]], results, body=looped)

    def body(self, graph: Graph, given: list[str], own: int, *, counts: bool = False, always: bool = False) -> onnx.GraphProto:
        """A body. Its first `own` inputs are inputs, the others are captures called `given` outside.

        counts: in front of the inputs come the iteration number and the condition; with `always` it also gives a condition.
        """
        names = dict(zip(graph.inputs[own:], given[own:], strict=True))
        names.update((name, self.names.fresh(name)) for name in graph.inputs[:own])
        names.update((name, self.constant(name, array)) for name, array in graph.constants.items())
        names.update((name, self.names.fresh(name)) for node in graph.nodes for name in node.outputs if name)
        inputs = {names[name]: graph.types[name] for name in graph.inputs[:own]}
        if counts:
            number, going = self.names.fresh("number"), self.names.fresh("going")
            inputs = {number: TensorType(DType.I64, ()), going: TensorType(DType.BOOL, ()), **inputs}
        outer, self.nodes = self.nodes, []
        outputs: dict[str, TensorType] = {}
        if always:
            outputs[self.emit("Identity", [going], [self.names.fresh("going")])] = TensorType(DType.BOOL, ())
        for node in graph.nodes:
            self.node(node, graph, names)
        for name in graph.outputs:
            outputs[self.emit("Identity", [names[name]], [self.names.fresh(name)])] = graph.types[name]
        nodes, self.nodes = self.nodes, outer
        return helper.make_graph(nodes, self.names.fresh("body"), _infos(inputs), _infos(outputs))

    def window(self, node: Node) -> None:
        """[past, x] along the time axis, of which the taps are gathered and the newest frames are kept."""
        x, y = node.inputs[0], node.outputs[0]
        type_, axis, history = self.graph.types[x], _number(node, "axis", 0), _number(node, "history", 0)
        if node.attrs.get("edge"):
            raise UnsupportedError(f"node '{node.name}' waits for the first frame to repeat it, which no ONNX step model does")
        fill = fill_of(node, type_.dtype)
        warmup = _number(node, "warmup", 0)
        if warmup:
            x = self.gate(warmup, x, self.constant(f"{node.name}.fill", fill), self.names.fresh(f"{node.name}.x"))
        answer = axis < 0  # one answer for all frames: the queue has a time axis of its own
        if answer:
            axis, type_ = 0, type_.with_shape((1, *type_.shape))
            first = self.constant(f"{node.name}.axis", np.array([0]))
            x = self.emit("Unsqueeze", [x, first], [self.names.fresh(f"{node.name}.frame")])
        if history:
            shape = [history if d == axis else n for d, n in enumerate(type_.shape)]
            queue = self.state(node.name, np.full(shape, fill))
            x = self.emit("Concat", [queue, x], [self.names.fresh(f"{node.name}.all")], axis=axis)
            newest = self.constant(f"{node.name}.newest", np.arange(1, history + 1))
            self.emit("Gather", [x, newest], [self.feedback[queue]], axis=axis)
        taps = np.arange(_number(node, "taps", 1)) * _number(node, "dilation", 1)
        picked = self.constant(f"{node.name}.taps", taps[0] if answer else taps)
        self.emit("Gather", [x, picked], [y], axis=axis)

    def write(self, state: State, name: str) -> None:
        """The next value of the state with input `name`, which filler must not touch."""
        node = self.graph.producers().get(state.write)
        warmup = _number(node, "warmup", 0) if node is not None else 0
        if warmup:
            self.gate(warmup, state.write, name, self.feedback[name])
        else:
            self.emit("Identity", [state.write], [self.feedback[name]])

    def result(self, name: str) -> str:
        stream, type_ = self.graph.streams.get(name), self.graph.types[name]
        out = self.names.fresh(f"{name}.now")
        self.outputs[out] = type_
        if stream is not None and stream.delay:
            return self.gate(stream.delay, name, self.constant(f"{name}.zero", np.zeros((), type_.dtype.numpy)), out)
        return self.emit("Identity", [name], [out])


def _infos(typed: Mapping[str, TensorType]) -> list[Any]:
    kinds = {n: helper.np_dtype_to_tensor_dtype(t.dtype.numpy) for n, t in typed.items()}
    return [helper.make_tensor_value_info(n, kinds[n], list(t.shape)) for n, t in typed.items()]


def _number(node: Node, name: str, default: int) -> int:
    value = node.attrs.get(name, default)
    assert isinstance(value, int)
    return value
