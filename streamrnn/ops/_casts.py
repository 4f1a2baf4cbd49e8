"""Element types on the way into a kernel and out of it."""

from __future__ import annotations

from streamrnn.ir.lowering import Apply, Lowering, Place, Register
from streamrnn.ir.types import DType
from streamrnn.ops.pointwise_table import ROWS


def cast_body(source: DType, target: DType, register: int, free: int) -> list[Apply]:
    """What an element loop applies to bring `register` of type `source` to `target`; nothing where they are the same. `free` is
    the number of the first result. float16 is converted to and from float32 alone."""
    if source is target:
        return []
    found = ROWS[f"Cast.{target.value}"].applied([source])
    if found is None:
        first = cast_body(source, DType.F32, register, free)
        return [*first, *cast_body(DType.F32, target, free, free + 1)]
    kernel, dtype = found
    return [Apply(kernel, (Register(register),), dtype)]


def convert(low: Lowering, source: Place, target: Place, count: int) -> None:
    """Emit `target` = `source`, in the element type of `target`."""
    low.loop((count,), [(source, (1,))], cast_body(source.dtype, target.dtype, 0, 1), target)


def converted(low: Lowering, source: Place, dtype: DType, count: int) -> Place:
    """The same numbers as `dtype`: the place itself where they are that already."""
    if source.dtype is dtype:
        return source
    target = low.scratch(dtype, count)
    convert(low, source, target, count)
    return target
