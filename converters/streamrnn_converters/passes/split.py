"""A bidirectional recurrent node as a forward node, a reverse node and the Concats of their outputs.

Bounded look-ahead needs it: along time the forward node carries its state from chunk to chunk, the reverse node starts anew
at the end of each chunk.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamrnn.ir.graph import Array, Attr, Graph, Node
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify
from streamrnn_converters.passes.edit import with_nodes

_CELLS = ("LSTM", "GRU", "RNN")
#: inputs with one row for each direction: W, R, B, initial states, peepholes (X and sequence_lens are shared)
_ROWS = (1, 2, 3, 5, 6, 7)


def split_directions(graph: Graph) -> Graph:
    """Split every bidirectional node whose weights and initial states are constants; others stay as they are."""
    nodes: list[Node] = []
    constants, types = dict(graph.constants), dict(graph.types)
    for node in graph.nodes:
        if not _splits(graph, node):
            nodes.append(node)
            continue
        halves = [_half(graph, node, index, constants) for index in (0, 1)]
        types.update({name: TensorType.of(array) for name, array in constants.items() if name not in types})
        joins = [
            Node("Concat", f"{node.name}.join{k}", tuple(h.outputs[k] for h in halves), (name,), {"axis": 1 if k == 0 else 0})
            for k, name in enumerate(node.outputs)
            if name
        ]
        for new in (*halves, *joins):
            infer_node(types, site_of(graph.replace(types=types, constants=constants), new))
        nodes += [*halves, *joins]
    return verify(with_nodes(graph, nodes, types, constants))


def _splits(graph: Graph, node: Node) -> bool:
    rows = [node.inputs[i] for i in _ROWS if i < len(node.inputs) and node.inputs[i]]
    return node.op in _CELLS and node.attrs.get("direction") == "bidirectional" and all(r in graph.constants for r in rows)


def _half(graph: Graph, node: Node, index: int, constants: dict[str, Array]) -> Node:
    """The node of one direction; its rows of the weights are entered into `constants`."""
    side = ("forward", "reverse")[index]
    inputs = list(node.inputs)
    for i in _ROWS:
        if i < len(inputs) and inputs[i]:
            inputs[i] = f"{node.name}.{side}.in{i}"
            constants[inputs[i]] = np.ascontiguousarray(graph.constants[node.inputs[i]][index : index + 1])
    outputs = tuple(f"{name}.{side}" if name else "" for name in node.outputs)
    return Node(node.op, f"{node.name}.{side}", tuple(inputs), outputs, _attrs(node, side, index))


def _attrs(node: Node, side: str, index: int) -> Mapping[str, Attr]:
    attrs = {**node.attrs, "direction": side}
    for name in ("activations", "activation_alpha", "activation_beta"):
        both = attrs.get(name)
        if isinstance(both, tuple):
            # alpha and beta list only what has them; the lists of both directions are alike in every exporter's files
            attrs[name] = both[: len(both) // 2] if index == 0 else both[len(both) // 2 :]
    return attrs
