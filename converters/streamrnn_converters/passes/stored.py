"""Weights that a file stores in 8 bits behind a DequantizeLinear, on their way through `fold`, which computes with floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamrnn.ir.graph import Node
from streamrnn.ir.types import DType
from streamrnn_converters.passes.edit import live_nodes

if TYPE_CHECKING:
    from streamrnn_converters.passes.fold import Walk

#: ops that pass `integers` takes on integers; inputs 0 and 1 are their operands
_PRODUCTS = ("MatMul", "Gemm", "Conv")


def note(walk: Walk, node: Node) -> None:
    """Remember a node that became a constant where that is integers of 8 bits, dequantised and perhaps transposed."""
    first = node.inputs[0] if node.inputs else ""
    from_bytes = node.op == "DequantizeLinear" and walk.types[first].dtype in (DType.I8, DType.U8)
    if from_bytes or (node.op == "Transpose" and first in walk.stored):
        walk.stored[node.outputs[0]] = node


def restore(walk: Walk) -> None:
    """Bring back the nodes behind the operands of products; what they give is no constant any more."""
    wanted = {name for node in walk.nodes if node.op in _PRODUCTS for name in node.inputs[:2] if name in walk.stored}
    nodes = live_nodes(list(walk.stored.values()), wanted)
    for node in nodes:
        del walk.constants[node.outputs[0]]
    walk.nodes = [*nodes, *walk.nodes]
