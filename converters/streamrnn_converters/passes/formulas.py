"""What a body computes, as formulas of its inputs. Every value is seen as rows of features, one row for each batch entry:

    Part    some features of an input
    Row     constants: a row, or one number for all features
    Sums    products of other formulas with constant matrices, summed, and a bias
    Call    a pointwise op
    Joined  formulas side by side

Formulas are interned: two values that are computed alike are one object, so that `is` compares them, whether an exporter
computes all gates at once and splits them or each on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np

from streamrnn.ir.graph import Array, Graph, Node
from streamrnn.ir.op import Site, get_op
from streamrnn.ir.types import DType
from streamrnn.ir.verify import site_of

#: limits of a body that is looked at: a cell is small, and a file may not make this take long
MAX_NODES, MAX_TERMS, MAX_SIZE, MAX_ELEMENTS = 128, 8, 256, 1 << 16


class NoFormulaError(Exception):
    """A node computes something else."""


@dataclass(frozen=True, eq=False)
class Part:
    source: str
    first: int
    width: int
    size: int = 1


@dataclass(frozen=True, eq=False)
class Row:
    """values [width], float64; one number where width is 1."""

    values: Array
    size: int = 1

    @property
    def width(self) -> int:
        return len(self.values)

    def is_all(self, value: float) -> bool:
        return bool((self.values == value).all())


@dataclass(frozen=True, eq=False)
class Term:
    """formula @ matrix * factor; matrix [formula.width, width], a view of the file's; factor [width] or [1]."""

    formula: Formula
    matrix: Array
    factor: Array

    def weights(self) -> Array:
        """[width, formula.width] in float64."""
        product: Array = (self.matrix * self.factor).T
        return product


@dataclass(frozen=True, eq=False)
class Sums:
    terms: tuple[Term, ...]
    bias: Array
    size: int

    @property
    def width(self) -> int:
        return int(self.terms[0].matrix.shape[1])

    def whole_bias(self) -> Array:
        return np.broadcast_to(self.bias, (self.width,))


@dataclass(frozen=True, eq=False)
class Call:
    op: str
    args: tuple[Formula, ...]
    width: int
    size: int


@dataclass(frozen=True, eq=False)
class Joined:
    parts: tuple[Formula, ...]
    width: int
    size: int


Formula: TypeAlias = Part | Row | Sums | Call | Joined
_Found = TypeVar("_Found", bound=Formula)

#: ops that move elements of their first input and nothing else
_MOVES = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Split", "Gather"})
#: pointwise functions that keep their name
_FUNCTIONS = frozenset({"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"})
_ONE = np.ones(1)


def _key(array: Array) -> tuple[object, ...]:
    """The memory that an array is; the interned formula keeps it alive."""
    return (array.__array_interface__["data"], array.shape, array.strides)


@dataclass
class Formulas:
    """The formulas of a body's values by their names; a value that has none is missing. `rows`: batch entries."""

    graph: Graph
    rows: int
    found: dict[str, Formula] = field(default_factory=dict)
    interned: dict[tuple[object, ...], Formula] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, inputs: Sequence[str]) -> Formulas | None:
        """Those of a body whose `inputs` are [rows, features] or [features]; None where they are not, or where it is large."""
        types = [graph.types[name] for name in inputs]
        if len(graph.nodes) > MAX_NODES or any(t.dtype is not DType.F32 or not 1 <= t.rank <= 2 or t.size == 0 for t in types):
            return None
        rows = {t.size // t.shape[-1] for t in types}
        if len(rows) != 1 or any(t.size > MAX_ELEMENTS for t in types):
            return None
        formulas = Formulas(graph, rows.pop())
        for name, type_ in zip(inputs, types, strict=True):
            formulas.found[name] = formulas._part(name, 0, type_.shape[-1])
        for node in graph.nodes:
            try:
                formulas._visit(node)
            except NoFormulaError:
                continue
        return formulas

    # -- building -----------------------------------------------------------------------------------------------------

    def _intern(self, key: tuple[object, ...], make: Callable[[], _Found]) -> _Found:
        if key not in self.interned:
            made = make()
            if made.size > MAX_SIZE:
                raise NoFormulaError
            self.interned[key] = made
        return self.interned[key]  # type: ignore[return-value]

    def _part(self, source: str, first: int, width: int) -> Part:
        return self._intern(("Part", source, first, width), lambda: Part(source, first, width))

    def row(self, values: Array) -> Row:
        wide = np.asarray(values, np.float64).reshape(-1)
        return self._intern(("Row", wide.tobytes()), lambda: Row(wide))

    def call(self, op: str, *args: Formula) -> Call:
        width = max(arg.width for arg in args)
        if any(arg.width not in (1, width) or (arg.width != width and not isinstance(arg, Row)) for arg in args):
            raise NoFormulaError
        size = 1 + sum(arg.size for arg in args)
        return self._intern((op, *map(id, args)), lambda: Call(op, args, width, size))

    def sums(self, terms: Sequence[Term], bias: Array) -> Sums:
        if len(terms) > MAX_TERMS or len(bias) not in (1, terms[0].matrix.shape[1]):
            raise NoFormulaError
        parts = tuple((id(t.formula), _key(t.matrix), t.factor.tobytes()) for t in terms)
        size = 1 + sum(t.formula.size for t in terms)
        return self._intern(("Sums", bias.tobytes(), *parts), lambda: Sums(tuple(terms), bias, size))

    def join(self, parts: Sequence[Formula]) -> Formula:
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, Joined) else (part,))]
        width, size = sum(p.width for p in flat), 1 + sum(p.size for p in flat)
        return flat[0] if len(flat) == 1 else self._intern(("Joined", *map(id, flat)), lambda: Joined(tuple(flat), width, size))

    def cut(self, formula: Formula, first: int, width: int) -> Formula:
        """Features first .. first + width."""
        if (first, width) == (0, formula.width):
            return formula
        columns = slice(first, first + width)
        if isinstance(formula, Part):
            return self._part(formula.source, formula.first + first, width)
        if isinstance(formula, Row):
            return self.row(formula.values[columns])
        if isinstance(formula, Sums):
            terms = [Term(t.formula, t.matrix[:, columns], _of_row(t.factor, columns)) for t in formula.terms]
            return self.sums(terms, _of_row(formula.bias, columns))
        if isinstance(formula, Call):
            return self.call(formula.op, *(a if a.width == 1 else self.cut(a, first, width) for a in formula.args))
        found, at = [], 0
        for part in formula.parts:
            begin, end = max(first, at), min(first + width, at + part.width)
            if begin < end:
                found.append(self.cut(part, begin - at, end - begin))
            at += part.width
        return self.join(found)

    def times(self, formula: Formula, matrix: Array, factor: float = 1.0) -> Formula:
        """formula @ matrix * factor."""
        if formula.width != matrix.shape[0]:
            raise NoFormulaError
        if isinstance(formula, Row):
            return self.row(formula.values @ matrix * factor)
        if isinstance(formula, Joined):
            total, at = None, 0
            for part in formula.parts:
                product = self.times(part, matrix[at : at + part.width], factor)
                total = product if total is None else self.add(total, product)
                at += part.width
            assert total is not None
            return total
        return self.sums([Term(formula, matrix, factor * _ONE)], np.zeros(1))

    def add(self, a: Formula, b: Formula) -> Formula:
        if isinstance(a, Row) and isinstance(b, Row):
            return self.row(a.values + b.values)
        if isinstance(a, Row):
            a, b = b, a
        if isinstance(a, Sums) and isinstance(b, Row):
            return self.sums(a.terms, a.bias + b.values)
        if isinstance(a, Sums) and isinstance(b, Sums) and a.width == b.width:
            return self.sums([*a.terms, *b.terms], a.bias + b.bias)
        return self.call("Add", a, b)

    def scale(self, a: Formula, by: Formula) -> Formula:
        """a * by."""
        if isinstance(a, Row):
            a, by = by, a
        if isinstance(a, Row) and isinstance(by, Row):
            return self.row(a.values * by.values)
        if isinstance(a, Sums) and isinstance(by, Row) and by.width in (1, a.width):
            return self.sums([Term(t.formula, t.matrix, t.factor * by.values) for t in a.terms], a.bias * by.values)
        return self.call("Mul", a, by)

    # -- nodes --------------------------------------------------------------------------------------------------------

    def _visit(self, node: Node) -> None:
        site = site_of(self.graph, node)
        if node.op in _MOVES:
            self._move(node, site)
            return
        rule = _RULES.get(node.op) or (_function if node.op in _FUNCTIONS else None)
        if rule is None:
            raise NoFormulaError
        made = rule(self, site)
        type_ = self.graph.types[node.outputs[0]]
        if isinstance(made, Row) or type_.shape[-1:] != (made.width,) or type_.size != self.rows * made.width:
            raise NoFormulaError
        self.found[node.outputs[0]] = made

    def arg(self, site: Site, index: int) -> Formula:
        """The formula of an input."""
        name = site.node.inputs[index]
        constant = site.const(index)
        if constant is None:
            if name not in self.found:
                raise NoFormulaError
            return self.found[name]
        if constant.dtype != np.float32 or constant.size > MAX_ELEMENTS or constant.size not in (1, *constant.shape[-1:]):
            raise NoFormulaError
        return self.row(constant)

    def _move(self, node: Node, site: Site) -> None:
        """The outputs of a moving op, followed feature by feature."""
        source = self.found.get(node.inputs[0])
        if source is None or self.rows * source.width > MAX_ELEMENTS:
            raise NoFormulaError
        numbers = np.arange(self.rows * source.width).reshape(self.graph.types[node.inputs[0]].shape)
        rest = [site.const(k) for k in range(1, len(node.inputs))]
        if any(name and value is None for name, value in zip(node.inputs[1:], rest, strict=True)):
            raise NoFormulaError
        for name, moved in zip(node.outputs, get_op(node).reference(site, numbers, *rest), strict=False):
            width = moved.shape[-1] if moved.ndim else 0
            if not name or width == 0 or moved.size != self.rows * width:
                continue
            first = int(moved.reshape(-1)[0])
            wanted = first + np.arange(self.rows)[:, None] * source.width + np.arange(width)
            if first + width <= source.width and np.array_equal(moved.reshape(self.rows, width), wanted):
                self.found[name] = self.cut(source, first, width)


def _of_row(values: Array, columns: slice) -> Array:
    return values if len(values) == 1 else values[columns]


def _function(f: Formulas, site: Site) -> Formula:
    return f.call(site.node.op, f.arg(site, 0))


def _matmul(f: Formulas, site: Site) -> Formula:
    matrix = site.const(1)
    if matrix is None or matrix.ndim != 2 or matrix.dtype != np.float32:
        raise NoFormulaError
    return f.times(f.arg(site, 0), matrix)


def _gemm(f: Formulas, site: Site) -> Formula:
    matrix = site.const(1)
    if matrix is None or matrix.dtype != np.float32 or site.attr_int("transA", 0):
        raise NoFormulaError
    product = f.times(f.arg(site, 0), matrix.T if site.attr_int("transB", 0) else matrix, site.attr_float("alpha", 1.0))
    if not site.has(2):
        return product
    return f.add(product, f.scale(f.arg(site, 2), f.row(site.attr_float("beta", 1.0) * _ONE)))


def _sum(f: Formulas, site: Site) -> Formula:
    total = f.arg(site, 0)
    for k in range(1, len(site.node.inputs)):
        total = f.add(total, f.arg(site, k))
    return total


def _sub(f: Formulas, site: Site) -> Formula:
    return f.add(f.arg(site, 0), f.scale(f.arg(site, 1), f.row(-_ONE)))


def _div(f: Formulas, site: Site) -> Formula:
    divisor = f.arg(site, 1)
    if not isinstance(divisor, Row) or (divisor.values == 0).any():
        raise NoFormulaError
    return f.scale(f.arg(site, 0), f.row(1 / divisor.values))


def _concat(f: Formulas, site: Site) -> Formula:
    rank = site.type(0).rank
    if site.axis(site.attr_int("axis", 0), rank) != rank - 1:
        raise NoFormulaError
    parts = [f.arg(site, k) for k in range(len(site.node.inputs))]
    if any(isinstance(part, Row) for part in parts):  # what is as wide as one number would be taken for one
        raise NoFormulaError
    return f.join(parts)


def _hard_sigmoid(f: Formulas, site: Site) -> Formula:
    """A straight line, cut off: the line goes into the sums."""
    alpha, beta = (f.row(site.attr_float(*given) * _ONE) for given in (("alpha", 0.2), ("beta", 0.5)))
    return f.call("HardSigmoid", f.add(f.scale(f.arg(site, 0), alpha), beta))


def _bounded(f: Formulas, x: Formula, low: Formula | None, high: Formula | None) -> Formula:
    """x cut off at 0, or at 0 and 1."""
    for bound, value in ((low, 0), (high, 1)):
        if bound is not None and not (isinstance(bound, Row) and bound.is_all(value)):
            raise NoFormulaError
    if high is None:
        return f.call("HardSigmoid", *x.args) if isinstance(x, Call) and x.op == "Below1" else f.call("Relu", x)
    if low is None:
        return f.call("HardSigmoid", *x.args) if isinstance(x, Call) and x.op == "Relu" else f.call("Below1", x)
    return f.call("HardSigmoid", x)


def _clip(f: Formulas, site: Site) -> Formula:
    low, high = (f.arg(site, k) if site.has(k) else None for k in (1, 2))
    return _bounded(f, f.arg(site, 0), low, high)


def _extreme(f: Formulas, site: Site) -> Formula:
    """Min or Max of a formula and a number."""
    if len(site.node.inputs) != 2:
        raise NoFormulaError
    x, bound = f.arg(site, 0), f.arg(site, 1)
    if isinstance(x, Row):
        x, bound = bound, x
    return _bounded(f, x, *((None, bound) if site.node.op == "Min" else (bound, None)))


_RULES: dict[str, Callable[[Formulas, Site], Formula]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _sum,
    "Sum": _sum,
    "Sub": _sub,
    "Mul": lambda f, site: f.scale(f.arg(site, 0), f.arg(site, 1)),
    "Div": _div,
    "Neg": lambda f, site: f.scale(f.arg(site, 0), f.row(-_ONE)),
    "Concat": _concat,
    "HardSigmoid": _hard_sigmoid,
    "Clip": _clip,
    "Min": _extreme,
    "Max": _extreme,
}
