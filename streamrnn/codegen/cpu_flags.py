"""What Linux says of the instructions that this CPU has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

#: LLVM's name of an instruction set -> that of Linux in /proc/cpuinfo
FLAGS = {
    **{name: name for name in ("ssse3", "popcnt", "avx", "avx2", "bmi2", "f16c", "fma", "movbe", "i8mm", "sve", "sve2")},
    **{f"avx512{part}": f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl", "ifma", "vbmi")},
    **{f"avx512{part}": f"avx512_{part}" for part in ("vnni", "vbmi2", "bitalg", "vpopcntdq", "bf16", "fp16")},
    **{"sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "bmi": "bmi1", "lzcnt": "abm", "avxvnni": "avx_vnni"},
    **{"neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp"},
}


@cache
def cpu_flags() -> frozenset[str]:
    """What Linux says that this CPU has; empty where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    rows = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(rows, ()))
