"""How much work it is to compute a node on constants at conversion: a file decides about sizes and repetitions, and must not
decide how long a conversion takes.

The unit is one multiply-add of NumPy, about a nanosecond. Estimates, not counts: they have to grow as the work grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streamrnn.ir.op import Site, find_op
from streamrnn.ir.types import TensorType
from streamrnn.ir.verify import site_of
from streamrnn.ops.control import Scan

#: for one node, whatever its sizes
NODE = 1 << 14
#: work that a model may cost while it is folded
MAX_EFFORT = 1 << 31
#: a value larger than this (bytes) stays a computation
MAX_FOLDED = 256 << 20
#: all folded values of a model together (bytes), beside as many again as its constants have
MAX_FOLDED_TOTAL = 256 << 20


@dataclass
class Budget:
    """What the folding of a model has taken: work and bytes. `given`: bytes of the constants in its file."""

    given: int = 0
    effort: int = 0
    nbytes: int = 0

    def hold(self, types: Sequence[TensorType]) -> bool:
        """Whether values of these types may be computed now, and if so, their bytes are counted."""
        nbytes = sum(type_.nbytes for type_ in types)
        if nbytes > MAX_FOLDED or self.nbytes + nbytes > MAX_FOLDED_TOTAL + self.given:
            return False
        self.nbytes += nbytes
        return True

    def spend(self, work: float) -> bool:
        """Whether so much may be computed now, and if so, it is counted."""
        if self.effort + work > MAX_EFFORT:
            return False
        self.effort += int(work)
        return True


def effort(site: Site, outputs: Sequence[TensorType | None]) -> float:
    """What `reference` costs; without end where nobody knows, or where a node inside may not be computed at all."""
    values = sum(type_.size for type_ in (*site.types, *outputs) if type_ is not None)
    rule = _RULES.get(site.node.op)
    result = outputs[0].size if outputs and outputs[0] is not None else 0
    return NODE + values + (rule(site, result) if rule is not None else 0)


def _product(site: Site, result: int) -> float:
    """Each element of the result is a sum along the last axis."""
    return result * max((type_.shape[-1] for type_ in site.types[:1] if type_ is not None and type_.rank), default=1)


def _conv(weights: int) -> Callable[[Site, int], float]:
    def rule(site: Site, result: int) -> float:
        filters = site.type(weights)
        return result * (filters.size // max(1, filters.shape[0] if filters.rank else 1))

    return rule


def _conv_transpose(site: Site, result: int) -> float:
    filters = site.type(1)
    return site.type(0).size * (filters.size // max(1, filters.shape[0] if filters.rank else 1))


def _window(site: Site, result: int) -> float:
    return result * math.prod(site.attr_ints("kernel_shape", ()))


def _cell(site: Site, result: int) -> float:
    """A loop in Python over frames and signals, with a product in each."""
    frames = math.prod(site.type(0).shape[:2])
    return frames * (4 * NODE + site.type(1).size + site.type(2).size)


def _einsum(site: Site, result: int) -> float:
    """Every combination of indices once."""
    equation = site.attr_str("equation", "").replace(" ", "")
    names = equation.replace("...", "").partition("->")[0].split(",")
    sizes = {
        name: size for k, part in enumerate(names) for name, size in zip(part[::-1], site.type(k).shape[::-1], strict=False)
    }
    return math.prod(sizes.values()) * (result if "..." in equation else 1)


def _axis(site: Site, result: int) -> float:
    """Each element of the result is a sum along one axis, nobody says which."""
    return result * max(site.type(0).shape, default=1)


def _bodies(site: Site, result: int) -> float:
    op = find_op(site.node.op)
    total = 0.0
    for body in site.node.bodies:
        for node in body.nodes:
            inner, found = site_of(body, node), find_op(node.op)
            total += effort(inner, inner.outputs) if found is not None and found.deterministic else math.inf
    return total * op.trips(site) if isinstance(op, Scan) else total if site.node.op == "If" else math.inf


_RULES: Mapping[str, Callable[[Site, int], float]] = {
    "MatMul": _product, "FusedMatMul": _axis, "Gemm": _axis, "MatMulInteger": _product, "QLinearMatMul": _product,
    "Conv": _conv(1), "ConvInteger": _conv(1), "QLinearConv": _conv(3), "ConvTranspose": _conv_transpose,
    "MaxPool": _window, "AveragePool": _window, "LpPool": _window, "Einsum": _einsum, "LRN": _axis, "Resize": _axis,
    "LSTM": _cell, "GRU": _cell, "RNN": _cell, "com.microsoft.DynamicQuantizeLSTM": _cell,
    "If": _bodies, "Loop": _bodies, "Scan": _bodies,
}  # fmt: skip
