"""Weights in fewer bits: float16, or int8 with a scale for each output channel. The last pass, on a step graph.

A weight becomes a constant of that type behind a Cast or a DequantizeLinear; the op that reads it takes a kernel for it. What
became of each layer is in meta["weights"].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from streamrnn.errors import BindingError
from streamrnn.ir.graph import Array, Attr, Graph, Node
from streamrnn.ir.op import Op, Site, get_op
from streamrnn.ir.types import DType, TensorType
from streamrnn.ir.verify import site_of, verify
from streamrnn_converters.names import Names

Weights = Literal["f32", "f16", "int8", "auto"]
CHOICES: tuple[Weights, ...] = ("f32", "f16", "int8", "auto")

#: "auto" leaves weights up to this size (bytes) alone: they come from the first-level cache, which is as fast as the sums
SMALL = 32 << 10
#: "auto" takes int8 where the layer by itself keeps at least this ratio of signal to noise (dB) on random input
CLEAR = 40.0
#: frames of that input
_FRAMES = 64
_F16_MOST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Layer:
    """What became of the weights of a node: their type, their bytes before and after, and why they have more bits than asked
    for ("" where not)."""

    name: str
    op: str
    dtype: str
    before: int
    after: int
    reason: str = ""


def narrow(graph: Graph, weights: str) -> Graph:
    """The graph with its weights stored as asked for. Raises BindingError for an unknown word."""
    if weights not in CHOICES:
        raise BindingError(f"--weights {weights}: it is {', '.join(CHOICES)}")
    if weights == "f32":
        return graph
    layers: list[Layer] = []
    found = _Narrow(graph, weights, layers).run()
    rows = [asdict(layer) for layer in layers]
    return verify(found.replace(meta={**found.meta, "weights": {"asked": weights, "layers": rows}}))


class _Narrow:
    """The pass over one graph, a model's or a body's."""

    def __init__(self, graph: Graph, weights: str, layers: list[Layer]) -> None:
        self.graph = graph
        self.weights = weights
        self.layers = layers
        self.names = Names({*graph.types, *graph.inputs})
        self.node_names = Names(node.name for node in graph.nodes)
        self.types, self.constants = dict(graph.types), dict(graph.constants)
        self.nodes: list[Node] = []
        self.made: dict[tuple[str, str], str] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            bodies = tuple(_Narrow(body, self.weights, self.layers).run() for body in node.bodies)
            site, op = site_of(self.graph, node), get_op(node)
            self.nodes.append(self._stored(replace(node, bodies=bodies), op, site))
        read = {name for node in self.nodes for name in node.inputs} | set(self.graph.results())
        constants = {name: array for name, array in self.constants.items() if name in read}
        types = {n: t for n, t in self.types.items() if n in constants or n not in self.constants}
        return self.graph.replace(nodes=tuple(self.nodes), types=types, constants=constants)

    def _stored(self, node: Node, op: Op, site: Site) -> Node:
        """The node on its weights as they are stored from now on, which are added in front of it."""
        found = op.narrow_inputs(site, "float16")
        if found == {}:
            return node
        inputs = {} if isinstance(found, str) else {k: w for k in found if (w := site.const(k)) is not None}
        dtype, reason = self._chosen(op, site, inputs) if inputs else ("float32", str(found) or "they are computed at run time")
        before = sum(w.nbytes for w in inputs.values())
        if dtype == "float32":
            self.layers.append(Layer(node.name, node.op, dtype, before, before, reason))
            return node
        kept = op.narrow_inputs(site, dtype)
        assert not isinstance(kept, str)
        names, after = list(node.inputs), 0
        for index, array in inputs.items():
            names[index], size = self._narrowed(node, names[index], array, dtype, kept[index])
            after += size
        self.layers.append(Layer(node.name, node.op, dtype, before, after, reason))
        return replace(node, inputs=tuple(names))

    def _chosen(self, op: Op, site: Site, inputs: Mapping[int, Array]) -> tuple[str, str]:
        """(type, why it is not the one that was asked for)."""
        before = sum(array.nbytes for array in inputs.values())
        if self.weights == "auto" and before <= SMALL:
            return "float32", f"{before} bytes stay in the first-level cache: fewer would gain nothing"
        reason = ""
        if self.weights in ("int8", "auto"):
            kept = op.narrow_inputs(site, "int8")
            if isinstance(kept, str):
                reason = kept
            elif self.weights == "int8":
                return "int8", ""
            else:
                noise = _ratio(op, site, {k: dequantized(*quantized(w, kept[k])) for k, w in inputs.items()})
                if noise >= CLEAR:
                    return "int8", ""
                reason = f"in int8 the layer by itself would keep {noise:.0f} dB, less than {CLEAR:.0f}"
        if any(np.abs(array).max(initial=0.0) > _F16_MOST for array in inputs.values()):
            beyond = f"a weight is beyond {_F16_MOST:g}, the largest float16"
            return "float32", f"{reason}; {beyond}" if reason else beyond
        return "float16", reason

    def _narrowed(self, node: Node, name: str, array: Array, dtype: str, kept: tuple[int, ...]) -> tuple[str, int]:
        """The value that stands for a constant from now on, and the bytes behind it."""
        parts: tuple[Array, ...] = (array.astype(np.float16),)
        op, attrs = "Cast", dict[str, Attr](to="float32")
        if dtype == "int8":
            values, scales = quantized(array, kept)
            parts, op = (values, scales if len(kept) > 1 else scales.ravel()), "DequantizeLinear"
            rest = next(axis for axis in range(array.ndim) if axis not in kept)
            attrs = {"axis": kept[0]} if len(kept) == 1 else {"axis": rest, "block_size": array.shape[rest]}
        made = self.made.get((name, dtype))
        if made is None:
            made = self.made[name, dtype] = self.names.fresh(f"{name}.wide")
            held = []
            for part, what in zip(parts, (dtype, "scales"), strict=False):
                held.append(self.names.fresh(f"{name}.{what}"))
                self.constants[held[-1]], self.types[held[-1]] = part, TensorType.of(part)
            self.types[made] = TensorType(DType.F32, array.shape)
            self.nodes.append(Node(op, self.node_names.fresh(f"{node.name}.{name}.{op}"), tuple(held), (made,), attrs))
        return made, sum(part.nbytes for part in parts)


def quantized(array: Array, kept: tuple[int, ...]) -> tuple[Array, Array]:
    """(int8 values, float32 scales) of weights: the largest magnitude of each index of the axes `kept` becomes 127."""
    summed = tuple(axis for axis in range(array.ndim) if axis not in kept)
    scales = (np.abs(array).max(axis=summed, keepdims=True, initial=0.0) / np.float32(127)).astype(np.float32)
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return np.clip(np.rint(array / scales), -127, 127).astype(np.int8), scales


def dequantized(values: Array, scales: Array) -> Array:
    """float64"""
    return values.astype(np.float64) * scales


def _ratio(op: Op, site: Site, weights: Mapping[int, Array]) -> float:
    """Ratio of signal to noise (dB) at the first output of a layer by itself, with these weights in place of its own, on
    normally distributed input."""
    shape = site.type(0).shape
    frames = (_FRAMES, *shape[1:]) if op.name in ("LSTM", "GRU", "RNN") or shape[0] == 1 else shape
    x = np.random.default_rng(0).normal(size=frames)
    outputs = []
    for own in ({}, weights):
        given = [own.get(k, site.const(k)) for k in range(1, len(site.types))]
        wide = (None if a is None else a.astype(np.float64) if a.dtype.kind == "f" else a for a in given)
        outputs.append(op.reference(site, x, *wide)[0])
    return decibels(outputs[0], outputs[1])


def decibels(signal: Array, other: Array) -> float:
    """Power of `signal` over that of its difference from `other`, in dB; inf where they are the same."""
    signal, other = signal.astype(np.float64), other.astype(np.float64)
    noise = float(np.square(signal - other).sum())
    power = float(np.square(signal).sum())
    return 10 * float(np.log10(power / noise)) if noise and power else float("inf") if not noise else float("-inf")
