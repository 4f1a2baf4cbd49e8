"""What a graph computes, in plain NumPy: the ops' references, node after node. For analysis, never for speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamrnn.ir.graph import Array, Graph
from streamrnn.ir.op import get_op
from streamrnn.ir.verify import site_of


def evaluate(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a graph without states, in order; see `evaluate_all`."""
    values = evaluate_all(graph, dict(zip(graph.inputs, inputs, strict=True)))
    return [values[name] for name in graph.outputs]


def evaluate_all(graph: Graph, given: Mapping[str, Array]) -> dict[str, Array]:
    """Every value of one run of a graph: `given` holds its inputs and what its states read.

    Floats keep the precision of the arrays given; everything else has the type that the graph says.
    """
    values: dict[str, Array] = {**graph.constants, **given}
    for node in graph.nodes:
        found = get_op(node).reference(site_of(graph, node), *(values[name] if name else None for name in node.inputs))
        for name, value in zip(node.outputs, found, strict=False):
            if name:
                array = np.asarray(value)
                held = graph.types[name].dtype.numpy
                values[name] = array if array.dtype.kind == held.kind == "f" else array.astype(held, copy=False)
    return values
