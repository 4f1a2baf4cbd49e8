"""The loops that the compiler made: how they are found in a listing, and what llvm-mca says of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_fit import AMP, PI4, plan_of, real, workload

from streamrnn.export.compile import object_code, plan_for
from streamrnn.export.estimate import load_of
from streamrnn.export.interface import Interface
from streamrnn.export.pipeline import loop_cycles, loops, totals
from streamrnn.export.targets import TARGETS

LISTING = """
SYMBOL TABLE:
0000000000000000 l    d  .text	0000000000000000 .text
0000000000000000 l     F .text	0000000000000018 c0
0000000000000018 g     F .text	0000000000000014 .hidden k.dense.1

Disassembly of section .text:

0000000000000000 <c0>:
       0:      	ldr	q0, [x0]
       4:      	ldr	q1, [x1], #16
       8:      	fmla	v0.4s, v1.4s, v2.s[0]
       c:      	fmla	v3.4s, v1.4s, v2.s[1]
      10:      	subs	x2, x2, #1
      14:      	b.ne	0x4 <c0+0x4>
0000000000000018 <k.dense.1>:
      18:      	add	x3, x3, #1
      1c:      	fmadd	s0, s1, s2, s0
      20:      	cbnz	x2, 0x1c <k.dense.1+0x4>
      24:      	cmp	x3, x4
      28:      	b.ne	0x18 <k.dense.1>
"""

REPORT = """
[0] Code Region - k.dense.1

Iterations:        100
Instructions:      400
Total Cycles:      1234
Total uOps:        500

[1] Code Region - k.lstm.2

Iterations:        100
Total Cycles:      77
"""


def test_innermost_loops_are_found_by_their_branches_back() -> None:
    first, second = loops(LISTING)
    assert (first.function, first.products) == ("c0", 8)
    assert [text.split()[0] for text in first.body] == ["ldr", "fmla", "fmla", "subs"]
    assert (second.function, second.products, len(second.body)) == ("k.dense.1", 1, 1)


@pytest.mark.parametrize(
    ("instruction", "products"),
    [
        ("fmla\tv0.4s, v1.4s, v2.4s", 4),
        ("vfma.f32\tq0, q1, q2", 4),
        ("vmla.f32\td0, d1, d2", 2),
        ("vfma.f32\ts0, s1, s2", 1),
        ("vmul.f32\ts0, s1, s2", 1),
        ("fmadd.s\tft0, ft1, ft2, ft0", 1),
        ("fmul.s\tft0, ft1, ft2", 0),
        ("vadd.f32\ts0, s1, s2", 0),
    ],
)
def test_multiply_adds_of_each_instruction_set(instruction: str, products: int) -> None:
    head = "00000000 l     F .text\t00000008 f\n\n00000000 <f>:\n"
    listing = f"{head}       0:      \t{instruction}\n       4:      \tbne\t0x0 <f>   @ imm = #-8\n"
    assert sum(loop.products for loop in loops(listing)) == products


def test_cycles_are_read_region_by_region() -> None:
    assert totals(REPORT) == {"k.dense.1": 1234, "k.lstm.2": 77}
    assert totals("error: unable to find scheduling info") == {}


def test_the_time_of_a_loop_takes_the_place_of_the_published_rate() -> None:
    work = workload(plan_of(hidden=64))
    symbols = {kernel.symbol for kernel in work.plan.kernels()}
    slow, slower = (load_of(work, PI4, 1.0, dict.fromkeys(symbols, cycles)).nanoseconds for cycles in (100.0, 200.0))
    products = load_of(work, PI4).multiply_adds / 16
    assert slower - slow == pytest.approx(100 * products / PI4.clock)
    in_order = replace(PI4, overlaps=False)
    assert load_of(work, in_order, 1.0, dict.fromkeys(symbols, 100.0)).nanoseconds >= slow


def test_without_the_tools_nothing_is_known_of_loops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert loop_cycles(plan_of(), b"", TARGETS["pi4"], "cortex-a72") == {}


@pytest.mark.skipif(not shutil.which("llvm-mca"), reason="no llvm-mca; Debian's package llvm has it")
@pytest.mark.parametrize(("name", "core"), [("pi4", "cortex-a72"), ("cortex-m4", "cortex-m4"), ("riscv64", "sifive-u74")])
def test_no_loop_is_faster_than_the_core_multiplies(name: str, core: str) -> None:
    target = TARGETS[name]
    plan = plan_for(real(AMP), target)
    interface = Interface("model", plan, "", True, target.pointer_bytes, target.has_system)
    code = object_code(plan, interface, target, {}, lambda text: None)
    found = loop_cycles(plan, code, target, core)
    assert {symbol.split(".")[1] for symbol in found} >= {"lstm", "dense"}
    assert set(found) <= {kernel.symbol for p in (plan, plan.block and plan.block.plan) if p for kernel in p.kernels()}
    least = {"pi4": 4, "cortex-m4": 16, "riscv64": 16}[name]
    assert all(least <= cycles < 20 * least for cycles in found.values())
    assert loop_cycles(plan, code, target, "no-such-core") == {}
