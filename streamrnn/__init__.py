"""streamrnn: recurrent networks, one compiled step at a time.

import streamrnn
engine = streamrnn.load("model.onnx")      # or model.srnn, which needs no converter
stream = streamrnn.Stream(engine)
y = stream.step(x)                         # one frame
Y = stream.process(X)                      # a block of frames, the same bits
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from streamrnn.engine import Engine, load
from streamrnn.errors import (
    BindingError,
    GraphError,
    InputError,
    MissingExtraError,
    ModelFileError,
    NonFiniteError,
    NotStreamableError,
    ShapeError,
    SnapshotError,
    StatePairError,
    StreamRNNError,
    UnsupportedError,
)
from streamrnn.stream import Stream

if TYPE_CHECKING:
    from streamrnn.pool import StreamPool
    from streamrnn.snapshot import Snapshot

__version__ = "0.1.0"

__all__ = [
    # errors
    "BindingError",
    # running
    "Engine",
    "GraphError",
    "InputError",
    "MissingExtraError",
    "ModelFileError",
    "NonFiniteError",
    "NotStreamableError",
    "ShapeError",
    "Snapshot",
    "SnapshotError",
    "StatePairError",
    "Stream",
    "StreamPool",
    "StreamRNNError",
    "UnsupportedError",
    "load",
]  # fmt: skip

#: imported when they are first asked for: a program with one stream needs neither
_LATER = {"Snapshot": "streamrnn.snapshot", "StreamPool": "streamrnn.pool"}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name]), name)
    return found
