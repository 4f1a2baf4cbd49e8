"""Every opset from 7 on, brought to the newest form once, so that an op knows one form only.

`RULES` is the table: which op, in opsets before which, becomes what. The nodes that a rule writes are in the newest form.
Source: the changelog of each operator, onnx.ai/onnx/operators (opsets 7 to 28 were compared).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from streamrnn.ir.graph import Array, Attr
from streamrnn_converters.names import Names
from streamrnn_converters.onnx.raw import RawGraph, RawNode, all_names

#: the oldest opset that is read: broadcasting follows NumPy from 7 on. Of older ones, only ops that were the same already
OLDEST = 7
#: the newest opset that this table was compared with
NEWEST = 28
#: for rules that hold in every opset
ALWAYS = 1 << 30

_RawGraph = TypeVar("_RawGraph", bound=RawGraph)


class Upgrade:
    """Where a rule puts what it adds to a graph. `constants` are the arrays known at this point, outer graphs included."""

    def __init__(self, opset: int, names: Names, constants: Mapping[str, Array]) -> None:
        self.opset = opset
        self.names = names
        self.constants = dict(constants)
        self.added: dict[str, Array] = {}

    def constant(self, node: RawNode, what: str, value: Attr, dtype: npt.DTypeLike) -> str:
        """Name of a new constant that holds an attribute of `node`."""
        name = self.value(node, what)
        self.added[name] = self.constants[name] = np.array(value, dtype)
        return name

    def value(self, node: RawNode, what: str) -> str:
        """A new name for something that belongs to `node`."""
        return self.names.fresh(f"{node.name}.{what}")

    def node(self, base: RawNode, op: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Attr) -> RawNode:
        """A new node that belongs to `base`."""
        return RawNode(op, self.value(base, op), tuple(inputs), tuple(outputs), attrs)


Rewrite = Callable[[RawNode, Upgrade], list[RawNode]]


@dataclass(frozen=True)
class Rule:
    """`rewrite` holds for nodes of these ops in a file of an opset before `before`."""

    ops: tuple[str, ...]
    before: int
    rewrite: Rewrite


def upgrade(graph: _RawGraph, opset: int, more: Sequence[Rule] = ()) -> _RawGraph:
    """The graph, written in `opset`, with every node in the newest form, by RULES and `more`, which come behind them. A node
    that has none carries a `problem`."""
    return _upgraded(graph, opset, Names(all_names(graph)), {}, (*RULES, *more))


def _upgraded(graph: _RawGraph, opset: int, names: Names, outer: Mapping[str, Array], rules: Sequence[Rule]) -> _RawGraph:
    up = Upgrade(opset, names, {**outer, **graph.constants})
    nodes: list[RawNode] = []
    for node in graph.nodes:
        bodies = {key: _upgraded(body, opset, names, up.constants, rules) for key, body in node.subgraphs.items()}
        found = [replace(node, subgraphs=bodies)]
        for rule in rules:
            if opset < rule.before:
                found = [new for old in found for new in (rule.rewrite(old, up) if _applies(rule, old) else [old])]
        nodes += found
    return replace(graph, nodes=tuple(nodes), constants={**graph.constants, **up.added})


def _applies(rule: Rule, node: RawNode) -> bool:
    return node.op in rule.ops and not node.problem


# -- pieces ---------------------------------------------------------------------------------------------------------


def _without(attrs: Mapping[str, Attr], *names: str) -> dict[str, Attr]:
    return {key: value for key, value in attrs.items() if key not in names}


def _trimmed(inputs: Sequence[str]) -> tuple[str, ...]:
    """Inputs without the omitted ones at the end."""
    found = list(inputs)
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _input(node: RawNode, index: int) -> str:
    """Input `index`, or "" where it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else ""


def _wanted(node: RawNode, index: int) -> bool:
    return index < len(node.outputs) and bool(node.outputs[index])


def _refused(node: RawNode, reason: str) -> list[RawNode]:
    return [replace(node, problem=reason)]


def _moved(**dtypes: npt.DTypeLike) -> Rewrite:
    """Attributes that became the inputs behind the first one, in this order."""

    def rewrite(node: RawNode, up: Upgrade) -> list[RawNode]:
        inputs = [
            up.constant(node, name, node.attrs[name], dtype) if name in node.attrs else "" for name, dtype in dtypes.items()
        ]
        return [replace(node, inputs=_trimmed((node.inputs[0], *inputs)), attrs=_without(node.attrs, *dtypes))]

    return rewrite


# -- rules ----------------------------------------------------------------------------------------------------------


def _top_k(node: RawNode, up: Upgrade) -> list[RawNode]:
    k = up.constant(node, "k", (node.attrs.get("k", 1),), np.int64)  # type: ignore[arg-type]
    return [replace(node, inputs=(node.inputs[0], k), attrs=_without(node.attrs, "k"))]


def _clip(node: RawNode, up: Upgrade) -> list[RawNode]:
    """The largest float32 was the way to write "no limit"."""
    largest = float(np.finfo(np.float32).max)
    limits = {k: v for k, v in node.attrs.items() if k in ("min", "max") and isinstance(v, float) and abs(v) < largest}
    return _moved(min=np.float32, max=np.float32)(replace(node, attrs=limits), up)


def _split(node: RawNode, up: Upgrade) -> list[RawNode]:
    """Before 18, no sizes meant as many equal parts as outputs."""
    if _input(node, 1):
        return [node]
    return [replace(node, attrs={**node.attrs, "num_outputs": len(node.outputs)})]


def softmax_of_opset_12(node: RawNode, up: Upgrade) -> list[RawNode]:
    """Before 13 the axes from `axis` on (1 where it is not given) were flattened into one."""
    axis = node.attrs.get("axis", 1)
    if axis == -1:
        return [node]
    x, y = node.inputs[0], node.outputs[0]
    shape, flat, result = (up.value(node, what) for what in ("shape", "flat", "result"))
    return [
        up.node(node, "Shape", [x], [shape]),
        up.node(node, "Flatten", [x], [flat], axis=axis),
        replace(node, inputs=(flat,), outputs=(result,), attrs={**node.attrs, "axis": -1}),
        up.node(node, "Reshape", [result, shape], [y]),
    ]


def _dropout(node: RawNode, up: Upgrade) -> list[RawNode]:
    """In inference its output is its input, and its mask is full."""
    training = _input(node, 2)
    if training:
        flag = up.constants.get(training)
        if flag is None or flag.any():
            return _refused(node, "it runs in training mode, so its result is random; export the model in eval mode")
    x = node.inputs[0]
    nodes = [replace(node, op="Identity", inputs=(x,), outputs=node.outputs[:1], attrs={})] if _wanted(node, 0) else []
    if _wanted(node, 1):
        shape = up.value(node, "shape")
        dtype = "bool" if up.opset >= 10 else "float32"
        nodes.append(up.node(node, "Shape", [x], [shape]))
        nodes.append(up.node(node, "ConstantOfShape", [shape], [node.outputs[1]], value=1, dtype=dtype))
    return nodes


def _batch_norm(node: RawNode, up: Upgrade) -> list[RawNode]:
    training = node.attrs.get("training_mode", 0) if up.opset >= 14 else any(node.outputs[1:])
    if training:
        return _refused(node, "it runs in training mode, on the statistics of its batch; export the model in eval mode")
    if node.attrs.get("spatial", 1) != 1:
        return _refused(node, "spatial=0 (statistics for each element) is not supported; export for opset 9 or newer")
    attrs = _without(node.attrs, "training_mode", "spatial", "momentum")
    return [replace(node, outputs=node.outputs[:1], attrs=attrs)]


def _upsample(node: RawNode, up: Upgrade) -> list[RawNode]:
    """Upsample is the Resize of opset 10 under another name; before 9 its scales were an attribute."""
    node = replace(node, op="Resize")
    return _moved(scales=np.float32)(node, up) if "scales" in node.attrs else [node]


def _resize(node: RawNode, up: Upgrade) -> list[RawNode]:
    """Before 11 output element i was taken from floor(i / scale), without a choice."""
    x, scales = node.inputs
    attrs = {**node.attrs, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return [replace(node, inputs=(x, "", scales), attrs=attrs)]


def _dft(node: RawNode, up: Upgrade) -> list[RawNode]:
    axis = up.constant(node, "axis", node.attrs.get("axis", 1), np.int64)
    return [replace(node, inputs=(node.inputs[0], _input(node, 1), axis), attrs=_without(node.attrs, "axis"))]


def _scatter(node: RawNode, up: Upgrade) -> list[RawNode]:
    return [replace(node, op="ScatterElements")]


def _scan(node: RawNode, up: Upgrade) -> list[RawNode]:
    """In opset 8 everything had a batch axis in front: a Scan over the batch, with the Scan over the sequence in its body."""
    body, count = node.subgraphs.get("body"), node.attrs.get("num_scan_inputs")
    if _input(node, 0):
        return _refused(node, "sequence_lens (opset 8) is not supported; export for opset 9 or newer")
    if body is None or not isinstance(count, int) or len(body.inputs) != len(node.inputs) - 1:
        return _refused(node, "its body does not fit its inputs; export the model again")
    entries = tuple(replace(i, name=up.value(node, f"entry.{i.name}"), ranked=False, dims=()) for i in body.inputs)
    results = tuple(replace(o, name=up.value(node, f"entry.{o.name}"), ranked=False, dims=()) for o in body.outputs)
    attrs: dict[str, Attr] = {"num_scan_inputs": count}
    if "directions" in node.attrs:
        attrs["scan_input_directions"] = node.attrs["directions"]
    inner = RawNode(
        "Scan", up.value(node, "entry"), tuple(e.name for e in entries), tuple(r.name for r in results), attrs, node.subgraphs
    )
    batch = RawGraph(f"{node.name}.entry", entries, results, (inner,), {})
    return [replace(node, inputs=node.inputs[1:], attrs={"num_scan_inputs": len(entries)}, subgraphs={"body": batch})]


def _group_norm(node: RawNode, up: Upgrade) -> list[RawNode]:
    """With one scale for each group it is an InstanceNormalization whose channels are the groups."""
    x, shape, rows, result = node.inputs[0], *(up.value(node, what) for what in ("shape", "rows", "result"))
    groups = up.constant(node, "groups", (0, node.attrs.get("num_groups", 1), -1), np.int64)  # type: ignore[arg-type]
    attrs = {key: value for key, value in node.attrs.items() if key == "epsilon"}
    return [
        up.node(node, "Shape", [x], [shape]),
        up.node(node, "Reshape", [x, groups], [rows]),
        replace(node, op="InstanceNormalization", inputs=(rows, *node.inputs[1:]), outputs=(result,), attrs=attrs),
        up.node(node, "Reshape", [result, shape], [node.outputs[0]]),
    ]


def _batch_first(states: tuple[int, ...]) -> Rewrite:
    """layout=1 has the batch axis first. Transposes bring X, the initial states (inputs `states`), Y and the final states to
    layout 0: X [S, B, I], states [D, B, H], Y [S, D, B, H]."""

    def rewrite(node: RawNode, up: Upgrade) -> list[RawNode]:
        attrs = _without(node.attrs, "layout")
        if node.attrs.get("layout", 0) == 0:
            return [replace(node, attrs=attrs)]
        inputs, outputs = list(node.inputs), list(node.outputs)
        before, after = [], []
        for index in (0, *states):
            if _input(node, index):
                inputs[index] = up.value(node, f"in{index}")
                before.append(up.node(node, "Transpose", [node.inputs[index]], [inputs[index]], perm=(1, 0, 2)))
        for index in range(1 + len(states)):
            if _wanted(node, index):
                outputs[index] = up.value(node, f"out{index}")
                perm = (2, 0, 1, 3) if index == 0 else (1, 0, 2)
                after.append(up.node(node, "Transpose", [outputs[index]], [node.outputs[index]], perm=perm))
        return [*before, replace(node, inputs=tuple(inputs), outputs=tuple(outputs), attrs=attrs), *after]

    return rewrite


_REDUCE = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip

RULES: tuple[Rule, ...] = (
    Rule(("Upsample",), 10, _upsample),
    Rule(("TopK",), 10, _top_k),
    Rule(("Slice",), 10, _moved(starts=np.int64, ends=np.int64, axes=np.int64)),
    Rule(("Scan",), 9, _scan),
    Rule(("Scatter",), 11, _scatter),
    Rule(("Resize",), 11, _resize),
    Rule(("Clip",), 11, _clip),
    Rule(("Pad",), 11, _moved(pads=np.int64, value=np.float32)),
    Rule(("Squeeze", "Unsqueeze", "ReduceSum"), 13, _moved(axes=np.int64)),
    Rule(("Split",), 13, _moved(split=np.int64)),
    Rule(("Softmax", "LogSoftmax", "Hardmax"), 13, softmax_of_opset_12),
    Rule(_REDUCE, 18, _moved(axes=np.int64)),
    Rule(("Split",), 18, _split),
    Rule(("DFT",), 20, _dft),
    Rule(("GroupNormalization",), 21, _group_norm),
    Rule(("Dropout",), ALWAYS, _dropout),
    Rule(("BatchNormalization",), ALWAYS, _batch_norm),
    Rule(("LSTM",), ALWAYS, _batch_first((5, 6))),
    Rule(("GRU", "RNN"), ALWAYS, _batch_first((5,))),
)
