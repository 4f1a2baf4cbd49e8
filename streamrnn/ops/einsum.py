"""Einsum: sums of products by Einstein's convention.

    "bij,bjk->bik"   letters name axes; the output sums over every letter that it does not have
    "ii->i"          a letter that comes twice in one operand: its diagonal
    "...ij->...ji"   "..." stands for any number of axes, which broadcast
    "ij,jk"          without "->" the output has the letters that come once, in alphabetical order, behind "..."

Inputs  any number of tensors of one type (float32, float64, int64). They are multiplied from the left, two at a time.
Source  onnx.ai/onnx/operators/onnx__Einsum.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, Tolerance, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._contract import MULTIPLIED, Named, contract
from streamrnn.ops._moves import contiguous, fill, lower_strided
from streamrnn.ops._time import joined, one_frame

#: products of one element of every operand that one equation may have
MAX_PRODUCTS = 1 << 36


@dataclass(frozen=True)
class _Equation:
    """Names of the axes of each operand and of the output (the axes behind "..." are "0", "1", ..), and their sizes."""

    operands: tuple[tuple[str, ...], ...]
    out: tuple[str, ...]
    sizes: dict[str, int]

    @staticmethod
    def of(site: Site) -> _Equation:
        """The equation of a node. Raises ShapeError."""
        text = site.attr_str("equation", "").replace(" ", "")
        left, arrow, right = text.partition("->")
        terms = left.split(",")
        shapes = [site.type(i).shape for i in range(len(site.types))]
        if len(terms) != len(shapes):
            raise site.shape_error(f"equation '{text}' has {len(terms)} operands, the node has {len(shapes)} inputs")
        hidden = [len(shape) - len(term.replace("...", "")) for term, shape in zip(terms, shapes, strict=True)]
        widest = max((n for n, term in zip(hidden, terms, strict=True) if "..." in term), default=0)
        if not arrow:
            letters = left.replace(",", "").replace(".", "")
            once = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
            right = ("..." if "..." in left else "") + once
        operands = [_names(site, text, term, n, widest) for term, n in zip(terms, hidden, strict=True)]
        out = _names(site, text, right, widest if "..." in right else 0, widest)
        sizes: dict[str, int] = {}
        for names, shape in zip(operands, shapes, strict=True):
            for name, size in zip(names, shape, strict=True):
                known = sizes.setdefault(name, size)
                if known == 1:
                    sizes[name] = size
                elif size not in (1, known):
                    raise site.shape_error(f"equation '{text}': axis {name} has {known} elements here and {size} there")
        unknown = [name for name in out if name not in sizes]
        if unknown or len(set(out)) < len(out):
            raise site.shape_error(f"equation '{text}': its output has axes {unknown or out} that no input has, or one twice")
        return _Equation(tuple(operands), out, sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return tuple(self.sizes[name] for name in self.out)

    def strides(self, index: int, shape: Sequence[int]) -> dict[str, int]:
        """Stride of each name in operand `index`, a C-contiguous tensor of `shape`; none where it is repeated."""
        found: dict[str, int] = {}
        for name, size, step in zip(self.operands[index], shape, contiguous(shape), strict=True):
            if size > 1:
                found[name] = found.get(name, 0) + step
        return found


def _names(site: Site, text: str, term: str, hidden: int, widest: int) -> tuple[str, ...]:
    """The names of one term, whose "..." stands for `hidden` axes, the last ones of `widest`."""
    before, dots, after = term.partition("...")
    letters = before + after
    if not (letters.isascii() and (letters.isalpha() or not letters)) or hidden < 0 or (hidden > 0 and not dots):
        raise site.shape_error(f"equation '{text}': '{term}' does not name the axes of its tensor")
    return (*before, *(str(d) for d in range(widest - hidden, widest)), *after)


@register
class Einsum(Op):
    """See the module's text."""

    name = "Einsum"
    tolerance = Tolerance(2e-6, 2e-5)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        dtypes = {site.type(i).dtype for i in range(len(site.types))}
        dtype = site.type(0).dtype
        if len(dtypes) > 1:
            raise site.shape_error(f"its inputs are of several types: {sorted(d.value for d in dtypes)}")
        if dtype not in MULTIPLIED:
            known = ", ".join(d.value for d in MULTIPLIED)
            raise UnsupportedError(f"node '{site.node.name}' (Einsum): {dtype.value} is not supported, only {known}")
        equation = _Equation.of(site)
        if prod(equation.sizes.values()) > MAX_PRODUCTS:
            raise UnsupportedError(
                f"node '{site.node.name}' (Einsum): its axes {equation.sizes} make more than {MAX_PRODUCTS} products"
            )
        return (TensorType(dtype, equation.shape),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        equation = _Equation.of(site)
        numbers = {name: k for k, name in enumerate(equation.sizes)}
        operands = []
        for names, value in zip(equation.operands, inputs, strict=True):
            assert value is not None
            shape = tuple(equation.sizes[name] for name in names)
            operands += [np.broadcast_to(value, shape), [numbers[name] for name in names]]
        return (np.asarray(np.einsum(*operands, [numbers[name] for name in equation.out], optimize="greedy")),)  # type: ignore[call-overload]

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        equation = _Equation.of(site)
        names = {None if s.axis is None else equation.operands[i][s.axis] for i, s in enumerate(streams) if s is not None}
        time = names.pop()
        if names:
            raise site.not_streamable("joins wires with time on different axes")
        if time is None:
            return Streamed((joined(site, streams, None),))
        if time not in equation.out:
            raise site.not_streamable("sums over time")
        consts = {}
        for i, own in enumerate(equation.operands):
            if own.count(time) > 1:
                raise site.not_streamable("takes a diagonal along time")
            if streams[i] is None and time in own:
                cut = one_frame(site, i, own.index(time))
                if cut is not None:
                    consts[i] = cut
        return Streamed((joined(site, streams, equation.out.index(time)),), consts=consts)

    def lower(self, site: Site, low: Lowering) -> None:
        equation = _Equation.of(site)
        dtype, y = site.type(0).dtype, low.output(0)
        if 0 in equation.sizes.values():
            fill(low, np.zeros(1, dtype.numpy), prod(equation.shape), y)
            return
        operands = [Named(low.input(i), equation.strides(i, site.type(i).shape), site.const(i)) for i in range(len(site.types))]
        first, *others = operands
        if not others:
            one = np.ones(1, dtype.numpy)
            if set(first.strides) <= set(equation.out):
                lower_strided(low, 0, equation.shape, [first.strides.get(name, 0) for name in equation.out])
                return
            others = [Named(low.weight(one), {}, one)]
        for k, other in enumerate(others):
            later = [name for t in others[k + 1 :] for name in t.strides]
            if not later and k == len(others) - 1:
                contract(low, equation.sizes, first, other, equation.out, y)
                return
            kept = [n for n in dict.fromkeys([*first.strides, *other.strides]) if n in equation.out or n in later]
            place = low.scratch(dtype, prod(equation.sizes[name] for name in kept))
            contract(low, equation.sizes, first, other, kept, place)
            first = Named.of(place, kept, equation.sizes)
