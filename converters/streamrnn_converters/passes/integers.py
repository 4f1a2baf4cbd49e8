"""Products of numbers that a file keeps on grids of 8 bits (QDQ) become products of integers.

What onnxruntime's `quantize_static` writes around a layer, DequantizeLinear -> MatMul, Gemm or Conv, says in floats what

    sum (a - a zero) (b - b zero) * (a scale * b scale) + bias

is in integers: MatMulInteger or ConvInteger, then a loop over the sums, into which `fuse` takes whatever follows: an
activation, the QuantizeLinear that closes the pattern, or nothing. So one form serves layers with and without a quantiser
behind them, and biases of int32 and of float32. The sums are exact; what is rounded is what the file rounds.

Steps on a grid that only move elements, or bring them to the grid that they are on, are taken on the integers. What `fold`
left behind a DequantizeLinear and no product took becomes a constant of floats, as all others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamrnn.ir.graph import Array, Attr, Graph, Node
from streamrnn.ir.op import get_op
from streamrnn.ir.types import DType
from streamrnn.ir.verify import site_of, verify
from streamrnn_converters.passes.declutter import REWRITES, Replacement, View, given, permutation, rewritten
from streamrnn_converters.passes.edit import everywhere, with_nodes
from streamrnn_converters.passes.fold import evaluated

_BYTES = (DType.I8, DType.U8)
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
#: products of two bytes, each less its zero point, that a sum of 32 bits holds
_MOST = (2**31 - 1) // 255**2
#: scales with which a step to floats and back is exact
_LEAST, _LARGEST = np.finfo(np.float32).tiny, np.float32(1e30)


def integers(graph: Graph) -> Graph:
    """The graph with integer products where the operands are on grids of 8 bits that are known, verified."""
    return _settled(rewritten(graph, (*REWRITES, *RULES)))


@dataclass(frozen=True)
class _Grid:
    """What a DequantizeLinear takes: (values - zero) * scale. values, zero: names, zero "" where it is 0; scale: float32, one
    number, or one for each index of `axis`."""

    values: str
    scale: Array
    zero: str
    axis: int

    @property
    def single(self) -> bool:
        return self.scale.size == 1


def _grid(view: View, name: str) -> _Grid | None:
    """The grid of 8 bits, known before the first step, that the value `name` is on."""
    node = view.maker(name, "DequantizeLinear")
    if node is None or view.types[node.inputs[0]].dtype not in _BYTES or view.types[name].dtype is not DType.F32:
        return None
    scale, site = view.const(node, 1), view.site(node)
    zero = node.inputs[2] if given(node, 2) else ""
    if scale is None or (zero and zero not in view.constants) or site.attr_int("block_size", 0):
        return None
    rank = view.types[name].rank
    axis = site.axis(site.attr_int("axis", 1), rank) if scale.size != 1 else 0
    return _Grid(node.inputs[0], scale.reshape(()) if scale.size == 1 else scale, zero, axis)


# -- rules ----------------------------------------------------------------------------------------------------------


def moved_integers(view: View, node: Node) -> Replacement | None:
    """A Transpose, Reshape and the like of a value on a grid moves its integers."""
    grid = _grid(view, node.inputs[0]) if node.op in ("Transpose", *_RESHAPES) else None
    if grid is None or not (grid.single or node.op == "Transpose"):
        return None
    real = view.makers[node.inputs[0]]
    attrs = dict(real.attrs)
    if not grid.single:
        attrs["axis"] = permutation(view, node).index(grid.axis)
    moved = view.names.fresh(f"{node.outputs[0]}.integers")
    return Replacement(
        (
            replace(node, inputs=(grid.values, *node.inputs[1:]), outputs=(moved,)),
            replace(real, name=view.node_names.fresh(f"{node.name}.{real.name}"), inputs=(moved, *real.inputs[1:]),
                    outputs=node.outputs, attrs=attrs),
        )
    )  # fmt: skip


def same_grid(view: View, node: Node) -> Replacement | None:
    """A QuantizeLinear to the grid that its input is on gives the integers of that."""
    grid = _grid(view, node.inputs[0]) if node.op == "QuantizeLinear" else None
    if grid is None or not grid.single or view.types[grid.values] != view.types[node.outputs[0]]:
        return None
    zeros = [
        view.constants.get(name) if name else np.zeros(1) for name in (grid.zero, node.inputs[2] if given(node, 2) else "")
    ]
    scale = view.const(node, 1)
    if scale is None or scale.size != 1 or scale != grid.scale or not _LEAST <= scale.item() <= _LARGEST:
        return None
    same = zeros[1] is not None and zeros[1].size == 1 and bool(np.all(zeros[0] == zeros[1]))
    return Replacement(alias=grid.values) if same else None


def integer_product(view: View, node: Node) -> Replacement | None:
    """MatMul and Gemm."""
    if node.op not in ("MatMul", "Gemm"):
        return None
    site, parts = view.site(node), _Parts(view, node)
    a, b = (_grid(view, name) for name in node.inputs[:2])
    if a is None or b is None or not a.single:
        return None
    alpha, beta = site.attr_float("alpha", 1.0), site.attr_float("beta", 1.0)
    bias = node.inputs[2] if given(node, 2) and beta else ""
    if bias and beta != 1.0:
        C = view.constants.get(bias)
        if C is None:
            return None
        bias = parts.constant("bias", np.float32(beta) * C)
    turned = [node.op == "Gemm" and site.attr_int(name, 0) != 0 for name in ("transA", "transB")]
    columns = b.axis == (0 if turned[1] else view.types[b.values].rank - 1)
    summed = view.types[a.values].shape[0 if turned[0] else -1]
    if summed > _MOST or not (b.single or (columns and view.types[b.values].rank == 2)):
        return None
    operands = [parts.turned(g.values) if turn else g.values for g, turn in zip((a, b), turned, strict=True)]
    parts.add("MatMulInteger", *operands, a.zero, b.zero)
    return parts.scaled(np.float32(alpha) * (a.scale * b.scale), bias)


def integer_conv(view: View, node: Node) -> Replacement | None:
    """Conv with up to two spatial dimensions: ConvInteger is compiled for these."""
    if node.op != "Conv" or view.types[node.inputs[0]].rank > 4:
        return None
    x, w = (_grid(view, name) for name in node.inputs[:2])
    if x is None or w is None or not x.single or not (w.single or w.axis == 0):
        return None
    shape, bias = view.types[w.values].shape, view.const(node, 2)
    if int(np.prod(shape[1:])) > _MOST or w.values not in view.constants or (given(node, 2) and bias is None):
        return None
    parts = _Parts(view, node)
    parts.add("ConvInteger", x.values, w.values, x.zero, w.zero, **node.attrs)
    channels = (-1, *(1 for _ in shape[2:]))
    added = "" if bias is None else parts.constant("bias", bias.reshape(channels))
    scale = x.scale * w.scale
    return parts.scaled(scale if w.single else scale.reshape(channels), added)


class _Parts:
    """The nodes that take the place of `node`."""

    def __init__(self, view: View, node: Node) -> None:
        self.view = view
        self.node = node
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}

    def constant(self, what: str, value: Array) -> str:
        name = self.view.names.fresh(f"{self.node.name}.{what}")
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def add(self, op: str, *inputs: str, **attrs: Attr) -> str:
        """The value of a new node; the product keeps the name of the node."""
        while not inputs[-1]:
            inputs = inputs[:-1]
        base = f"{self.node.name}.{op}"
        name = self.node.name if op.endswith("Integer") else self.view.node_names.fresh(base)
        self.nodes.append(Node(op, name, inputs, (self.view.names.fresh(base),), attrs))
        return self.nodes[-1].outputs[0]

    def turned(self, matrix: str) -> str:
        return self.add("Transpose", matrix, perm=(1, 0))

    def scaled(self, scale: Array, bias: str) -> Replacement:
        """The sums of the last node times `scale`, plus bias, as what the node gives."""
        y = self.add("Mul", self.add("Cast", self.nodes[-1].outputs[0], to="float32"), self.constant("scale", scale))
        if bias:
            self.add("Add", y, bias)
        self.nodes[-1] = replace(self.nodes[-1], outputs=self.node.outputs)
        return Replacement(tuple(self.nodes), self.constants)


RULES = (moved_integers, same_grid, integer_product, integer_conv)


# -- what is left ---------------------------------------------------------------------------------------------------


@everywhere
def _settled(graph: Graph) -> Graph:
    """The graph without nodes that dequantise or move constants."""
    nodes, constants = list[Node](), dict(graph.constants)
    for node in graph.nodes:
        known = all(not name or name in constants for name in node.inputs)
        if known and node.op in ("DequantizeLinear", "Transpose", *_RESHAPES):
            op, site = get_op(node), site_of(graph.replace(constants=constants), node)
            constants[node.outputs[0]] = evaluated(op, site, op.infer(site))[0]
        else:
            nodes.append(node)
    return graph if len(nodes) == len(graph.nodes) else verify(with_nodes(graph, nodes, graph.types, constants))
