"""What the figures of a run say about each target that it missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from suite.cells import CELLS, WEIGHTS
from suite.rows import CONTROL, KERNEL, OWN, Row, share, where
from suite.targets import BLOCK_F32, CALLS, ENHANCERS, LARGE, STEPS, best_peer, cells, figures, named, spread, verdicts


def why(rows: Sequence[Row], gflops: float, levels: Sequence[Mapping[str, object]]) -> list[str]:
    """A sentence or two for each missed target that the figures explain."""
    missed = [v.what for v in verdicts(rows) if v.met is False]
    reasons: dict[str, Callable[[], str]] = {
        "step, LSTM and GRU, H<=": lambda: small(rows, gflops),
        "step, LSTM and GRU, H=256 to 1024, f16": lambda: halves(rows),
        "step, int8 LSTM": lambda: eighths(rows, "LSTM", 3.0, levels),
        "step, int8 GRU": lambda: eighths(rows, "GRU", 4.0, levels),
        f"{BLOCK_F32}: every": lambda: blocks(rows),
        "step in the kernel": lambda: kernels(rows, gflops),
        **{f"{way} from Python": (lambda way=way: call(rows, way)) for way in CALLS},
        ENHANCERS[0]: lambda: enhancers(rows, gflops),
        "p99.9": lambda: tails(rows),
        "a new process": lambda: start(rows),
    }
    found = ((what, reason()) for what in missed for start_, reason in reasons.items() if what.startswith(start_))
    return [f"{what}: {text}" for what, text in found]


def us(ns: float) -> str:
    return f"{ns / 1e3:.3g} us"


def multiply_adds(row: Row) -> int:
    H = int(row.axes["H"])
    return CELLS[str(row.axes["cell"])][0] * H * 2 * H


def bytes_read(row: Row, of: str = "step") -> int:
    """Bytes of weights that a step reads, or those of the state alone, which each frame of a block reads."""
    size = multiply_adds(row) * WEIGHTS[str(row.axes["weights"])]
    return size if of == "step" else size // 2


def case(row: Row) -> str:
    return f"{row.axes['cell']} H={row.axes['H']}"


def worst(rows: Sequence[Row], engine: str) -> Row:
    return min((row for row in rows if row.get(engine, "ratio")), key=lambda row: row.figures[engine]["ratio"])


def small(rows: Sequence[Row], gflops: float) -> str:
    row = worst(cells(rows, [H for H, wanted in STEPS.items() if wanted == STEPS[8]], "f32"), "onnxruntime")
    own, kernel, theirs = (row.figures[name]["ns"] for name in (OWN, KERNEL, "onnxruntime"))
    n = multiply_adds(row)
    return (
        f"{case(row)} is the worst. Its {n} multiply-adds take {us(2 * n / gflops)} at the rate measured on this core, the "
        f"whole kernel {us(kernel)}, the call from Python {us(own - kernel)} more; {STEPS[8]:g}x would leave "
        f"{us(theirs / STEPS[8])} for all."
    )


def rate(row: Row, size: int) -> float:
    return size / row.figures[KERNEL]["ns"]


def halves(rows: Sequence[Row]) -> str:
    row = worst(cells(rows, LARGE, "f16"), "onnxruntime f32")
    [full] = where(rows, "cells", cell=row.axes["cell"], H=row.axes["H"], weights="f32", way="step")
    return (
        f"{case(row)} is the worst. The kernel reads its {bytes_read(row) / 1e6:.1f} MB at "
        f"{rate(row, bytes_read(row)):.0f} GB/s, float32 weights at {rate(full, bytes_read(full)):.0f} GB/s: the conversion to "
        "float32 is what holds it up."
    )


def eighths(rows: Sequence[Row], cell: str, wanted: float, levels: Sequence[Mapping[str, object]]) -> str:
    chosen = [row for row in where(rows, "cells", cell=cell, weights="int8", way="step") if best_peer(row) is not None]
    peer = (lambda r: r.get("onnxruntime", "ratio")) if cell == "LSTM" else best_peer
    row = min((r for r in chosen if peer(r)), key=lambda r: peer(r) or 0)
    found, size = peer(row) or 0.0, bytes_read(row)
    near = ", ".join(f"{level['name']} {level['bandwidth']:.0f}" for level in levels)
    return (
        f"{case(row)} is the worst at {found:.2f}x. The kernel reads its {size / 1e6:.1f} MB at {rate(row, size):.0f} GB/s; "
        f"{wanted:g}x would take {rate(row, size) * wanted / found:.0f} GB/s (this core reads, in GB/s: {near})."
    )


def blocks(rows: Sequence[Row]) -> str:
    row = worst([r for r in where(rows, "cells", weights="f32") if r.axes["way"] != "step"], "onnxruntime")
    size, ns = bytes_read(row, "state"), row.figures[OWN]["ns"]
    return (
        f"{case(row)} is the worst. Each frame reads the {size / 1e6:.1f} MB of recurrent weights again, at "
        f"{size / ns:.0f} GB/s with the time of the input product counted in."
    )


def kernels(rows: Sequence[Row], gflops: float) -> str:
    row = min(cells(rows, (32, 64, 128, 256), "f32"), key=lambda r: r.get(KERNEL, "roofline") or 1)
    n, ns, functions = multiply_adds(row), row.figures[KERNEL]["ns"], {"LSTM": 5, "GRU": 3}[str(row.axes["cell"])]
    return (
        f"{case(row)} is the worst. Of its {us(ns)}, {us(2 * n / gflops)} are the multiply-adds; the rest are the "
        f"{functions * int(row.axes['H'])} values of sigmoid and tanh, which the roofline does not count, and the start of a "
        "step."
    )


def call(rows: Sequence[Row], way: str) -> str:
    found = sorted(where(rows, "calls"), key=lambda row: row.figures[way]["over the kernel, ns"])
    row, added = found[-1], [r.figures[way]["over the kernel, ns"] for r in found]
    whole = row.figures[way]["ns"]
    return (
        f"{case(row)} is the worst: {added[-1]:.0f} ns in {us(whole)}, {added[-1] / whole:.1%} of the step. The next one adds "
        f"{added[-2]:.0f} ns, the median {np.median(added):.0f} ns."
    )


def enhancers(rows: Sequence[Row], gflops: float) -> str:
    profiles = where(rows, "profile")
    kinds = dict.fromkeys(kind for row in profiles for kind in row.figures if kind not in (KERNEL, OWN))
    if not kinds:
        return "not profiled in this run."
    shares = {k: float(np.mean([row.get(k, "share") or 0 for row in profiles])) for k in kinds}
    parts = []
    for kind in sorted(kinds, key=lambda k: -shares[k])[:5]:
        speeds = figures(profiles, kind, "gflops")
        arithmetic = f" at {np.median(speeds) / gflops:.0%} of the core's multiply-adds" if np.median(speeds) else ""
        parts.append(f"{kind} {shares[kind]:.0%}{arithmetic}")
    chosen = [row for row in where(rows, "models") if named(str(row.axes["model"]), ENHANCERS) and share(row)]
    most = [ratio / (share(row) or 1) for row in chosen if (ratio := row.get("onnxruntime", "ratio"))]
    limit = f" At the roofline itself it were {np.exp(np.mean(np.log(most))):.1f}x." if most else ""
    return f"on average, of the step's time go to {', '.join(parts)} (see the profile in docs/benchmarks.md).{limit}"


def tails(rows: Sequence[Row]) -> str:
    [row] = where(rows, "tails", way="step", load="none")
    own, theirs = row.figures[OWN], row.figures["onnxruntime"]
    control = spread(row, CONTROL)
    alone = f" Additions that take as long as our step have {control:.1f}." if control else ""
    return (
        f"the latest calls take {us(own['p99.9'])} and {us(theirs['p99.9'])}, the median ones {us(own['ns'])} and "
        f"{us(theirs['ns'])} ({spread(row, OWN):.1f} and {spread(row, 'onnxruntime'):.1f} times): an interruption by the "
        f"system costs both the same, and weighs more in a short step.{alone}"
    )


def start(rows: Sequence[Row]) -> str:
    found = [row for row in where(rows, "start") if row.get("onnxruntime", "seconds") and row.get(OWN, "seconds")]
    row = max(found, key=lambda r: r.figures[OWN]["seconds"] / r.figures["onnxruntime"]["seconds"])
    own, theirs = row.figures[OWN]["seconds"], row.figures["onnxruntime"]["seconds"]
    named = " ".join(map(str, row.axes.values()))
    return f"{named} is the worst, {own:.3f} s and {theirs:.3f} s."
