"""Ready engines: what loading a `.srnn` file comes to, kept in the cache.

With it a process neither parses the graph nor plans it, and imports no op, no kernel and no LLVM: it reads one file with the
layout, the packed weights and the object. The name of the file is a hash of all that went into it. What groups of a pool run
has an entry of its own, without the weights where they are those of the engine.

    u64 CRC-32 of all that follows, u64 length of the header, u64 length of the object, header (JSON), object, padding, weights
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from streamrnn.codegen.build import cached_object, host
from streamrnn.codegen.cache import cache_folder, digest, keep, touch
from streamrnn.layout import Layout
from streamrnn.memory import ALIGN, aligned_bytes
from streamrnn.versions import compilers

_HEAD = struct.Struct("<QQQ")
_SUM = 8
#: lines of /proc/cpuinfo that tell one CPU from another
_CPU = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features", "isa", "uarch")


class Ready(NamedTuple):
    """A loaded entry. about: whatever `store` was given."""

    about: Mapping[str, Any]
    layout: Layout
    code: bytes


def ready_file(model: bytes) -> Path:
    """Where the entry of a model file with these bytes lies, for this version of everything and this CPU."""
    asked = (os.environ.get(f"NUMBA_CPU_{what}", "") for what in ("NAME", "FEATURES"))
    key = digest(model, _sources(), repr(sorted(compilers().items())), _processor(), *asked)
    return cache_folder() / f"{key.hex()}.engine"


def group_file(engine: Path, eight: bool) -> Path:
    """Where the entry of the groups of pools lies, from where that of their engine does; eight: for pools of up to 8 slots."""
    return engine.with_stem(digest(f"{engine.stem} {8 if eight else 16} lanes").hex())


def store(file: Path, about: Mapping[str, Any], layout: Layout, key: str, weights: bool = True) -> None:
    """Write an entry, whose object lies in the cache under `key`; none where `key` is empty. Raises OSError."""
    code = cached_object(key) if key else b""
    if code is None:  # another process has bounded the cache
        return
    header = json.dumps({"about": dict(about), "layout": layout.to_json()}).encode()
    gap = -(_HEAD.size + len(header) + len(code)) % ALIGN
    block = layout.weights.tobytes() if weights else b""
    body = b"".join([_HEAD.pack(0, len(header), len(code))[_SUM:], header, code, bytes(gap), block])
    keep(file, zlib.crc32(body).to_bytes(_SUM, "little") + body)


def load(file: Path) -> Ready | None:
    """The entry, or None where there is none or it is not what was written."""
    try:
        with open(file, "rb") as source:
            block = aligned_bytes(os.fstat(source.fileno()).st_size)
            source.readinto(block.data)
    except OSError:
        return None
    if block.size < _HEAD.size:
        return None
    total, length, code = _HEAD.unpack_from(block.data)
    if zlib.crc32(block[_SUM:].data) != total:
        return None
    touch(file)
    end = _HEAD.size + length
    header = json.loads(block[_HEAD.size : end].tobytes())
    weights = block[-(-(end + code) // ALIGN) * ALIGN :]
    weights.flags.writeable = False
    return Ready(header["about"], Layout.from_json(header["layout"], weights), block[end : end + code].tobytes())


@cache
def _sources() -> str:
    """Name, length and CRC-32 of every text of this package, the command line aside: an edit makes all entries stale."""
    root = str(Path(__file__).parent.parent)
    found = []
    for folder in ("", "ir", "kernels", "ops", "codegen"):
        inside = os.path.join(root, folder)
        for name in sorted(os.listdir(inside)):
            if name.endswith(".py"):
                with open(os.path.join(inside, name), "rb", buffering=0) as source:
                    text = source.read()
                found.append((name, len(text), zlib.crc32(text)))
    return repr(found)


@cache
def _processor() -> str:
    """What tells this CPU from others."""
    try:
        with open("/proc/cpuinfo") as source:
            first = source.read(8192).split("\n\n")[0]
    except OSError:
        return "\0".join(host())
    return "\n".join(line for line in first.splitlines() if line.startswith(_CPU))
