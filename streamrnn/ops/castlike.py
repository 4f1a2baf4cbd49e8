"""CastLike and BitCast.

    CastLike  input 0 in the element type of input 1, whose values and shape do not matter; otherwise it is Cast
    BitCast   the same bits as another element type of the same size, that of attribute to (a DType's value)

Source  onnx.ai/onnx/operators, pages of CastLike and BitCast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrnn.errors import UnsupportedError
from streamrnn.ir.graph import Array, Node
from streamrnn.ir.lowering import Lowering, Place
from streamrnn.ir.op import Op, Site, Streamed, get_op, register
from streamrnn.ir.types import DType, StreamType, TensorType
from streamrnn.ops._moves import EXACT


@register
class CastLike(Op):
    """See the module's text."""

    name = "CastLike"
    type_only = frozenset({1})

    def as_cast(self, site: Site) -> Site:
        """The same as a Cast."""
        node = site.node
        cast = Node("Cast", node.name, node.inputs[:1], node.outputs, {"to": site.type(1).dtype.value})
        return Site(cast, site.types[:1], site.constants[:1], site.outputs)

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        cast = self.as_cast(site)
        return get_op(cast.node).infer(cast)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        cast = self.as_cast(site)
        return get_op(cast.node).reference(cast, *inputs[:1])

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        if streams[0] is None:
            return Streamed((None,))
        return Streamed((streams[0],))

    def lower(self, site: Site, low: Lowering) -> None:
        cast = self.as_cast(site)
        get_op(cast.node).lower(cast, low)


@register
class BitCast(Op):
    """See the module's text."""

    name = "BitCast"
    tolerance = EXACT

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        x, name = site.type(0), site.attr_str("to", "")
        try:
            to = DType(name)
        except ValueError:
            raise UnsupportedError(f"node '{site.node.name}' (BitCast): no step can hold '{name}'") from None
        if to.size != x.dtype.size:
            raise site.shape_error(f"{x.dtype.value} and {name} are not of one size")
        return (TensorType(to, x.shape),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        x = np.ascontiguousarray(inputs[0], site.type(0).dtype.numpy)
        return (x.view(self.infer(site)[0].dtype.numpy).reshape(site.type(0).shape),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        return Streamed((streams[0],))

    def lower(self, site: Site, low: Lowering) -> None:
        x, y = low.input(0), low.output(0)
        low.copy(Place(x.buffer, y.dtype, x.offset), y, site.type(0).size)
