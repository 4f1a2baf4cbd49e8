"""Ready engines: what loading a `.srnn` file comes to, kept in the cache.

With it a process neither parses the graph nor plans it, and imports no op, no kernel and no LLVM: it reads one file with the
layout, the packed weights and the object. The name of the file is a hash of all that went into it. What groups of a pool run
has an entry of its own, without the weights where they are those of the engine.

    SHA-256 of all that follows, u64 length of the header, u64 length of the object, header (JSON), object, padding, weights
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from streamrnn.codegen.build import cached_object, host
from streamrnn.codegen.cache import cache_folder, keep, touch
from streamrnn.layout import Layout
from streamrnn.memory import ALIGN, aligned_bytes
from streamrnn.versions import compilers

_HEAD = struct.Struct("<32sQQ")
#: lines of /proc/cpuinfo that tell one CPU from another
_CPU = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features", "isa", "uarch")


@dataclass(frozen=True)
class Ready:
    """A loaded entry. about: whatever `store` was given."""

    about: Mapping[str, Any]
    layout: Layout
    code: bytes


def ready_file(model: bytes) -> Path:
    """Where the entry of a model file with these bytes lies, for this version of everything and this CPU."""
    asked = (os.environ.get(f"NUMBA_CPU_{what}", "") for what in ("NAME", "FEATURES"))
    parts = [hashlib.sha256(model).hexdigest(), _sources(), repr(sorted(compilers().items())), _processor(), *asked]
    return cache_folder() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.engine"


def group_file(engine: Path, eight: bool) -> Path:
    """Where the entry of the groups of pools lies, from where that of their engine does; eight: for pools of up to 8 slots."""
    return engine.with_stem(hashlib.sha256(f"{engine.stem} {8 if eight else 16} lanes".encode()).hexdigest())


def store(file: Path, about: Mapping[str, Any], layout: Layout, key: str, weights: bool = True) -> None:
    """Write an entry, whose object lies in the cache under `key`; none where `key` is empty. Raises OSError."""
    code = cached_object(key) if key else b""
    if code is None:  # another process has bounded the cache
        return
    header = json.dumps({"about": dict(about), "layout": layout.to_json()}).encode()
    gap = -(_HEAD.size + len(header) + len(code)) % ALIGN
    block = layout.weights.tobytes() if weights else b""
    body = b"".join([_HEAD.pack(b"", len(header), len(code))[32:], header, code, bytes(gap), block])
    keep(file, hashlib.sha256(body).digest() + body)


def load(file: Path) -> Ready | None:
    """The entry, or None where there is none or it is not what was written."""
    try:
        with open(file, "rb") as source:
            block = aligned_bytes(os.fstat(source.fileno()).st_size)
            source.readinto(block.data)
    except OSError:
        return None
    if block.size < _HEAD.size or hashlib.sha256(block[32:].data).digest() != block[:32].tobytes():
        return None
    touch(file)
    _, length, code = _HEAD.unpack_from(block.data)
    end = _HEAD.size + length
    header = json.loads(block[_HEAD.size : end].tobytes())
    weights = block[-(-(end + code) // ALIGN) * ALIGN :]
    weights.flags.writeable = False
    return Ready(header["about"], Layout.from_json(header["layout"], weights), block[end : end + code].tobytes())


@cache
def _sources() -> str:
    """Hash of the text of this package, the command line aside: an edit makes all entries stale."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for folder in ("", "ir", "kernels", "ops", "codegen"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _processor() -> str:
    """What tells this CPU from others."""
    try:
        with open("/proc/cpuinfo") as source:
            first = source.read(8192).split("\n\n")[0]
    except OSError:
        return "\0".join(host())
    return "\n".join(line for line in first.splitlines() if line.startswith(_CPU))
