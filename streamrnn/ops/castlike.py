"""CastLike: input 0 in the element type of input 1, whose values and shape do not matter. Otherwise it is Cast.

Source  onnx.ai/onnx/operators/onnx__CastLike.html
"""

from __future__ import annotations

from collections.abc import Sequence

from streamrnn.ir.graph import Array, Node
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, get_op, register
from streamrnn.ir.types import StreamType, TensorType


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
