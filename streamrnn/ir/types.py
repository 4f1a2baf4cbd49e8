"""What a wire carries: a tensor, and where time runs through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

#: any array; element types are checked at run time, by TensorType
Array: TypeAlias = "npt.NDArray[Any]"


class DType(Enum):
    """Element types that a compiled step can hold; the value is the NumPy name.

    float16 is a way to store numbers: it is moved and converted, and arithmetic happens in float32.
    """

    F32 = "float32"
    F64 = "float64"
    F16 = "float16"
    I64 = "int64"
    I32 = "int32"
    I16 = "int16"
    I8 = "int8"
    U64 = "uint64"
    U32 = "uint32"
    U16 = "uint16"
    U8 = "uint8"
    BOOL = "bool"

    @cached_property
    def numpy(self) -> np.dtype[np.generic]:
        return np.dtype(self.value)

    @cached_property
    def stored(self) -> np.dtype[np.generic]:
        """What kernels see in memory: NumPy's type, but the bits of a float16."""
        return np.dtype("uint16") if self is DType.F16 else self.numpy

    @cached_property
    def ctype(self) -> str:
        """Name of this type in kernel signatures: f32, i64, u8, b1 ..."""
        return "b1" if self is DType.BOOL else self.value[0] + self.value.lstrip("abcdefghijklmnopqrstuvwxyz")

    @cached_property
    def wide(self) -> str:
        """C type in which scalar functions of element loops compute: integers of every width that fits are int64 there, and
        what they give is cut to its width again."""
        return "i64" if self.is_integer and self is not DType.U64 else self.ctype

    @cached_property
    def pointer(self) -> str:
        """Name of a pointer to this type in kernel signatures."""
        return f"{self.ctype}p"

    @cached_property
    def size(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @cached_property
    def is_float(self) -> bool:
        return self.numpy.kind == "f"

    @cached_property
    def is_integer(self) -> bool:
        return self.numpy.kind in "iu"

    @staticmethod
    def of(array: npt.ArrayLike | np.dtype[np.generic]) -> DType:
        """The DType of an array or NumPy dtype. Raises ValueError for one that no step can hold."""
        return _named(array if isinstance(array, np.dtype) else np.asarray(array).dtype)

    @staticmethod
    def of_ctype(ctype: str) -> DType:
        """The DType of that name in kernel signatures."""
        return next(dtype for dtype in DType if dtype.ctype == ctype)


@cache
def _named(dtype: np.dtype[np.generic]) -> DType:
    return DType(dtype.name)


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and static shape. Every dimension is a number: a clip's length is fixed before types are inferred,
    and `streamify` later replaces it by the frames of one step."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.size

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(self.dtype, shape)

    @staticmethod
    def of(array: npt.NDArray[np.generic]) -> TensorType:
        return TensorType(DType.of(array), tuple(int(n) for n in array.shape))

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class StreamType:
    """How time runs through a wire of a step graph.

    axis:   the axis along which frames lie, or None where the wire holds one answer for all frames so far (Y_h, a
            last-frame selection).
    delay:  frames of this wire's own clock by which it lags: at step t the wire carries frames up to t - delay; what comes
            before frame 0 is filler and must not reach any state.
    stride: input frames per frame of this wire.
    """

    axis: int | None
    delay: int = 0
    stride: int = 1

    def __str__(self) -> str:
        return f"axis={'-' if self.axis is None else self.axis} delay={self.delay} stride={self.stride}"
