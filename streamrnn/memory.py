"""Memory that compiled steps work on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamrnn.engine import Engine
from streamrnn.plan import ALIGN


def aligned_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Zeroed memory that starts at a multiple of 64 bytes."""
    block = np.zeros(size + ALIGN, np.uint8)
    start = -block.ctypes.data % ALIGN
    return block[start : start + size]


def engine_weights(engine: Engine) -> npt.NDArray[np.uint8]:
    """The weight block at a multiple of 64 bytes; one copy per engine, shared by its streams."""
    block: npt.NDArray[np.uint8] | None = engine.__dict__.get("_weights")
    if block is None:
        block = aligned_bytes(engine.plan.weights.nbytes)
        block[:] = engine.plan.weights
        block.flags.writeable = False
        engine.__dict__["_weights"] = block
    return block
