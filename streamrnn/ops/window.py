"""Window: the one op that remembers frames. It stands in front of a convolution over time, is a delay, is a pad.

    y[.., q * taps + i, ..] = frame q * stride + i * dilation of (the last `history` frames, then this step's frames)

Attributes  axis (of time; -1 where the wire is one answer for all frames), taps, dilation, stride (0: the history and all
            frames of a step are one window), history, fill (what lies before frame 0), edge (1: frame 0 itself lies before
            it), warmup (frames of filler at the start of x).
Inputs      x of any element type, ring [history, x.size / frames], head [1] (i64: slot of the oldest frame, -1 while frame 0
            is awaited); ring and head are left out where history is 0.
Outputs     y: x with frames / stride * taps frames on `axis`; the new ring; the new head.

It exists in step graphs only: `streamify` makes it.
"""

from __future__ import annotations

import numpy as np

from streamrnn.ir.graph import Array, Node
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, register
from streamrnn.ir.types import DType, TensorType
from streamrnn.kernels.window import window
from streamrnn.ops._moves import as_numbers, pointer_of


def fill_of(node: Node, dtype: DType) -> Array:
    """The number that lies before frame 0 of a Window."""
    return np.array(node.attrs.get("fill", 0)).astype(dtype.numpy)


@register
class Window(Op):
    """See the module's text."""

    name = "Window"

    def _sizes(self, site: Site) -> tuple[int, int, int]:
        """(outer, frames, inner) of x."""
        shape, axis = site.type(0).shape, site.attr_int("axis", 0)
        if axis < 0:
            return 1, 1, site.type(0).size
        axis = site.axis(axis, len(shape))
        outer = int(np.prod(shape[:axis], dtype=np.int64))
        return outer, shape[axis], int(np.prod(shape[axis + 1 :], dtype=np.int64))

    def _attrs(self, site: Site) -> tuple[int, int, int, int]:
        taps, dilation, stride = (site.attr_int(name, 1) for name in ("taps", "dilation", "stride"))
        history = site.attr_int("history", 0)
        if min(taps, dilation) < 1 or min(stride, history) < 0:
            raise site.shape_error(f"taps {taps}, dilation {dilation}, stride {stride}, history {history} make no window")
        if stride == 0:
            frames = self._sizes(site)[1]
            return history + frames, 1, frames, history
        return taps, dilation, stride, history

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x = site.type(0)
        taps, dilation, stride, history = self._attrs(site)
        outer, frames, inner = self._sizes(site)
        if frames % stride:
            raise site.shape_error(f"{frames} frames a step are no multiple of the stride {stride}")
        if frames // stride * stride - stride + (taps - 1) * dilation >= history + frames:
            raise site.shape_error(f"history {history} is too short for {taps} taps of dilation {dilation}")
        made = frames // stride * taps
        axis = site.attr_int("axis", 0)
        y = x.with_shape(tuple(made if d == axis else n for d, n in enumerate(x.shape)))
        if history == 0:
            return (y,)
        ring, head = x.with_shape((history, outer * inner)), TensorType(DType.I64, (1,))
        if (site.type(1), site.type(2)) != (ring, head):
            raise site.shape_error(f"ring {site.type(1)} and head {site.type(2)} should be {ring} and {head}")
        return y, ring, head

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = inputs[0]
        assert x is not None
        taps, dilation, stride, history = self._attrs(site)
        outer, frames, inner = self._sizes(site)
        fresh = np.moveaxis(x.reshape(outer, frames, inner), 1, 0).reshape(frames, -1)
        past, head = np.zeros((0, outer * inner), x.dtype), 0
        if history:
            assert inputs[1] is not None
            assert inputs[2] is not None
            head = max(int(inputs[2][0]), 0)
            past = np.roll(inputs[1] if inputs[2][0] >= 0 else np.repeat(fresh[:1], history, axis=0), -head, axis=0)
        both = np.concatenate([past, fresh])
        picked = [q * stride + i * dilation for q in range(frames // stride) for i in range(taps)]
        y = np.moveaxis(both[picked].reshape(len(picked), outer, inner), 0, 1).reshape(site.out(0).shape)
        if not history:
            return (y,)
        head = (head + frames) % history
        return y, np.roll(both[len(both) - history :], head, axis=0), np.array([head])

    def lower(self, site: Site, low: Lowering) -> None:
        taps, dilation, stride, history = self._attrs(site)
        outer, frames, inner = self._sizes(site)
        if history == 0 and dilation == 1 and taps == stride and low.skip(frames) == 0:
            low.view(0, 0)
            return
        x, y = low.input(0), low.output(0)
        dtype = site.type(0).dtype
        if history:
            ring, head = low.update(1, 1), low.update(2, 2)
        else:
            ring, head = low.scratch(dtype, 1), low.weight(np.zeros(1, np.int64))
        fill = low.weight(fill_of(site.node, dtype).reshape(1))
        pointer = pointer_of(dtype)
        kernel = window.typed(fill=pointer, x=pointer, ring=pointer, y=pointer)
        low.call(
            kernel, outer, frames, inner, taps, dilation, stride, history, low.skip(frames),
            *map(as_numbers, (fill, x, ring)), head, as_numbers(y), work=outer * inner * (taps + frames),
        )  # fmt: skip
