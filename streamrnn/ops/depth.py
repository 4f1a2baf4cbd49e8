"""DepthToSpace and SpaceToDepth: blocks of b x b positions become channels, and back.

    DepthToSpace  [N, C b b, H, W] -> [N, C, H b, W b]       SpaceToDepth  [N, C, H b, W b] -> [N, C b b, H, W]

Attributes  blocksize b; mode: channel (row b + column) C + c is meant in "DCR", the default, (c b + row) b + column in "CRD".
Over time   SpaceToDepth takes b frames together; DepthToSpace parts them again.
Source      onnx.ai/onnx/operators/onnx__DepthToSpace.html, onnx__SpaceToDepth.html.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, contiguous, lower_strided
from streamrnn.ops._time import only, windowed


class _Blocks(Op):
    """A transpose of six axes."""

    tolerance = EXACT

    def _block(self, site: Site) -> int:
        b = site.attr_int("blocksize", 0)
        if site.type(0).rank != 4 or b < 1:
            raise site.shape_error(f"input {site.type(0)} should be [N, C, H, W], blocksize {b} positive")
        return b

    def _column_first(self, site: Site) -> bool:
        mode = site.attr_str("mode", "DCR")
        if mode not in ("DCR", "CRD"):
            raise UnsupportedError(f"node '{site.node.name}' ({self.name}): mode '{mode}' is not DCR or CRD")
        return mode == "CRD"

    @abstractmethod
    def _parts(self, site: Site) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The input as six axes, their order in the output, the output's shape. Raises ShapeError."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        self._column_first(site)
        return (site.type(0).with_shape(self._parts(site)[2]),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        axes, order, shape = self._parts(site)
        assert inputs[0] is not None
        return (np.ascontiguousarray(inputs[0].reshape(axes).transpose(order)).reshape(shape),)

    def lower(self, site: Site, low: Lowering) -> None:
        axes, order, _ = self._parts(site)
        steps = contiguous(axes)
        lower_strided(low, 0, [axes[d] for d in order], [steps[d] for d in order])


@register
class DepthToSpace(_Blocks):
    """See the module's text."""

    name = "DepthToSpace"

    def _parts(self, site: Site) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        b, (n, c, h, w) = self._block(site), site.type(0).shape
        if c % (b * b):
            raise site.shape_error(f"{c} channels are no multiple of {b} x {b}")
        depth = c // (b * b)
        shape = (n, depth, h * b, w * b)
        if self._column_first(site):
            return (n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3), shape
        return (n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2), shape

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, b = only(site, streams), self._block(site)
        if x.axis == 1:
            raise site.not_streamable("time runs along its channels")
        if x.axis is None or x.axis == 0:
            return Streamed((x,))
        if x.stride % b:
            raise site.not_streamable(f"it makes {b} frames of each frame, which is {x.stride} input frames long")
        return Streamed((StreamType(x.axis, x.delay * b, x.stride // b),))


@register
class SpaceToDepth(_Blocks):
    """See the module's text."""

    name = "SpaceToDepth"

    def _parts(self, site: Site) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        b, (n, c, h, w) = self._block(site), site.type(0).shape
        if h % b or w % b:
            raise site.shape_error(f"{h} x {w} positions are no multiple of {b} x {b}")
        order = (0, 1, 3, 5, 2, 4) if self._column_first(site) else (0, 3, 5, 1, 2, 4)
        return (n, c, h // b, b, w // b, b), order, (n, c * b * b, h // b, w // b)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        x, b = only(site, streams), self._block(site)
        if x.axis == 1:
            raise site.not_streamable("time runs along its channels")
        return Streamed((x,)) if x.axis is None or x.axis == 0 else windowed(x, b, 1, b, (0, 0), 0.0, {})
