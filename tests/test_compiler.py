"""The compiling process: one for many kernels, replaced when it has ended, and never silent about a failure."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from streamrnn import StreamRNNError
from streamrnn.codegen.compiler import Compiler
from streamrnn.kernels import moves, scalar
from streamrnn.kernels._jit import Kernel

MADE_LATER = """
from __future__ import annotations
import numpy as np
from streamrnn.kernels._jit import f32p, kernel

@kernel
def one(y: f32p) -> None:
    y[0] = np.float32(1)
"""


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    made = Compiler()
    yield made
    made.stop()


def pid(compiler: Compiler) -> int:
    assert compiler._process is not None
    return compiler._process._process.pid


def functions(file: Path) -> set[str]:
    return {f.name for f in llvm.parse_bitcode(file.read_bytes()).functions if not f.is_declaration}


def instructions(file: Path) -> str:
    """The text of a module without the running number that Numba puts into labels."""
    return re.sub(r"B\dv\d+", "", str(llvm.parse_bitcode(file.read_bytes())))


def with_entry(kernel: Kernel, **entry: str) -> Kernel:
    """`kernel` with another address or key."""
    changed = kernel.typed()
    changed.__dict__.update(entry)
    return changed


def test_one_process_compiles_many_kernels_and_none_depends_on_those_before(compiler: Compiler, tmp_path: Path) -> None:
    compiler.compile(moves.take, tmp_path / "alone")
    first = pid(compiler)
    compiler.stop()
    for kernel, name in ((scalar.add, "a"), (moves.copy_blocks, "b"), (moves.take, "c")):
        compiler.compile(kernel, tmp_path / name)
        assert functions(tmp_path / name) == {kernel.symbol}
        first, before = pid(compiler), first
        assert (first == before) == (name != "a")
    assert instructions(tmp_path / "c") == instructions(tmp_path / "alone")


def test_a_process_that_has_ended_is_replaced(compiler: Compiler, tmp_path: Path) -> None:
    compiler.compile(scalar.add, tmp_path / "a")
    os.kill(pid(compiler), 9)
    compiler.compile(scalar.sub, tmp_path / "b")
    assert functions(tmp_path / "b") == {scalar.sub.symbol}


def test_a_failure_gives_the_reason_and_a_command_and_the_next_kernel_is_compiled(compiler: Compiler, tmp_path: Path) -> None:
    with pytest.raises(StreamRNNError, match=r"AttributeError: .*no_such.*run it by itself.* -m streamrnn.kernels._compile"):
        compiler.compile(with_entry(scalar.add, address="streamrnn.kernels.scalar:no_such"), tmp_path / "a")
    compiler.compile(scalar.add, tmp_path / "b")
    assert functions(tmp_path / "b") == {scalar.add.symbol}
    assert not (tmp_path / "a").exists()


def test_a_kernel_whose_source_has_changed_is_not_kept_under_the_old_key(compiler: Compiler, tmp_path: Path) -> None:
    with pytest.raises(StreamRNNError, match="sources of kernels were edited"):
        compiler.compile(with_entry(scalar.add, key="0" * 64), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_process_that_cannot_start_says_why(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numba.py").write_text("raise ImportError('numba is not for this machine')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StreamRNNError, match="ImportError: numba is not for this machine"):
        compiler.compile(scalar.add, tmp_path / "a")


def test_modules_are_looked_for_where_they_are_at_that_time(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler.compile(scalar.add, tmp_path / "a")
    (tmp_path / "made_later.py").write_text(MADE_LATER)
    monkeypatch.syspath_prepend(tmp_path)
    compiler.compile(importlib.import_module("made_later").one, tmp_path / "b")
    assert any("one" in name for name in functions(tmp_path / "b"))
