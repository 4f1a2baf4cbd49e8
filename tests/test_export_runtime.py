"""What exported objects bring along instead of a C library, run on this machine: memory functions, arithmetic of 64 bits."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from streamrnn.codegen import build
from streamrnn.export import objects
from streamrnn.export._compile import compiled
from streamrnn.export.arithmetic import NAMES, arithmetic_text
from streamrnn.export.runtime import runtime_text
from streamrnn.export.targets import TARGETS, find_target

DOUBLES = {
    "sdiv": ("i64", "i64 %a, i64 %b", "ldivmod"),
    "udiv": ("i64", "i64 %a, i64 %b", "uldivmod"),
    "l2f": ("float", "i64 %a", "l2f"),
    "ul2f": ("float", "i64 %a", "ul2f"),
    "l2d": ("double", "i64 %a", "l2d"),
    "ul2d": ("double", "i64 %a", "ul2d"),
    "f2lz": ("i64", "float %a", "f2lz"),
    "d2lz": ("i64", "double %a", "d2lz"),
}
C_TYPES = {"i64": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}


def numbers() -> Iterator[int]:
    """Whole numbers of up to 64 bits, of every length, and those where rounding turns."""
    rng = np.random.default_rng(1)
    yield from (0, 1, 2, 3, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 24) + 1, (1 << 24) + 3, (1 << 25) + 2, (1 << 53) + 1)
    yield from (0xFFFFFF8000000000, 0xFFFFFF7FFFFFFFFF, 0xFFFFFE8000000001)
    for bits in range(1, 65):
        yield from (int(value) >> 64 - bits for value in rng.integers(0, 1 << 64, 20, np.uint64))


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


@pytest.fixture(scope="module")
def call() -> Iterator[dict[str, ctypes._FuncPointer]]:  # type: ignore[name-defined]
    """The arithmetic for 32-bit ARM compiled for this machine, with its own calling convention."""
    lines = [arithmetic_text(sorted(NAMES)).replace("arm_aapcscc", "ccc")]
    for name, (kind, params, inner) in DOUBLES.items():
        if "div" not in name:
            lines.append(
                f"define {kind} @{name}({params}) {{\n  %r = call {kind} @__aeabi_{inner}({params})\n  ret {kind} %r\n}}"
            )
            continue
        for part, index in (("", 0), ("_rest", 1)):
            lines.append(
                f"define i64 @{name}{part}({params}) {{\n  %both = call {{ i64, i64 }} @__aeabi_{inner}({params})\n"
                f"  %r = extractvalue {{ i64, i64 }} %both, {index}\n  ret i64 %r\n}}"
            )
    names = [name + part for name in DOUBLES for part in (("", "_rest") if "div" in name else ("",))]
    code = build.link("\n".join(lines), [], build.machine(*build.host()), tuple(names))
    addresses, owner = build._load(code, tuple(names))
    made = {}
    for name, address in zip(names, addresses, strict=True):
        kind, params, _ = DOUBLES[name.removesuffix("_rest")]
        given = [C_TYPES[param.split()[0]] for param in params.split(", ")]
        made[name] = ctypes.CFUNCTYPE(C_TYPES[kind], *given)(address)
    yield made
    del owner


def test_division_is_that_of_python_cut_towards_zero(call: dict[str, ctypes._FuncPointer]) -> None:  # type: ignore[name-defined]
    for a, b in zip(numbers(), list(numbers())[::-1], strict=True):
        if b:
            assert call["udiv"](signed(a), signed(b)) & (1 << 64) - 1 == a // b
            assert call["udiv_rest"](signed(a), signed(b)) & (1 << 64) - 1 == a % b
        sa, sb = signed(a), signed(b) >> 7
        if sb not in (0, -1):
            quotient = abs(sa) // abs(sb) * (1 if (sa < 0) == (sb < 0) else -1)
            assert (call["sdiv"](sa, sb), call["sdiv_rest"](sa, sb)) == (quotient, sa - quotient * sb)


def test_whole_numbers_become_the_nearest_float(call: dict[str, ctypes._FuncPointer]) -> None:  # type: ignore[name-defined]
    for value in numbers():
        assert call["l2f"](signed(value)) == float(np.int64(signed(value)).astype(np.float32))
        assert call["ul2f"](signed(value)) == float(np.uint64(value).astype(np.float32))
        assert call["l2d"](signed(value)) == float(signed(value))
        assert call["ul2d"](signed(value)) == float(value)


def test_floats_become_whole_numbers_towards_zero(call: dict[str, ctypes._FuncPointer]) -> None:  # type: ignore[name-defined]
    for value in numbers():
        for scale in (1.0, 2.0**-3, 2.0**-20, -(2.0**-60)):
            x = signed(value) * scale
            if abs(x) < 2.0**62:
                assert call["d2lz"](x) == int(x)
                assert call["f2lz"](x) == int(np.float32(x))
    assert (call["d2lz"](1e30), call["f2lz"](-1e30)) == ((1 << 63) - 1, -(1 << 63))
    assert call["d2lz"](-0.5) == call["f2lz"](0.99) == 0


@pytest.mark.parametrize("length", [0, 1, 7, 15, 16, 17, 31, 32, 100])
def test_memory_functions_do_what_those_of_c_do(length: int) -> None:
    text = runtime_text(find_target("host"))
    for name in ("memcpy", "memmove", "memset"):
        text = text.replace(f"@{name}", f"@own_{name}")
    names = ("own_memcpy", "own_memmove", "own_memset")
    code = build.link(text.replace("define internal", "define"), [], build.machine(*build.host()), names)
    addresses, owner = build._load(code, names)
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    copy, move = (ctypes.CFUNCTYPE(pointer, pointer, pointer, size)(address) for address in addresses[:2])
    fill = ctypes.CFUNCTYPE(pointer, pointer, ctypes.c_int, size)(addresses[2])
    for start in (1, 16):
        data = np.arange(300, dtype=np.uint8)
        wanted = data.copy()
        wanted[150 + start : 150 + start + length] = data[start : start + length]
        assert copy(data.ctypes.data + 150 + start, data.ctypes.data + start, length) == data.ctypes.data + 150 + start
        np.testing.assert_array_equal(data, wanted)
        for shift in (-3, 0, 3):
            wanted = data.copy()
            wanted[40 + shift : 40 + shift + length] = data[40 : 40 + length].copy()
            move(data.ctypes.data + 40 + shift, data.ctypes.data + 40, length)
            np.testing.assert_array_equal(data, wanted)
        wanted[start : start + length] = 0xA5
        fill(data.ctypes.data + start, 0x1A5, length)
        np.testing.assert_array_equal(data, wanted)
    assert owner is not None


CALLS_OUT = "declare void @elsewhere() nounwind\ndefine void @f() nounwind {\n  call void @elsewhere()\n  ret void\n}"


@pytest.mark.parametrize("name", ["host", "pi4", "armv7", "cortex-m4", "riscv64", "wasm32"])
def test_what_an_object_lacks_is_found_in_every_format(name: str) -> None:
    code = compiled(CALLS_OUT, [], ("f",), find_target(name))
    assert objects.undefined(code) == {"elsewhere"}
    assert 0 < objects.text_bytes(code) < len(code)


@pytest.mark.parametrize("name", ["armv7", "cortex-m4", "cortex-m7"])
def test_division_is_brought_along_where_the_cpu_has_none(name: str) -> None:
    text = "define i64 @f(i64 %a, i64 %b) {\n  %r = sdiv i64 %a, %b\n  ret i64 %r\n}"
    assert objects.undefined(compiled(text, [], ("f",), TARGETS[name])) == set()


def test_an_archive_is_what_ar_makes() -> None:
    made = objects.archive("model.o", b"odd", ["first", "second"])
    assert made.startswith(b"!<arch>\n/               ")
    index = made[8 + 60 :]
    assert int.from_bytes(index[:4], "big") == 2
    member = int.from_bytes(index[4:8], "big")
    assert made[member:].startswith(b"model.o/        0")
    assert made[member + 60 :] == b"odd\n"
    assert index[12:].startswith(b"first\0second\0")
