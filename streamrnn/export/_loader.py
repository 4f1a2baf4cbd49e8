"""One model as compiled code, for Python with NumPy and nothing else.

stream = Stream()              # the library lies beside this file
y = stream.step(x)             # one frame; a dict of arrays where there are several inputs or outputs
Y = stream.process(X)          # frames first
stream.reset()
data = stream.snapshot()       # bytes, the same as streamrnn's; stream.restore(data) continues there
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

NAME = "model"
_LIBRARY = ctypes.CDLL(str(Path(__file__).with_name(f"lib{NAME}.so")))
_ABOUT = json.loads(ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(_LIBRARY, f"{NAME}_description"))))
_LAYOUT = _ABOUT["layout"]
_STATE_BYTES, _ARENA_BYTES = _LAYOUT["sizes"][0], _ABOUT["arena_bytes"]
_HEAD = struct.Struct("<8sI32sQQ")


def _aligned(size: int) -> Any:
    block = np.zeros(size + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size]


def _weights() -> Any:
    block = _aligned(_ABOUT["weights_bytes"])
    block[:] = np.fromfile(Path(__file__).with_name(_ABOUT["weights_file"]), np.uint8)
    return block


_WEIGHTS = _weights() if _ABOUT["weights_file"] else None


class _Port:
    """One input or output: name, dtype, shape of a frame; frames lie in memory in the order of `full`."""

    def __init__(self, name: str, dtype: str, full: list[int], spot: list[Any], stream: list[Any] | None) -> None:
        self.name, self.dtype, self.full, self.offset = name, np.dtype(dtype), tuple(full), spot[1]
        self.axis = stream[0] if stream else None
        shape, frames = list(full), 1
        if self.axis is not None:
            frames = shape.pop(self.axis)
        if shape and shape[0] == 1 and len(full) > 1:
            shape.pop(0)
        self.shape = (frames, *shape) if frames != 1 else tuple(shape)
        self.moved = self.axis if frames > 1 else None

    def to_memory(self, value: Any) -> Any:
        """[n, *shape] as [n, *full]. Raises ValueError."""
        array = np.asarray(value, self.dtype)
        if array.shape[1:] != self.shape:
            raise ValueError(f"input '{self.name}' has frames of shape {array.shape[1:]}, the model takes {self.shape}")
        if self.moved is not None:
            rest = [size for axis, size in enumerate(self.full) if axis != self.moved]
            array = np.moveaxis(array.reshape(len(array), self.full[self.moved], *rest), 1, 1 + self.moved)
        return np.ascontiguousarray(array).reshape(len(array), *self.full)

    def from_memory(self, block: Any) -> Any:
        if self.moved is not None:
            block = np.moveaxis(block, 1 + self.moved, 1)
        return block.reshape(len(block), *self.shape)


_INPUTS = [_Port(*row) for row in _LAYOUT["inputs"]]
_OUTPUTS = [_Port(*row) for row in _LAYOUT["outputs"]]
_process = _LIBRARY[f"{NAME}_process"]
_process.restype, _process.argtypes = ctypes.c_int32, [ctypes.c_void_p] * 3 + [ctypes.c_int32]


def _table(arrays: list[Any]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array in arrays))


class Stream:
    """One live stream: the hidden state of the model, carried from step to step. It belongs to one thread at a time."""

    def __init__(self) -> None:
        self._memory = _aligned(_ARENA_BYTES)
        self._state = ctypes.c_void_p(self._memory.ctypes.data)
        given = [self._state] + ([ctypes.c_void_p(_WEIGHTS.ctypes.data)] if _WEIGHTS is not None else [])
        _LIBRARY[f"{NAME}_init"](*given)

    def step(self, x: Any) -> Any:
        """One frame in, one frame out. Raises ValueError where a shape does not fit."""
        many = {name: np.asarray(v)[None] for name, v in x.items()} if isinstance(x, dict) else np.asarray(x)[None]
        found = self.process(many)
        return {name: y[0] for name, y in found.items()} if isinstance(found, dict) else found[0]

    def process(self, X: Any) -> Any:
        """Frames [n, *shape], or a dict of them by name; the same bits as single steps. Raises ValueError."""
        given = X if isinstance(X, dict) else {_INPUTS[0].name: X}
        if set(given) != {port.name for port in _INPUTS}:
            raise ValueError(f"the model takes the inputs {[port.name for port in _INPUTS]}: a dict of arrays")
        blocks = [port.to_memory(given[port.name]) for port in _INPUTS]
        n = len(blocks[0])
        if any(len(block) != n for block in blocks):
            raise ValueError(f"inputs have different numbers of frames: {[len(block) for block in blocks]}")
        results = [np.empty((n, *port.full), port.dtype) for port in _OUTPUTS]
        _process(self._state, _table(blocks), _table(results), n)
        found = {port.name: port.from_memory(y) for port, y in zip(_OUTPUTS, results, strict=True)}
        return found if len(found) > 1 else next(iter(found.values()))

    def reset(self) -> None:
        """Back to the initial state."""
        _LIBRARY[f"{NAME}_reset"](self._state)

    def _parts(self) -> list[Any]:
        """Views of all that a later step depends on."""
        slots = [(port.offset, port.dtype, port.full) for port in _INPUTS]
        slots += [(row[3][1], np.dtype(row[1]), row[2]) for row in _LAYOUT["states"]]
        sizes = [int(np.prod(shape)) * dtype.itemsize for _, dtype, shape in slots]
        return [self._memory[offset : offset + size] for (offset, _, _), size in zip(slots, sizes, strict=True)]

    def snapshot(self) -> bytes:
        """The state as data that survives a reboot; any other model refuses it."""
        state = b"".join(part.tobytes() for part in self._parts())
        steps = int(self._memory[:8].view(np.int64)[0])
        head = _HEAD.pack(b"SRNNSNAP", 1, bytes.fromhex(_ABOUT["fingerprint"]), steps, len(state))
        return head + state + hashlib.sha256(head + state).digest()

    def restore(self, data: bytes) -> None:
        """Continue where a snapshot was taken. Raises ValueError; the stream is unchanged then."""
        parts = self._parts()
        total = sum(part.size for part in parts)
        if len(data) != _HEAD.size + total + 32 or hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise ValueError("the snapshot was cut or altered, or is that of another model")
        magic, version, fingerprint, steps, _ = _HEAD.unpack_from(data)
        if (magic, version, fingerprint.hex()) != (b"SRNNSNAP", 1, _ABOUT["fingerprint"]):
            raise ValueError("the snapshot is that of another model")
        at = _HEAD.size
        for part in parts:
            part[:] = np.frombuffer(data, np.uint8, part.size, at)
            at += part.size
        self._memory[:8].view(np.int64)[0] = steps
