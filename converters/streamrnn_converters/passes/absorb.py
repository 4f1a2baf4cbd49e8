"""Arithmetic with constants goes into the weights of the layer in front of it, and formulas become the function that they are.

These rewrites change values by the rounding of float32, so that they come last, after all that looks for nodes as a file has
them. New weights are computed in float64.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.types import DType
from streamrnn.ir.verify import verify
from streamrnn_converters.passes.declutter import Replacement, Rewrite, View, given, sweep
from streamrnn_converters.passes.edit import everywhere


@everywhere
def absorb(graph: Graph) -> Graph:
    """The same model with fewer operations a step, verified. Raises GraphError."""
    for rewrite in REWRITES:
        graph = sweep(graph, rewrite) or graph
    return verify(graph.replace(streams={name: s for name, s in graph.streams.items() if name in graph.types}))


def mish(view: View, node: Node) -> Replacement | None:
    """x * tanh(softplus(x))."""
    if node.op != "Mul":
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        outer = view.maker(other, "Tanh")
        inner = outer and view.maker(outer.inputs[0], "Softplus")
        if inner and inner.inputs[0] == x and view.types[x].dtype is DType.F32:
            return Replacement((Node("Mish", node.name, (x,), node.outputs),))
    return None


def norm_into_filters(view: View, node: Node) -> Replacement | None:
    """A BatchNormalization behind a Conv or ConvTranspose that it alone reads: other filters, another bias."""
    layer = view.maker(node.inputs[0], "Conv", "ConvTranspose") if node.op == "BatchNormalization" else None
    if layer is None or view.uses[layer.outputs[0]] != 1 or view.site(node).attr_int("training_mode", 0):
        return None
    numbers = [view.const(node, k) for k in range(1, 5)]
    W, bias = view.const(layer, 1), view.const(layer, 2)
    if W is None or W.dtype != np.float32 or any(n is None for n in numbers) or (given(layer, 2) and bias is None):
        return None
    scale, shift, mean, variance = (np.asarray(n, np.float64) for n in numbers)
    factor = scale / np.sqrt(variance + view.site(node).attr_float("epsilon", 1e-5))
    old = np.zeros_like(mean) if bias is None else bias.astype(np.float64)
    return _with_weights(view, layer, node, _scaled(view, layer, W, factor), (old - mean) * factor + shift)


def _scaled(view: View, layer: Node, W: Array, factor: Array) -> Array:
    """Filters times one number for each output channel."""
    if layer.op == "Conv":
        return W * factor.reshape(-1, *(1 for _ in W.shape[1:]))
    groups = view.site(layer).attr_int("group", 1)  # W [channels in, channels out of a group, ..]
    rows = W.reshape(groups, -1, *W.shape[1:])
    product: Array = rows * factor.reshape(groups, 1, -1, *(1 for _ in W.shape[2:]))
    return product.reshape(W.shape)


def bias_into_product(view: View, node: Node) -> Replacement | None:
    """A constant row that is added to a MatMul by a constant matrix: together they are a Gemm, of the rows of A."""
    if node.op != "Add":
        return None
    for product, other in (node.inputs, node.inputs[::-1]):
        layer, row = view.maker(product, "MatMul"), view.constants.get(other)
        if layer is None or row is None or view.uses[product] != 1 or view.types[product] != view.types[node.outputs[0]]:
            continue
        W, a = view.const(layer, 1), view.types[layer.inputs[0]]
        if (
            W is not None
            and W.ndim == 2
            and W.dtype == np.float32
            and a.rank >= 2
            and row.shape[-1:] == (row.size,) == W.shape[1:]
        ):
            return _gemm(view, layer, node, row.reshape(-1))
    return None


def _gemm(view: View, layer: Node, node: Node, row: Array) -> Replacement:
    """The product of `layer` plus `row`, in the shape of `node`."""
    a, y = view.types[layer.inputs[0]], view.types[node.outputs[0]]
    C = view.names.fresh(f"{node.name}.row")
    if a.rank == 2:
        return Replacement((Node("Gemm", layer.name, (*layer.inputs, C), node.outputs),), {C: row})
    rows, sums, flat, shape = (view.names.fresh(f"{layer.name}.{part}") for part in ("rows", "sums", "flat", "shape"))
    nodes = (
        Node("Reshape", rows, (layer.inputs[0], flat), (rows,)),
        Node("Gemm", layer.name, (rows, layer.inputs[1], C), (sums,)),
        Node("Reshape", node.name, (sums, shape), node.outputs),
    )
    return Replacement(nodes, {C: row, flat: np.array([-1, a.shape[-1]]), shape: np.array(y.shape)})


def _with_weights(view: View, layer: Node, node: Node, W: Array, bias: Array) -> Replacement | None:
    """`layer` with other weights, which gives what `node` gave; None where float32 does not hold them."""
    with np.errstate(over="ignore"):
        values = W.astype(np.float32), bias.astype(np.float32)
    if not all(np.isfinite(v).all() for v in values):
        return None
    names = tuple(view.names.fresh(f"{layer.name}.{part}") for part in "WB")
    new = replace(layer, inputs=(layer.inputs[0], *names), outputs=node.outputs)
    return Replacement((new,), dict(zip(names, values, strict=True)))


REWRITES: tuple[Rewrite, ...] = (mish, norm_into_filters, bias_into_product)
