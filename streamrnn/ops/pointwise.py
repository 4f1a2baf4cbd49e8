"""Ops that treat every element alone, with NumPy broadcasting: one loop over the elements of the output.

What such a node computes is a body: a list of lines like "Mul 0 1" or "LeakyRelu 2 =0.01". A line is a row of
`pointwise_table` and its operands: inputs of the node, then the results of earlier lines, or a literal. Most ops are one
line; Clip, Sum or Mean are a few; `Fused`, made by the `fuse` pass, carries the lines of a whole chain of nodes. A body
without lines is the identity: the output is input 0, and no loop is needed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from streamrnn.errors import GraphError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.op import Op, Site, Streamed, find_op, register, register_instance
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._time import join
from streamrnn.ops.pointwise_table import EXPANSIONS, PARTS, ROWS, Row, line


class Pointwise(Op):
    """An op that is a body of lines."""

    @abstractmethod
    def lines(self, site: Site) -> Sequence[str]:
        """The body."""

    def plain(self, site: Site) -> bool:
        """Whether the inputs broadcast by NumPy's rules, so that the node can be part of a chain."""
        return True

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        types = [t for t in site.types if t is not None]
        body = parsed(site, self.lines(site))
        dtype = body[-1].dtype if body else site.type(0).dtype
        return (TensorType(dtype, broadcast(site, types)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        values: list[Array | None] = list(inputs)
        with np.errstate(all="ignore"):
            for text in self.lines(site):
                row, operands = _split(site, text)
                values.append(np.asarray(row.numpy(*(o if isinstance(o, float) else values[o] for o in operands))))
        result = values[-1] if len(values) > len(inputs) else values[0]
        assert result is not None
        shape = np.broadcast_shapes(*(a.shape for a in inputs if a is not None))
        return (np.broadcast_to(result, shape).copy(),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return join(site, streams)

    def lower(self, site: Site, low: Lowering) -> None:
        body = parsed(site, self.lines(site))
        if body:
            lower_loop(site, low, body)
        else:
            low.view(0, 0)


class Single(Pointwise):
    """An op that is one row of the table."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.name = row.name  # type: ignore[misc]
        self.tolerance = row.tolerance  # type: ignore[misc]

    def lines(self, site: Site) -> Sequence[str]:
        if len(site.types) != self.row.arity:
            raise site.shape_error(f"takes {self.row.arity} inputs, not {len(site.types)}")
        literals = [site.attr_float(name, default) for name, default in self.row.attrs]
        return [line(self.name, *range(self.row.arity), *literals)]


class Expanded(Pointwise):
    """An op that is several lines, which depend on the node."""

    def __init__(self, name: str, expansion: Callable[[Site], list[str]]) -> None:
        self.name = name  # type: ignore[misc]
        self.expansion = expansion

    def lines(self, site: Site) -> Sequence[str]:
        return self.expansion(site)


@register
class Fused(Pointwise):
    """A chain of pointwise nodes in one loop. Attribute body: its lines."""

    name = "Fused"

    def lines(self, site: Site) -> Sequence[str]:
        body = site.node.attrs.get("body")
        if not isinstance(body, tuple) or not body or not all(isinstance(text, str) for text in body):
            raise GraphError(f"node '{site.node.name}' (Fused): body {body!r} is not a list of texts")
        return [str(text) for text in body]


def _split(site: Site, text: str) -> tuple[Row, list[int | float]]:
    """The row and the operands of a line. Raises GraphError."""
    name, *operands = text.split() or [""]
    if name not in ROWS:
        raise GraphError(f"node '{site.node.name}' ({site.node.op}): '{name}' is not a pointwise function")
    try:
        return ROWS[name], [float(o[1:]) if o.startswith("=") else int(o) for o in operands]
    except ValueError:
        raise GraphError(f"node '{site.node.name}' ({site.node.op}): {text!r} has an operand that is no number") from None


def parsed(site: Site, lines: Sequence[str]) -> list[Apply]:
    """The kernels behind the lines, chosen by the element types. Raises GraphError, UnsupportedError."""
    kinds = [None if t is None else t.dtype for t in site.types]
    # omitted inputs take no register of the loop
    given = [k for k, kind in enumerate(kinds) if kind is not None]
    numbers = {k: position for position, k in enumerate(given)}
    body: list[Apply] = []
    for text in lines:
        row, operands = _split(site, text)
        unknown = [o for o in operands if isinstance(o, int) and o not in numbers]
        if unknown:
            raise GraphError(f"node '{site.node.name}' ({site.node.op}): {text!r} reads {unknown}, which is not known yet")
        found = [kinds[o] if isinstance(o, int) else None for o in operands]
        applied = row.applied(found)
        if applied is None:
            types = ", ".join(kind.value for kind in found if kind is not None)
            raise UnsupportedError(
                f"node '{site.node.name}' ({site.node.op}): {row.name} of ({types}) is not supported, only {row.signatures()}; "
                f"put a Cast in front of it"
            )
        function, dtype = applied
        body.append(Apply(function, tuple(Register(numbers[o]) if isinstance(o, int) else o for o in operands), dtype))
        numbers[len(kinds)] = len(given) + len(body) - 1
        kinds.append(dtype)
    return body


def pointwise_lines(site: Site) -> Sequence[str]:
    """The body of a pointwise node; empty for any other node, and for one that hands its input on."""
    op = find_op(site.node.op)
    return op.lines(site) if isinstance(op, Pointwise) and op.plain(site) else ()


def broadcast(site: Site, types: Sequence[TensorType]) -> tuple[int, ...]:
    """The common shape of NumPy's rules; ShapeError where there is none."""
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*(t.shape for t in types)))
    except ValueError:
        raise site.shape_error(f"shapes do not broadcast: {', '.join(str(t.shape) for t in types)}") from None


def lower_loop(site: Site, low: Lowering, body: Sequence[Apply]) -> None:
    """Emit one loop over the elements of output 0."""
    given = [(low.input(k), site.type(k).shape) for k in range(len(site.types)) if site.has(k)]
    emit_loop(low, site.out(0).shape, given, body, low.output(0))


def emit_loop(
    low: Lowering, shape: tuple[int, ...], given: Sequence[tuple[Place, tuple[int, ...]]], body: Sequence[Apply], output: Place
) -> None:
    """Emit one loop over the elements of `shape`, with neighbouring dimensions merged where every input allows it. given: the
    inputs with their shapes, which broadcast to `shape`."""
    if 0 in shape:
        return
    strides = [_strides(own, shape) for _, own in given]
    dims: list[list[int]] = []  # rows of [size, stride of each input]
    for d, size in enumerate(shape):
        row = [size, *(s[d] for s in strides)]
        if size == 1:
            continue
        if dims and all(outer == inner * size for outer, inner in zip(dims[-1][1:], row[1:], strict=True)):
            dims[-1] = [dims[-1][0] * size, *row[1:]]
        else:
            dims.append(row)
    dims = dims or [[1, *(0 for _ in strides)]]
    inputs = [(place, [row[1 + i] for row in dims]) for i, (place, _) in enumerate(given)]
    low.loop([row[0] for row in dims], inputs, body, output)


def emit_lines(
    site: Site,
    low: Lowering,
    shape: tuple[int, ...],
    given: Sequence[tuple[Place, tuple[int, ...]]],
    lines: Sequence[str],
    output: Place,
) -> None:
    """Emit `lines` on places with their shapes, as one loop over the elements of `shape`, for a node that is not pointwise
    itself."""
    types = tuple(TensorType(place.dtype, own) for place, own in given)
    emit_loop(low, shape, given, parsed(Site(site.node, types, (None,) * len(types)), lines), output)


def _strides(shape: tuple[int, ...], target: tuple[int, ...]) -> list[int]:
    """Strides in elements with which a C-contiguous `shape` is read as `target`; 0 where it is repeated."""
    strides, step = [0] * len(target), 1
    for d in range(1, len(shape) + 1):
        if shape[-d] != 1:
            strides[-d] = step
        step *= shape[-d]
    return strides


for _name, _row in ROWS.items():
    if _name not in EXPANSIONS and _name not in PARTS:
        register_instance(Single(_row), _name)
for _name, _expansion in EXPANSIONS.items():
    register_instance(Expanded(_name, _expansion), _name)
