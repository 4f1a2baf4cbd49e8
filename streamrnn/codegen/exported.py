"""Exported libraries: what each holds beside its C functions, and how a program without compiler finds its way in one.

    char NAME_description[]     JSON: name, fingerprint, meta, layout, target, where the weights are; ends with a zero byte
    struct NAME_streamrnn       MAGIC (int64), then pointers: init, run, step and pool of `codegen.abi`, the weights or NULL
                                where they lie in a file, the description

The struct is there where shared libraries are and pointers have 64 bits.
"""

from __future__ import annotations

import ctypes
import json
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamrnn.codegen import elf
from streamrnn.codegen.build import Step
from streamrnn.codegen.cache import digest
from streamrnn.codegen.cpu_flags import FLAGS, cpu_flags
from streamrnn.errors import ModelFileError
from streamrnn.files import read_file
from streamrnn.layout import Layout
from streamrnn.memory import ALIGN, aligned_bytes

DESCRIPTION = "_description"
TABLE = "_streamrnn"
#: "streamr1" as a little-endian number
MAGIC = int.from_bytes(b"streamr1", "little")
#: of the description
FORMAT = 1

#: `e_machine` of ELF -> what `platform.machine` says there
_MACHINES = {62: ("x86_64",), 183: ("aarch64", "arm64"), 40: ("armv7l", "armv6l"), 243: ("riscv64",)}


@dataclass(frozen=True)
class Exported:
    """A loaded library. about: its description."""

    about: Mapping[str, Any]
    layout: Layout
    step: Step


class _Table(ctypes.Structure):
    """NAME_streamrnn"""

    _fields_ = (
        ("magic", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("init", "run", "step", "pool", "weights")),
        ("description", ctypes.c_char_p),
    )


def open_library(path: Path) -> Exported:
    """Load a library that `streamrnn export` made. Raises ModelFileError where it is none, or belongs to another machine."""
    data = read_file(path)
    symbol = _table_symbol(data, path)
    try:
        library = ctypes.CDLL(str(path.absolute()))
    except OSError as error:
        raise ModelFileError(f"{path}: the library cannot be loaded ({error})") from None
    table = _Table.in_dll(library, symbol)
    if table.magic != MAGIC:
        raise ModelFileError(f"{path}: the library is of a newer streamrnn; upgrade streamrnn, or export the model anew")
    about = json.loads(table.description)
    if about["format"] > FORMAT:
        raise ModelFileError(
            f"{path}: the library has format {about['format']}, this version reads {FORMAT}; upgrade streamrnn"
        )
    lacking = missing_features(about["target"]["features"], cpu_flags())
    if lacking:
        cpu = f"{about['target']['cpu']} ({about['target']['name']})"
        raise ModelFileError(
            f"{path} was compiled for {cpu}; this CPU lacks {', '.join(lacking)}. Export the model for this machine: "
            "streamrnn export MODEL --target host"
        )
    layout = Layout.from_json(about["layout"], _weights(path, about, table.weights))
    key = digest(data).hex()
    return Exported(about, layout, Step(table.init, table.run, table.step, table.pool, False, key, len(data), library))


def _table_symbol(data: bytes, path: Path) -> str:
    """The name of the struct in a shared library for this machine. Raises ModelFileError."""
    try:
        machine = elf.machine_of(data)
        here = platform.machine()
        if here not in _MACHINES.get(machine, ()) or elf.is_wide(data) != (ctypes.sizeof(ctypes.c_void_p) == 8):
            there = _MACHINES[machine][0] if machine in _MACHINES else f"a CPU with ELF number {machine}"
            raise ModelFileError(
                f"{path} was compiled for {there}, this machine is {here}; export the model for it: "
                "streamrnn export MODEL --target host, or one of its targets"
            )
        found = elf.symbols_of(data, elf.sections_of(data), dynamic=True)
        names = [name for name, section, _ in found if section and name.endswith(TABLE)]
    except (ValueError, IndexError, struct.error):
        raise ModelFileError(f"{path} is no shared library of this system, or it was cut") from None
    if len(names) != 1:
        raise ModelFileError(
            f"{path} is no library that `streamrnn export` made for 64-bit Linux; it has no symbol NAME{TABLE}"
        )
    return names[0]


def missing_features(features: str, flags: frozenset[str]) -> list[str]:
    """Which instruction sets code for `features` (as LLVM writes them) needs that a CPU with these flags lacks; none where
    the flags are not known."""
    needed = (name[1:] for name in features.split(",") if name.startswith("+"))
    return [name for name in needed if name in FLAGS and FLAGS[name] not in flags] if flags else []


def _weights(path: Path, about: Mapping[str, Any], address: int | None) -> npt.NDArray[np.uint8]:
    """The weights of a library, in it or in the file beside it. Raises ModelFileError."""
    size = about["weights_bytes"]
    if address is not None:
        block = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
    else:
        file = path.with_name(about["weights_file"])
        stored = read_file(file)
        if len(stored) != size:
            raise ModelFileError(f"{file} has {len(stored)} bytes, {path.name} takes {size}; export the model anew")
        block = aligned_bytes(-(-size // ALIGN) * ALIGN)[:size]
        block[:] = np.frombuffer(stored, np.uint8)
    block.flags.writeable = False
    return block
