"""Little-endian ELF files: their sections and symbols, what objects want from elsewhere, and a loader for those of x86-64.

The loader knows the few relocations that compiled steps have (System V ABI, AMD64 supplement, table 4.9). With it a cached step
runs without LLVM, whose import takes 22 ms and 46 MB; what it does not know, it leaves to LLVM.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_PROGBITS, _SYMTAB, _RELA, _NOBITS, _DYNSYM = 1, 2, 4, 8, 11
_WRITE, _ALLOC, _EXECINSTR, _TLS = 0x1, 0x2, 0x4, 0x400
_X86_64 = 62
_ABS64, _PC32, _PLT32 = 1, 2, 4
#: jump to the address that follows the instruction
_JUMP = b"\xff\x25\0\0\0\0"
_STUB = 16
#: of a symbol: 64-bit files have another order of fields than 32-bit ones
_SYMBOL, _SYMBOL_32 = struct.Struct("<IBBHQQ"), struct.Struct("<IIIBBH")
_RELOCATION = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])


class Section(NamedTuple):
    """A section header."""

    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int

    @property
    def is_text(self) -> bool:
        """Whether it holds machine code."""
        return bool(self.flags & _EXECINSTR)

    @property
    def is_loaded(self) -> bool:
        return bool(self.flags & _ALLOC)


def is_wide(code: bytes) -> bool:
    """Whether this is a 64-bit file and not a 32-bit one. Raises ValueError for what is no little-endian ELF."""
    if code[:4] != b"\x7fELF" or code[4:6] not in (b"\x01\x01", b"\x02\x01"):
        raise ValueError("not a little-endian ELF file")
    return code[4] == 2


def machine_of(code: bytes) -> int:
    """`e_machine`. Raises ValueError for what is no little-endian ELF."""
    is_wide(code)
    return int(struct.unpack_from("<H", code, 0x12)[0])


def sections_of(code: bytes) -> list[Section]:
    """All sections. Raises ValueError for what is no little-endian ELF, struct.error for one that is cut."""
    if is_wide(code):
        fields, row = (("<Q", 0x28), ("<H", 0x3A), ("<H", 0x3C)), "<IIQQQQIIQQ"
    else:
        fields, row = (("<I", 0x20), ("<H", 0x2E), ("<H", 0x30)), "<IIIIIIIIII"
    start, size, count = (struct.unpack_from(f, code, at)[0] for f, at in fields)
    found = []
    for i in range(count):
        _, kind, flags, _, offset, length, link, info, align, _ = struct.unpack_from(row, code, start + i * size)
        found.append(Section(kind, flags, offset, length, link, info, align))
    return found


def symbols_of(code: bytes, found: list[Section], *, dynamic: bool = False) -> Iterator[tuple[str, int, int]]:
    """(name, section or 0, offset in it) of all symbols, in order: an object has one table of them; a shared library has one
    of the `dynamic` ones."""
    wide = is_wide(code)
    layout = _SYMBOL if wide else _SYMBOL_32
    for table in found:
        if table.kind == (_DYNSYM if dynamic else _SYMTAB):
            names = found[table.link].offset
            for row in layout.iter_unpack(code[table.offset : table.offset + table.size]):
                name, section, value = (row[0], row[3], row[4]) if wide else (row[0], row[5], row[1])
                start = names + name
                yield code[start : code.index(b"\0", start)].decode(), section, value


def undefined_symbols(code: bytes) -> set[str]:
    """Names that a little-endian ELF object expects from elsewhere. Raises ValueError for other formats.

    The object is looked at and not the IR, because LLVM turns intrinsics into library calls at emission.
    """
    return {name for name, section, _ in symbols_of(code, sections_of(code)) if name and section == 0}


def load(code: bytes, wanted: tuple[str, ...]) -> tuple[tuple[int, ...], object] | None:
    """An object in executable memory: the addresses of the symbols `wanted`, and what has to live as long as they are used.
    None where the object, or this machine, is none that the loader knows."""
    if code[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", code, 0x12)[0] != _X86_64 or not hasattr(mmap, "PROT_EXEC"):
        return None
    sections = sections_of(code)
    places: dict[int, int] = {}
    end = 0
    for i, section in enumerate(sections):
        if section.flags & _ALLOC:
            if section.kind not in (_PROGBITS, _NOBITS) or section.flags & (_WRITE | _TLS):
                return None
            places[i] = -(-end // section.align) * section.align
            end = places[i] + section.size
    symbols = list(symbols_of(code, sections))
    stubs = -(-end // _STUB) * _STUB
    libc = ctypes.CDLL(None)
    memory = np.frombuffer(mmap.mmap(-1, stubs + _STUB * len(symbols), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    base = memory.ctypes.data
    for i, at in places.items():
        if sections[i].kind == _PROGBITS:
            memory[at : at + sections[i].size] = np.frombuffer(code, np.uint8, sections[i].size, sections[i].offset)
    values = np.zeros(len(symbols), np.int64)
    for k, (name, home, value) in enumerate(symbols):
        if home in places:
            values[k] = places[home] + value
        elif home == 0 and name:
            if not hasattr(libc, name):
                return None
            values[k] = stubs + _STUB * k
            target = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
            memory[values[k] : values[k] + 14] = np.frombuffer(_JUMP + struct.pack("<Q", target), np.uint8)
    for table in sections:
        if table.kind == _RELA and table.info in places:
            rows = np.frombuffer(code, _RELOCATION, table.size // _RELOCATION.itemsize, table.offset)
            if not _relocate(memory, places[table.info], rows, values):
                return None
    found = {name: base + int(value) for (name, _, _), value in zip(symbols, values, strict=True)}
    if libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(memory.size), mmap.PROT_READ | mmap.PROT_EXEC):
        return None
    return tuple(found[name] for name in wanted), memory


def _relocate(memory: npt.NDArray[np.uint8], section: int, rows: Any, values: npt.NDArray[np.int64]) -> bool:
    """Write what `rows` say into a section that lies at offset `section`; False where one is of an unknown kind."""
    if not np.isin(rows["kind"], (_ABS64, _PC32, _PLT32)).all():
        return False
    at = rows["offset"].astype(np.int64) + section
    target = values[rows["symbol"]] + rows["addend"]
    far = rows["kind"] == _ABS64
    for kind, where, what in (("<i8", far, target + memory.ctypes.data), ("<i4", ~far, target - at)):
        raw = what[where].astype(kind)[:, None].view(np.uint8)
        memory[at[where][:, None] + np.arange(raw.shape[1])] = raw
    return True
