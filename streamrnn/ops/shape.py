"""Shape and Size: the dimensions of the input, or their product, as int64. In a compiled step both are constants.

Shape's attributes start and end cut the list of dimensions like a Python slice.
Source  onnx.ai/onnx/operators, pages of Shape and Size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from streamrnn.ir.graph import Array
from streamrnn.ir.lowering import Lowering
from streamrnn.ir.op import Op, Site, Streamed, register
from streamrnn.ir.types import StreamType, TensorType
from streamrnn.ops._moves import EXACT, ints, lower_constant


class OfShape(Op):
    """An op of the input's type alone."""

    tolerance = EXACT
    type_only = frozenset({0})

    @abstractmethod
    def value(self, site: Site) -> Array:
        """The result."""

    def infer(self, site: Site) -> tuple[TensorType, ...]:
        return (TensorType.of(self.value(site)),)

    def reference(self, site: Site, *inputs: Array | None) -> tuple[Array, ...]:
        return (self.value(site),)

    def stream(self, site: Site, streams: Sequence[StreamType | None]) -> Streamed:
        raise site.not_streamable("asks for the length of the clip, which a stream does not have")

    def lower(self, site: Site, low: Lowering) -> None:
        lower_constant(low, self.value(site))


@register
class Shape(OfShape):
    """See the module's text."""

    name = "Shape"

    def value(self, site: Site) -> Array:
        shape = site.type(0).shape
        return ints(shape[site.attr_int("start", 0) : site.attr_int("end", len(shape))])


@register
class Size(OfShape):
    """See the module's text."""

    name = "Size"

    def value(self, site: Site) -> Array:
        return ints([site.type(0).size]).reshape(())
