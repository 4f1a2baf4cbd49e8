"""Ops that treat every element alone, with NumPy broadcasting: one table row each.

A row names the scalar kernel for each element type, the same function in NumPy, and the attributes that become further
arguments. Source of each: its page on onnx.ai/onnx/operators.

`Fused` is a chain of such ops in one loop, made by the `fuse` pass. Its body is a list of texts like "Mul 0 1" or
"LeakyRelu 2 =0.01": the op, then its operands: inputs of the node, then earlier results, or a literal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamrnn.errors import GraphError, UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Apply, Lowering, Register
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register, register_instance
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.kernels import scalar
from streamrnn.kernels._jit import Kernel
from streamrnn.ops._time import join

_BACK = {"f32": DType.F32, "f64": DType.F64, "i64": DType.I64, "i32": DType.I32, "u8": DType.U8, "b1": DType.BOOL}


@dataclass(frozen=True)
class Row:
    """kernels: by element type of the (first) input. attrs: (name, default) of attributes passed after the inputs."""

    name: str
    arity: int
    numpy: Callable[..., Array]
    kernels: Mapping[DType, Kernel]
    attrs: tuple[tuple[str, float], ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)


class Pointwise(Op):
    """An op made from a Row."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.name = row.name  # type: ignore[misc]
        self.tolerance = row.tolerance  # type: ignore[misc]

    def kernel(self, site: Site) -> Kernel:
        dtype = site.type(0).dtype
        found = self.row.kernels.get(dtype)
        if found is None:
            known = ", ".join(d.value for d in self.row.kernels)
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): {dtype.value} is not supported, only {known}")
        return found

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        if len(site.types) != self.row.arity:
            raise site.shape_error(f"takes {self.row.arity} inputs, not {len(site.types)}")
        types = [site.type(i) for i in range(self.row.arity)]
        if len({t.dtype for t in types}) > 1:
            raise site.shape_error(f"inputs have different element types: {', '.join(map(str, types))}")
        returns = self.kernel(site).returns
        return (TensorType(_BACK[str(returns)], broadcast(site, types)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        extra = [site.attr_float(name, default) for name, default in self.row.attrs]
        return (np.asarray(self.row.numpy(*inputs, *extra)),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return join(site, streams)

    def lower(self, site: Site, low: Lowering) -> None:
        literals = [site.attr_float(name, default) for name, default in self.row.attrs]
        args: list[Register | float] = [*map(Register, range(self.row.arity)), *literals]
        lower_loop(site, low, [Apply(self.kernel(site), tuple(args))])


@register
class Fused(Op):
    """A chain of pointwise ops in one loop; see the module's text."""

    name = "Fused"

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        types = [t for t in site.types if t is not None]
        body = self._body(site)
        return (TensorType(_BACK[str(body[-1].function.returns)], broadcast(site, types)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        values: list[Array | None] = list(inputs)
        for line in self._lines(site):
            name, *operands = line.split()
            args = [float(o[1:]) if o.startswith("=") else values[int(o)] for o in operands]
            values.append(np.asarray(_ROWS[name].numpy(*args)))
        assert values[-1] is not None
        return (values[-1],)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return join(site, streams)

    def lower(self, site: Site, low: Lowering) -> None:
        lower_loop(site, low, self._body(site))

    def _lines(self, site: Site) -> tuple[str, ...]:
        body = site.node.attrs.get("body")
        if not isinstance(body, tuple) or not body or not all(isinstance(line, str) for line in body):
            raise GraphError(f"node '{site.node.name}' (Fused): body {body!r} is not a list of texts")
        return tuple(str(line) for line in body)

    def _body(self, site: Site) -> list[Apply]:
        kinds = [site.type(i).dtype for i in range(len(site.types))]
        body = []
        for line in self._lines(site):
            name, *operands = line.split()
            if name not in _ROWS:
                raise GraphError(f"node '{site.node.name}' (Fused): '{name}' is not a pointwise op")
            args: list[Register | float] = []
            for operand in operands:
                if operand.startswith("="):
                    args.append(float(operand[1:]))
                elif operand.isdigit() and int(operand) < len(kinds):
                    args.append(Register(int(operand)))
                else:
                    raise GraphError(f"node '{site.node.name}' (Fused): operand {operand!r} is not known yet")
            first = args[0]
            function = _ROWS[name].kernels.get(kinds[first.index]) if isinstance(first, Register) else None
            if function is None or len(function.params) != len(args):
                raise GraphError(f"node '{site.node.name}' (Fused): no kernel fits {line!r}")
            body.append(Apply(function, tuple(args)))
            kinds.append(_BACK[str(function.returns)])
        return body


def broadcast(site: Site, types: Sequence[TensorType]) -> tuple[int, ...]:
    """The common shape of NumPy's rules; ShapeError where there is none."""
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*(t.shape for t in types)))
    except ValueError:
        raise site.shape_error(f"shapes do not broadcast: {', '.join(str(t.shape) for t in types)}") from None


def lower_loop(site: Site, low: Lowering, body: Sequence[Apply]) -> None:
    """Emit one loop over the output's elements, with neighbouring dimensions merged where every input allows it."""
    shape = site.out(0).shape
    strides = [_strides(site.type(i).shape, shape) for i in range(len(site.types))]
    dims: list[list[int]] = []  # rows of [size, stride of input 0, stride of input 1, ...]
    for d, size in enumerate(shape):
        row = [size, *(s[d] for s in strides)]
        if size == 1:
            continue
        if dims and all(outer == inner * size for outer, inner in zip(dims[-1][1:], row[1:], strict=True)):
            dims[-1] = [dims[-1][0] * size, *row[1:]]
        else:
            dims.append(row)
    dims = dims or [[1, *(0 for _ in strides)]]
    inputs = [(low.input(i), [row[1 + i] for row in dims]) for i in range(len(strides))]
    low.loop([row[0] for row in dims], inputs, body, low.output(0))


def _strides(shape: tuple[int, ...], target: tuple[int, ...]) -> list[int]:
    """Strides in elements with which a C-contiguous `shape` is read as `target`; 0 where it is repeated."""
    strides, step = [0] * len(target), 1
    for d in range(1, len(shape) + 1):
        if shape[-d] != 1:
            strides[-d] = step
        step *= shape[-d]
    return strides


def _f32(kernel: Kernel) -> dict[DType, Kernel]:
    return {DType.F32: kernel}


_ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("Add", 2, np.add, {DType.F32: scalar.add, DType.I64: scalar.add_i64}),
        Row("Sub", 2, np.subtract, _f32(scalar.sub)),
        Row("Mul", 2, np.multiply, _f32(scalar.mul)),
        Row("Div", 2, np.divide, _f32(scalar.div)),
        Row("Relu", 1, lambda x: np.maximum(x, 0), _f32(scalar.relu)),
        Row("LeakyRelu", 1, lambda x, a: np.where(x < 0, a * x, x), _f32(scalar.leaky_relu), (("alpha", 0.01),)),
        Row("Sigmoid", 1, lambda x: 1 / (1 + np.exp(-x)), _f32(scalar.sigmoid)),
        Row("Tanh", 1, np.tanh, _f32(scalar.tanh)),
        Row("Exp", 1, np.exp, _f32(scalar.exp)),
        Row("Less", 2, np.less, _f32(scalar.less)),
    )
}

for _row in _ROWS.values():
    register_instance(Pointwise(_row), _row.name)


def pointwise_row(name: str) -> Row | None:
    """The table row of a pointwise op, or None."""
    return _ROWS.get(name)
