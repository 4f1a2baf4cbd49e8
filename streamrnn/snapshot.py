"""Snapshots: the state of a stream as bytes that survive a reboot or a move to another machine.

Layout (little endian): b"SRNNSNAP", u32 version, 32 bytes fingerprint of the model, u64 steps, u64 length of the state,
the state (held inputs, then states, C order, no padding), 32 bytes SHA-256 of everything before.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamrnn.codegen.abi import HEADER_STEPS
from streamrnn.errors import SnapshotError
from streamrnn.files import write_aside
from streamrnn.ir.types import Array

_MAGIC = b"SRNNSNAP"
_VERSION = 1
_HEAD = struct.Struct("<8sI32sQQ")
_DIGEST = 32


@dataclass(frozen=True)
class Snapshot:
    """The state of one stream after `steps` steps of the model with this fingerprint (hex)."""

    fingerprint: str
    steps: int
    state: bytes

    def to_bytes(self) -> bytes:
        """The portable form, with a checksum."""
        head = _HEAD.pack(_MAGIC, _VERSION, bytes.fromhex(self.fingerprint), self.steps, len(self.state))
        return head + self.state + hashlib.sha256(head + self.state).digest()

    @staticmethod
    def from_bytes(data: bytes) -> Snapshot:
        """The reverse of `to_bytes`. Raises SnapshotError for anything that was cut or altered."""
        if len(data) < _HEAD.size + _DIGEST or not data.startswith(_MAGIC):
            raise SnapshotError("these bytes are not a snapshot, or it was cut; take a new one with stream.snapshot()")
        _, version, fingerprint, steps, length = _HEAD.unpack_from(data)
        if version > _VERSION:
            raise SnapshotError(f"the snapshot has version {version}, this program reads up to {_VERSION}; upgrade streamrnn")
        if len(data) != _HEAD.size + length + _DIGEST:
            raise SnapshotError(
                f"the snapshot should have {_HEAD.size + length + _DIGEST} bytes, it has {len(data)}; it was cut"
            )
        if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
            raise SnapshotError("the snapshot was altered (its checksum does not fit); take a new one")
        return Snapshot(fingerprint.hex(), steps, data[_HEAD.size : -_DIGEST])

    def save(self, path: str | Path) -> None:
        """Write the portable form to a file, aside and renamed. Raises OSError."""
        write_aside(Path(path), self.to_bytes())

    @staticmethod
    def load(path: str | Path) -> Snapshot:
        """Read a file that `save` wrote. Raises OSError, SnapshotError."""
        return Snapshot.from_bytes(Path(path).read_bytes())


def take_snapshot(fingerprint: str, header: Array, parts: Sequence[Array]) -> Snapshot:
    """A Snapshot of the given pieces of an arena with this header."""
    little = (np.ascontiguousarray(p).astype(p.dtype.newbyteorder("<"), copy=False) for p in parts)
    return Snapshot(fingerprint, int(header[HEADER_STEPS]), b"".join(p.tobytes() for p in little))


def put_snapshot(snapshot: Snapshot, fingerprint: str, header: Array, parts: Sequence[Array]) -> None:
    """The reverse of `take_snapshot`. Raises SnapshotError for a snapshot of another model; nothing is changed then."""
    if snapshot.fingerprint != fingerprint:
        raise SnapshotError(
            f"the snapshot belongs to the model {snapshot.fingerprint[:12]}, this stream runs {fingerprint[:12]}; "
            f"load the model it was taken from"
        )
    if len(snapshot.state) != sum(p.nbytes for p in parts):
        raise SnapshotError(
            f"the snapshot holds {len(snapshot.state)} bytes, the model's state has {sum(p.nbytes for p in parts)}"
        )
    offset = 0
    for part in parts:
        data = np.frombuffer(snapshot.state, part.dtype.newbyteorder("<"), part.size, offset)
        part[...] = data.reshape(part.shape)
        offset += part.nbytes
    header[HEADER_STEPS] = snapshot.steps
