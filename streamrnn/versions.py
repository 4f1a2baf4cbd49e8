"""Versions of the compilers, without importing them: importing importlib.metadata alone takes 20 ms."""

from __future__ import annotations

import os
import re
import sys
from functools import cache

_RECORD = re.compile(r"(numba|llvmlite)-([^-]+)\.(?:dist|egg)-info")


@cache
def compilers() -> dict[str, str]:
    """The installed versions of numba and llvmlite; what is not installed is missing."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            match = _RECORD.fullmatch(name)
            if match:
                found.setdefault(match[1], match[2])
    return found
