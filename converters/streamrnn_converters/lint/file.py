"""What a file shows before it is typed: exporters' faults, weights, names."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping

import numpy as np

from streamrnn.ir.graph import Array
from streamrnn_converters.lint.rules import Edit, Finding, finding, listed
from streamrnn_converters.onnx.raw import RawGraph, RawModel, RawNode, reads
from streamrnn_converters.passes.finite import INFINITY_IS_FINE

_HALF = re.compile(r"(?<![a-z0-9])(fp16|float16|f16)(?![a-z0-9])", re.IGNORECASE)
#: at the end of a file's name only: a filter or a rate may be half of something
_HALF_FILE = re.compile(rf"{_HALF.pattern}|(?<![a-z0-9])half$", re.IGNORECASE)
_RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"})
#: inputs of quantising ops that are scales
_SCALES: Mapping[str, tuple[int, ...]] = {
    "QuantizeLinear": (1,), "DequantizeLinear": (1,), "QLinearConv": (1, 4, 6), "QLinearMatMul": (1, 4, 6),
    "com.microsoft.DynamicQuantizeLSTM": (8, 10),
}  # fmt: skip


def file_findings(model: RawModel) -> list[Finding]:
    """Everything that lint finds in the file as it was read."""
    nodes = list(_scoped(model, ChainMap()))
    found: list[Finding] = []
    for look in (_gru_form, _non_finite, _denormal, _scales, _half, _random, _external, _unused_weights):
        found += look(model, nodes)
    return found


#: a node, and the constants that it can see
_Scoped = tuple[RawNode, Mapping[str, Array]]


def _scoped(graph: RawGraph, around: ChainMap[str, Array]) -> Iterator[_Scoped]:
    scope = around.new_child(dict(graph.constants))
    for node in graph.nodes:
        yield node, scope
        for body in node.subgraphs.values():
            yield from _scoped(body, scope)


def named(node: RawNode) -> str:
    return f"node '{node.name}' ({node.op})"


def _gru_form(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    for node, constants in nodes:
        if node.op != "GRU" or node.attrs.get("linear_before_reset", 0):
            continue
        if model.producer.startswith("pytorch"):
            reason = f"written by {model.producer} with linear_before_reset=0, a form that PyTorch does not have"
        elif _has_recurrent_bias(node, constants):
            reason = (
                "linear_before_reset=0, and yet a bias of the recurrent side for the hidden gate, which only the other form has"
            )
        else:
            continue
        output = next(name for name in node.outputs if name)
        yield finding("SR101", named(node), reason, edits=[Edit("set", output, ("GRU", "linear_before_reset", 1))])


def _has_recurrent_bias(node: RawNode, constants: Mapping[str, Array]) -> bool:
    """Whether the last part (Rbh) of a GRU's bias [D, 6 * H] holds anything."""
    bias = constants.get(node.inputs[3]) if len(node.inputs) > 3 else None
    return bias is not None and bias.ndim == 2 and bool(bias[:, bias.shape[1] // 6 * 5 :].any())


def _non_finite(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    for name, array, users in _floats(nodes):
        bad = np.isnan(array) if all(node.op in INFINITY_IS_FINE for node in users) else ~np.isfinite(array)
        if bad.any():
            text = f"{int(bad.sum())} of {array.size} elements are NaN or Inf; {named(users[0])} reads them"
            yield finding("SR401", f"tensor '{name}'", text)


def _floats(nodes: list[_Scoped]) -> Iterator[tuple[str, Array, list[RawNode]]]:
    """Float constants with the nodes that read them."""
    users: dict[int, tuple[str, Array, list[RawNode]]] = {}
    for node, constants in nodes:
        for name in node.inputs:
            array = constants.get(name) if name else None
            if array is not None and array.dtype.kind == "f":
                users.setdefault(id(array), (name, array, []))[2].append(node)
    yield from users.values()


def _denormal(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    rows = []
    for name, array, _ in _floats(nodes):
        count = int(np.count_nonzero(denormals(array)))
        if count:
            rows.append((count, array.size, name))
    if rows:
        total, size = sum(row[0] for row in rows), sum(row[1] for row in rows)
        edits = [Edit("flush", name) for _, _, name in rows]
        yield finding(
            "SR402", listed("tensor", [row[2] for row in rows]), f"{total} of {size} elements are denormal", edits=edits
        )


def denormals(array: Array) -> Array:
    """Which elements of a float array are not 0 and smaller than the smallest normal number of its type. Those of float16 are
    normal numbers in float32, in which a step computes."""
    tiny = np.finfo(np.float32 if array.dtype == np.float16 else array.dtype).tiny
    return np.asarray((array != 0) & (np.abs(array).astype(np.float64) < tiny))


def _scales(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    for node, constants in nodes:
        for k in _SCALES.get(node.op, ()):
            scale = constants.get(node.inputs[k]) if k < len(node.inputs) else None
            if scale is not None and not (np.asarray(scale, np.float64) > 0).all():
                yield finding("SR404", named(node), f"its scale '{node.inputs[k]}' is not above 0 everywhere")


def _half(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    arrays = {id(array): array for _, array, _ in _floats(nodes)}.values()
    weights = [array for array in arrays if array.size > 1]
    if not weights or any(array.dtype == np.float16 for array in weights):
        return
    promising = [("the file", model.path.stem), *(("tensor", name) for name, _, _ in _floats(nodes))]
    for what, name in promising:
        if (_HALF_FILE if what == "the file" else _HALF).search(name):
            where = what if what == "the file" else f"tensor '{name}'"
            yield finding("SR403", where, f"'{name}' speaks of float16, and all of its weights are {weights[0].dtype}")
            return


def _random(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    drawn: set[str] = set()
    for node in model.order(o.name for o in model.outputs).nodes:
        inside = (inner.op for body in node.subgraphs.values() for inner, _ in _scoped(body, ChainMap()))
        if node.op in _RANDOM or not _RANDOM.isdisjoint(inside) or drawn.intersection(reads(node)):
            drawn.update(node.outputs)
    outputs = [o.name for o in model.outputs]
    found = [name for name in outputs if name in drawn]
    if found:
        rest = [name for name in outputs if name not in drawn]
        remedy = f"import the others alone: --outputs {','.join(rest)}" if rest else ""
        yield finding("SR501", listed("output", found), "random draws decide about them", remedy=remedy)


def _external(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    if model.external:
        yield finding("SR502", "the file", f"its weights lie in {', '.join(model.external)}")


def _unused_weights(model: RawModel, nodes: list[_Scoped]) -> Iterator[Finding]:
    used = {name for node, _ in nodes for name in reads(node)} | {o.name for o in model.outputs}
    idle = {name: array for name, array in model.constants.items() if name not in used and array.size > 1}
    if idle:
        nbytes = sum(array.nbytes for array in idle.values())
        yield finding("SR503", listed("tensor", list(idle)), f"{nbytes} bytes that no node reads")
