"""Small step graphs that several tests use."""

from __future__ import annotations

import numpy as np
from contract import floats
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.narrow import narrow
from streamrnn_converters.passes.streamify import streamify

from streamrnn import Engine
from streamrnn.ir.graph import Graph, Node, Stage
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import infer_node, site_of, verify


def typed(graph: Graph) -> Graph:
    """The graph with the types of all computed values inferred."""
    types = dict(graph.types)
    types.update({name: TensorType.of(array) for name, array in graph.constants.items()})
    for node in graph.nodes:
        infer_node(types, site_of(graph.replace(types=types), node))
    return verify(graph.replace(types=types))


def recurrent_clip(n_in: int = 3, hidden: int = 5, n_out: int = 2, frames: int = 6, op: str = "LSTM") -> Graph:
    """x [frames, 1, n_in] -> LSTM or GRU -> y [frames, 1, n_out]."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    constants = {
        "W": floats(1, 1, gates * hidden, n_in, scale=0.4),
        "R": floats(2, 1, gates * hidden, hidden, scale=0.3),
        "B": floats(3, 1, 2 * gates * hidden, scale=0.2),
        "K": floats(4, hidden, n_out),
        "k": floats(5, n_out),
        "one": np.array([1]),
    }
    nodes = (
        Node(op, "cell", ("x", "W", "R", "B"), ("all",), {"hidden_size": hidden}),
        Node("Squeeze", "squeeze", ("all", "one"), ("flat",)),
        Node("MatMul", "dense", ("flat", "K"), ("scores",)),
        Node("Add", "bias", ("scores", "k"), ("y",)),
    )
    types = {"x": TensorType.of(np.zeros((frames, 1, n_in), np.float32))}
    return typed(Graph("small", Stage.SEQUENCE, ("x",), ("y",), nodes, types, constants))


def recurrent_engine(weights: str = "f32", **sizes: int) -> Engine:
    """`recurrent_clip` as an Engine in frame mode, its weights stored as in `convert --weights`."""
    return Engine(narrow(align(streamify(recurrent_clip(**sizes), {"x": 0})), weights))
