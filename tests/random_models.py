"""Random step models with branches, loops, scans and lists inside of one another, and states between the calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx_files import BOOL, F32, I64, Typed, make, noise

node = helper.make_node
SHAPE = [2, 3]
#: how state inputs and outputs are called
NAMES = (("state{}", "state{}N"), ("h{}_in", "h{}_out"), ("cache_in_{}", "cache_out_{}"), ("in{}", "10{}"))


class Part:
    """A graph as it grows: its nodes, its constants, and the values of [2, 3] that it can use."""

    def __init__(self, values: Sequence[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {}
        self.values = list(values)

    def graph(self, inputs: Sequence[Typed], outputs: Sequence[Typed]) -> onnx.GraphProto:
        return make(self.nodes, inputs, outputs, self.constants).graph


class Model:
    """One random model; the seed decides everything."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0
        self.left = 30  # values still to be made of others

    def build(self) -> tuple[onnx.ModelProto, dict[str, str]]:
        """The model, x and states -> y and states, and its state pairs."""
        style = self.pick(NAMES)
        pairs = {style[0].format(k): style[1].format(k) for k in range(self.number(1, 4))}
        part = Part(["x", *pairs])
        self.grow(part, self.number(2, 6), 0)
        part.nodes.append(node("Sum", [part.values[-1], *pairs], ["y"]))
        for name in pairs.values():
            part.nodes.append(node(self.pick(("Tanh", "Identity", "Neg")), [self.pick(part.values[1:])], [name]))
        typed = [[(name, F32, SHAPE) for name in names] for names in (("x", *pairs), ("y", *pairs.values()))]
        return make(part.nodes, typed[0], typed[1], part.constants), pairs

    # -- parts ------------------------------------------------------------------------------------------------------

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def pick(self, things: Sequence[Any]) -> Any:
        return things[self.number(0, len(things) - 1)]

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def constant(self, part: Part, value: Any) -> str:
        name = self.name()
        part.constants[name] = np.asarray(value)
        return name

    def op(self, part: Part, op: str, *inputs: str, **attrs: Any) -> str:
        name = self.name()
        part.nodes.append(node(op, list(inputs), [name], **attrs))
        return name

    def summed(self, part: Part, value: str) -> str:
        """The sum of a stack of values."""
        return self.op(part, "ReduceSum", value, self.constant(part, [0]), keepdims=0)

    def grow(self, part: Part, values: int, depth: int) -> None:
        kinds: list[Callable[[Part, int], str]] = [self.pointwise, self.pointwise, self.product, self.moved, self.cell]
        for _ in range(values):
            self.left -= 1
            deeper = [self.loop, self.loop, self.scan, self.branch, self.listed] if depth < 3 and self.left > 0 else []
            part.values.append(self.pick([*kinds, *deeper])(part, depth))

    def inner(self, part: Part, own: Sequence[str], depth: int) -> Part:
        """A body that sees what is around it."""
        body = Part([*part.values, *own])
        self.grow(body, self.number(1, 3), depth + 1)
        return body

    # -- values -----------------------------------------------------------------------------------------------------

    def pointwise(self, part: Part, depth: int) -> str:
        if self.number(0, 1):
            return self.op(part, self.pick(("Tanh", "Sigmoid", "Neg", "Identity")), self.pick(part.values))
        return self.op(part, self.pick(("Add", "Mul", "Sub", "Max")), self.pick(part.values), self.pick(part.values))

    def product(self, part: Part, depth: int) -> str:
        return self.op(part, "MatMul", self.pick(part.values), self.constant(part, noise(self.count, 3, 3) / 2))

    def moved(self, part: Part, depth: int) -> str:
        turned = self.op(part, "Transpose", self.pick(part.values), perm=[1, 0])
        return self.op(part, "Reshape", turned, self.constant(part, SHAPE))

    def cell(self, part: Part, depth: int) -> str:
        axis = self.constant(part, [0])
        x, h = (self.op(part, "Unsqueeze", self.pick(part.values), axis) for _ in range(2))
        weights = [self.constant(part, noise(self.count, 1, 9, 3) / 2) for _ in range(2)]
        last = self.name()
        part.nodes.append(node("GRU", [x, *weights, "", "", h], ["", last], hidden_size=3, linear_before_reset=1))
        return self.op(part, "Squeeze", last, axis)

    def loop(self, part: Part, depth: int) -> str:
        """A Loop that ends by its trip count, by its number, or by what it computes."""
        ends = self.pick(("trips", "number", "value"))
        carried = [(self.name(), self.pick(part.values)) for _ in range(self.number(1, 3))]
        i, c = self.name(), self.name()
        body = self.inner(part, [name for name, _ in carried], depth)
        nexts = [self.op(body, "Identity", self.pick(body.values)) for _ in carried]
        if ends == "number":
            going = self.op(body, "Less", i, self.constant(body, self.number(1, 4)))
        elif ends == "value":
            total = self.op(body, "ReduceSum", body.values[-1], keepdims=0)
            going = self.op(body, "Less", total, self.constant(body, np.float32(self.number(1, 4))))
        else:
            going = self.op(body, "Identity", c)
        rows = [self.op(body, "Identity", body.values[-1])] if ends != "value" and self.number(0, 1) else []
        typed = [(name, F32, SHAPE) for name in (*nexts, *rows)]
        graph = body.graph([(i, I64, []), (c, BOOL, []), *((n, F32, SHAPE) for n, _ in carried)], [(going, BOOL, []), *typed])
        trips = "" if ends == "number" else self.constant(part, self.number(1, 5))
        names = [self.name() for _ in typed]
        given = [trips, self.constant(part, True), *(value for _, value in carried)]
        part.nodes.append(node("Loop", given, names, body=graph))
        return self.summed(part, names[-1]) if rows else self.pick(names)

    def scan(self, part: Part, depth: int) -> str:
        axis, state, row = self.constant(part, [0]), self.name(), self.name()
        rows = [self.op(part, "Unsqueeze", self.pick(part.values), axis) for _ in range(self.number(1, 4))]
        body = self.inner(part, [state, row], depth)
        results = [self.op(body, "Identity", self.pick(body.values)), self.op(body, "Identity", body.values[-1])]
        graph = body.graph([(state, F32, SHAPE), (row, F32, SHAPE)], [(name, F32, SHAPE) for name in results])
        names = [self.name(), self.name()]
        given = [self.pick(part.values), self.op(part, "Concat", *rows, axis=0)]
        ways = {"scan_input_directions": [self.number(0, 1)]}
        part.nodes.append(node("Scan", given, names, body=graph, num_scan_inputs=1, **ways))
        return names[0] if self.number(0, 1) else self.summed(part, names[1])

    def branch(self, part: Part, depth: int) -> str:
        total = self.op(part, "ReduceSum", self.pick(part.values), keepdims=0)
        condition = self.op(part, "Greater", total, self.constant(part, np.float32(0)))
        graphs = []
        for _ in range(2):
            body = self.inner(part, [], depth)
            graphs.append(body.graph([], [(self.op(body, "Identity", self.pick(body.values)), F32, SHAPE)]))
        return self.op(part, "If", condition, then_branch=graphs[0], else_branch=graphs[1])

    def listed(self, part: Part, depth: int) -> str:
        """A list that a loop adds to."""
        first = self.op(part, "SequenceConstruct", self.pick(part.values))
        held, i, c = self.name(), self.name(), self.name()
        body = self.inner(part, [], depth)
        longer, going = self.op(body, "SequenceInsert", held, body.values[-1]), self.op(body, "Identity", c)
        graph = body.graph([(i, I64, []), (c, BOOL, [])], [(going, BOOL, [])])
        graph.input.append(helper.make_tensor_sequence_value_info(held, F32, None))
        graph.output.append(helper.make_tensor_sequence_value_info(longer, F32, None))
        last = self.op(part, "Loop", self.constant(part, self.number(1, 3)), "", first, body=graph)
        if self.number(0, 1):
            return self.op(part, "SequenceAt", last, self.constant(part, -1))
        return self.summed(part, self.op(part, "ConcatFromSequence", last, axis=0, new_axis=1))
