"""What every exported library holds beside its C functions, so that a program finds its way in one it knows nothing about.

    char NAME_description[]     JSON: name, fingerprint, meta, layout, target, where the weights are; ends with a zero byte
    struct NAME_streamrnn       MAGIC (int64), then pointers: init, run, step and pool of `codegen.abi`, the weights or NULL
                                where they lie in a file, the description

The struct is there where shared libraries are and pointers have 64 bits.
"""

from __future__ import annotations

DESCRIPTION = "_description"
TABLE = "_streamrnn"
#: "streamr1" as a little-endian number
MAGIC = int.from_bytes(b"streamr1", "little")
#: of the description
FORMAT = 1
