"""Grids of a quantised file: how large one unit of an output is, and a file whose floats are rounded a little otherwise.

A quantiser rounds a float to a grid. Where that float lies amid two steps, its last bit decides between them, and two right
implementations may differ by one unit there, and by whatever follows from it behind.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

#: ops that give each element of input 0 to some place of the output and change none
_MOVES = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "Tile"})
#: ops that round to integers, in output 0 -> the input that is the scale of these; None where it is not used as it is
_QUANTISERS: dict[str, int | None] = {
    "QuantizeLinear": 1,
    "QLinearConcat": 0,
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool"), 3),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), 6),
    **dict.fromkeys(("QLinearWhere", "QGemm"), 7),
    **dict.fromkeys(("DynamicQuantizeLinear", "QLinearSoftmax")),
}
#: by how much floats in front of a quantiser are moved, relative: 32 units in the last place, which sums of some length lose
MOVED = 2.0**-18


class Unit(NamedTuple):
    """size: one unit of the grid in the output's own terms, 1 for integers. node: the node that makes it, for people."""

    size: float
    node: str


def units(model: onnx.ModelProto) -> dict[str, Unit]:
    """The unit of each output of the main graph that is a quantiser's integer, or one times a constant scalar scale."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def source(name: str) -> onnx.NodeProto | None:
        """The node that computes the elements of a value; None where nothing does, or not in output 0."""
        node = makers.get(name)
        while node is not None and node.op_type in _MOVES:
            name = node.input[0]
            node = makers.get(name)
        return node if node is not None and node.output[0] == name else None

    found = {}
    for output in graph.output:
        node, size = source(output.name), 1.0
        first = node
        if node is not None and node.op_type == "DequantizeLinear":
            scale = constants.get(node.input[1])
            if scale is None or numpy_helper.to_array(scale).size != 1:
                continue
            size = float(numpy_helper.to_array(scale).item())
            node = source(node.input[0])
        if node is not None and first is not None and node.op_type in _QUANTISERS:
            found[output.name] = Unit(size, f"node '{first.name}' ({first.op_type})")
    return found


def moved(model: onnx.ModelProto, by: float) -> bytes | None:
    """The file with the scale of each quantiser times 1 + `by`, so that floats near the middle of two steps go to the other
    one; what takes the integers keeps its own scale. None where there is no such quantiser."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    factor, count = "streamrnn.moved", 0
    for node in copy.graph.node:
        if node.op_type == "DynamicQuantizeLinear":  # its own scale moves with what it covers, so that another node rounds
            nodes.append(node)
            q, scale, zero = node.output
            node.output[0] = f"{factor}.{count}.unused"
            node = onnx.helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [q])
        index = _QUANTISERS.get(node.op_type)
        if index is not None and index < len(node.input) and node.input[index]:
            name = f"{factor}.{count}"
            nodes.append(onnx.helper.make_node("Mul", [node.input[index], factor], [name]))
            node.input[index] = name
            count += 1
        nodes.append(node)
    if not count:
        return None
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    copy.graph.initializer.append(numpy_helper.from_array(np.array(1.0 + by, np.float32), factor))
    return bytes(copy.SerializeToString())
