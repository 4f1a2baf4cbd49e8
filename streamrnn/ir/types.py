"""What a wire carries: a tensor, and where time runs through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt


class DType(Enum):
    """Element types that a compiled step can hold; the value is the NumPy name."""

    F32 = "float32"
    F64 = "float64"
    I64 = "int64"
    I32 = "int32"
    I8 = "int8"
    U8 = "uint8"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return np.dtype(self.value)

    @property
    def size(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self in (DType.F32, DType.F64)

    @staticmethod
    def of(array: npt.ArrayLike | np.dtype[np.generic]) -> DType:
        """The DType of an array or NumPy dtype. Raises ValueError for one that no step can hold."""
        dtype = array if isinstance(array, np.dtype) else np.asarray(array).dtype
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
