"""The folder of compiled code: one file for each piece, named by the hash of all that it depends on.

The folder is bounded: a process that adds to it removes what nobody has used for longest, once it is above `limit`. A file that
another process is about to read may go too; that process makes it anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import cache
from pathlib import Path

try:
    from _blake2 import blake2b  # without OpenSSL, whose loading takes hashlib 3 ms
except ImportError:  # an interpreter built without it
    from hashlib import blake2b

from streamrnn.errors import StreamRNNError
from streamrnn.files import write_aside

#: bytes that the folder may take, unless STREAMRNN_CACHE_MB says otherwise
LIMIT = 1 << 30
#: objects of steps, bitcode of kernels, ready engines
SUFFIXES = (".o", ".bc", ".engine")
#: seconds for which a file is safe after its last use
FRESH = 600.0


def cache_folder() -> Path:
    """Where compiled code lies: STREAMRNN_CACHE, else XDG_CACHE_HOME/streamrnn, else ~/.cache/streamrnn. Made on demand and
    readable by its owner alone, because what lies there is executed. Raises StreamRNNError where it cannot be made."""
    given = os.environ.get("STREAMRNN_CACHE")
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamrnn"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StreamRNNError(
            f"the folder for compiled code, {base}, cannot be made ({error.strerror}); set STREAMRNN_CACHE to one that can"
        ) from None
    return base


def digest(*parts: str | bytes | memoryview) -> bytes:
    """32 bytes that tell what went in from everything else: BLAKE2b of the parts, each ended by its length."""
    found = blake2b(digest_size=32)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        found.update(data)
        found.update(len(data).to_bytes(8, "little"))
    return found.digest()


def keep(file: Path, data: bytes) -> None:
    """Write a file of the folder; the first one of a process also bounds the folder. Raises OSError."""
    write_aside(file, data)
    _bound_once(file.parent)


def touch(file: Path) -> None:
    """Note that a file of the folder is in use."""
    with contextlib.suppress(OSError):  # gone, or a folder that may only be read
        os.utime(file)


def limit() -> int:
    """Bytes that the folder may take. Raises StreamRNNError."""
    text = os.environ.get("STREAMRNN_CACHE_MB")
    if text and not text.isdigit():
        raise StreamRNNError(f"STREAMRNN_CACHE_MB={text}: it is a whole number of megabytes")
    return int(text) * 1_000_000 if text else LIMIT


def prune(folder: Path, most: int, fresh: float = FRESH) -> tuple[int, int]:
    """Remove the files used least recently until `most` bytes are left, none used within `fresh` seconds.

    Returns the bytes removed and those left. Several processes may do this at once.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False) and entry.name.endswith(SUFFIXES):
                    found.append((status.st_mtime, status.st_size, entry.path))
    total = left = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        if left <= most or used > time.time() - fresh:
            break
        Path(path).unlink(missing_ok=True)
        left -= size
    return total - left, left


@cache
def _bound_once(folder: Path) -> None:
    prune(folder, limit())
