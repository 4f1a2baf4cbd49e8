"""streamrnn: recurrent networks, one compiled step at a time.

import streamrnn
engine = streamrnn.load("model.onnx")      # or model.srnn, which needs no converter
stream = streamrnn.Stream(engine)
y = stream.step(x)                         # one frame
Y = stream.process(X)                      # a block of frames, the same bits
"""

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
from streamrnn.pool import StreamPool
from streamrnn.snapshot import Snapshot
from streamrnn.stream import Stream

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
