"""Reading files whole, and writing them so that a full disk or a kill leaves the old file or none, never half of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from streamrnn.errors import ModelFileError


def read_file(path: str | Path) -> bytes:
    """The bytes of a model file. Raises ModelFileError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: the file cannot be read ({error.strerror})") from None


def write_aside(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, flush it to the disk, then rename it over `path`.

    A symbolic link stays one: its target is replaced. What is no regular file (a pipe, a device) is written to directly. An
    existing file keeps its permissions. Raises OSError (nothing is left behind then).
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG | (0o666 & ~_umask())
    if stat.S_ISREG(mode):
        _replace(Path(os.path.realpath(path)), data, stat.S_IMODE(mode), str(path))
    else:
        with open(path, "wb") as out:  # a directory is refused here
            out.write(data)


def _replace(target: Path, data: bytes, permissions: int, called: str) -> None:
    """`called`: what the user calls the file, for errors."""
    import tempfile  # 3 ms that a program which only reads has no use for

    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, permissions)
        os.replace(name, target)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):  # the user knows the file, not the temporary one
            raise OSError(error.errno, error.strerror, called) from None
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
