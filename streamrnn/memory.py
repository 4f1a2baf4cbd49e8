"""Memory that compiled steps work on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

#: bytes; whole vectors fit behind every element of the last tile
ALIGN = 64


def aligned_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Zeroed memory that starts at a multiple of 64 bytes."""
    block = np.zeros(size + ALIGN, np.uint8)
    start = -block.ctypes.data % ALIGN
    return block[start : start + size]
