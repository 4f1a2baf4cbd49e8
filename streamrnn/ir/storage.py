"""Weights that a graph stores in fewer bits: a float16 or int8 constant behind a Cast or a DequantizeLinear to float32.

To the op that reads it such a weight is a constant like any other; how it is stored decides which kernel the op takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.op import Site, Stored, get_op
from streamrnn.ir.types import DType
from streamrnn.ir.verify import site_of


@dataclass(frozen=True)
class Weight:
    """A constant as it is computed with (float32), and as it is stored."""

    array: Array
    stored: Stored


def stored_weights(graph: Graph) -> dict[str, Weight]:
    """Every value of a graph that is such a weight."""
    found = {}
    for node in graph.nodes:
        stored = _stored(graph, node)
        if stored is not None:
            inputs = (graph.const(name) for name in node.inputs)
            array = get_op(node).reference(site_of(graph, node), *inputs)[0]
            found[node.outputs[0]] = Weight(np.asarray(array, np.float32), stored)
    return found


def site_with(weights: dict[str, Weight], graph: Graph, node: Node) -> Site:
    """`site_of`, to which the weights among the inputs are constants."""
    plain = site_of(graph, node)
    own = [weights.get(name) for name in node.inputs]
    constants = tuple(c if w is None else w.array for c, w in zip(plain.constants, own, strict=True))
    return Site(node, plain.types, constants, plain.outputs, tuple(None if w is None else w.stored for w in own))


def _stored(graph: Graph, node: Node) -> Stored | None:
    """What a node makes float32 of; None where it is not a weight."""
    if node.op not in ("Cast", "DequantizeLinear") or graph.types[node.outputs[0]].dtype is not DType.F32:
        return None
    values = graph.const(node.inputs[0])
    if values is None:
        return None
    if node.op == "Cast":
        return Stored(values) if values.dtype == np.float16 else None
    scales = graph.const(node.inputs[1])
    if scales is None or values.dtype != np.int8 or len(node.inputs) > 2:
        return None
    if scales.ndim == 1 and values.ndim > 1:
        axis = int(str(node.attrs.get("axis", 1)))
        scales = scales.reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    fits = scales.ndim == values.ndim and all(m in (1, n) for m, n in zip(scales.shape, values.shape, strict=True))
    return Stored(values, scales) if fits else None


def storage_lines(meta: Mapping[str, object]) -> list[str]:
    """What meta["weights"] says about how layers are stored, for people: a summary, then one line for each layer that has more
    bits than asked for. Empty where all are float32."""
    told = meta.get("weights")
    if not isinstance(told, dict):
        return []
    layers = told["layers"]
    counts = Counter(layer["dtype"] for layer in layers)
    sizes = [sum(layer[key] for layer in layers) for key in ("before", "after")]
    text = ", ".join(f"{n} layer{'s' * (n > 1)} in {dtype}" for dtype, n in counts.items()) or "no layer"
    lines = [f"{told['asked']}: {text}; {sizes[0]} bytes in float32, {sizes[1]} as stored"]
    return lines + [
        f"'{layer['name']}' ({layer['op']}) is stored in {layer['dtype']}: {layer['reason']}"
        for layer in layers
        if layer["reason"]
    ]
