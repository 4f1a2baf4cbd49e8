"""What lies in an object file of any target: ELF of 32 and 64 bits, WebAssembly; and static libraries of one object."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from streamrnn.codegen import elf

_WASM = b"\0asm\1\0\0\0"
_IMPORTS, _CODE, _DATA = 2, 10, 11
_FUNCTION = 0


def undefined(code: bytes) -> set[str]:
    """Names that an object expects from elsewhere."""
    if not code.startswith(_WASM):
        return elf.undefined_symbols(code)
    return set(_imported_functions(dict(_wasm_sections(code)).get(_IMPORTS, b"\0")))


def text_bytes(code: bytes) -> int:
    """Bytes of machine code in an object."""
    if code.startswith(_WASM):
        return len(dict(_wasm_sections(code)).get(_CODE, b""))
    return sum(section.size for section in elf.sections_of(code) if section.is_text)


def constant_bytes(code: bytes) -> int:
    """Bytes of an object that are loaded and are no machine code: weights, tables, the description."""
    if code.startswith(_WASM):
        return len(dict(_wasm_sections(code)).get(_DATA, b""))
    return sum(section.size for section in elf.sections_of(code) if section.is_loaded and not section.is_text)


def archive(name: str, code: bytes, symbols: list[str]) -> bytes:
    """A static library of one object in the format of `ar`, with the index of its symbols that linkers look for."""
    names = b"".join(symbol.encode() + b"\0" for symbol in symbols)
    index_size = 4 + 4 * len(symbols) + len(names)
    start = len(_AR) + _MEMBER + index_size + index_size % 2
    index = struct.pack(f">I{len(symbols)}I", len(symbols), *[start] * len(symbols)) + names
    return _AR + _member("/", index) + _member(f"{name}/", code)


_AR, _MEMBER = b"!<arch>\n", 60


def _member(name: str, data: bytes) -> bytes:
    """One file of an archive: no date, no owner, so that the same object gives the same archive."""
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    return head + data + b"\n" * (len(data) % 2)


def _wasm_sections(code: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of the sections that have no name of their own."""
    at = len(_WASM)
    while at < len(code):
        kind = code[at]
        size, start = _leb(code, at + 1)
        at = start + size
        if kind:
            yield kind, code[start:at]


def _imported_functions(section: bytes) -> Iterator[str]:
    count, at = _leb(section, 0)
    for _ in range(count):
        name = b""
        for _ in range(2):  # the module, then the name in it
            size, start = _leb(section, at)
            name, at = section[start : start + size], start + size
        kind = section[at]
        if kind == _FUNCTION:
            yield name.decode()
            _, at = _leb(section, at + 1)
        elif kind == 3:  # a global: its type, whether it varies
            at += 3
        else:  # a table (one byte more in front) or a memory: limits
            at += 1 + (kind == 1)
            flags, at = section[at], at + 1
            for _ in range(1 + (flags & 1)):
                _, at = _leb(section, at)


def _leb(code: bytes, at: int) -> tuple[int, int]:
    """(value, place behind it) of an unsigned LEB128 number."""
    value = shift = 0
    while True:
        byte = code[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
