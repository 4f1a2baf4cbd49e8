"""NaN and Inf in weights: a model that was saved after its training diverged computes NaN forever, in silence."""

from __future__ import annotations

import numpy as np

from streamrnn.errors import ModelFileError
from streamrnn.ir.graph import Graph
from streamrnn_converters.passes.edit import everywhere

#: ops for which infinity is an ordinary constant: masks, limits, filler
INFINITY_IS_FINE = frozenset(
    {"Add", "Sub", "Where", "Clip", "Min", "Max", "Pad", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"}
    | {"Concat", "Expand", "Reshape", "Slice", "Gather", "Identity", "ScatterND", "ScatterElements", "Attention"}
)


@everywhere
def check_finite(graph: Graph) -> Graph:
    """Return `graph` as it is; ModelFileError where a constant holds NaN, or Inf where that is no mask, limit or filler."""
    for node in graph.nodes:
        for name in node.inputs:
            array = graph.const(name)
            if array is None or array.dtype.kind != "f":
                continue
            bad = np.isnan(array) if node.op in INFINITY_IS_FINE else ~np.isfinite(array)
            if bad.any():
                where = [int(i) for i in np.argwhere(bad)[0]]
                raise ModelFileError(
                    f"tensor '{name}' of node '{node.name}' ({node.op}) has {int(bad.sum())} of {array.size} elements that are "
                    f"NaN or Inf, the first at {where}; its training diverged or the file is altered; export an earlier one"
                )
    return graph
