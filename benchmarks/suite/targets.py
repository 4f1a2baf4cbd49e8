"""The targets that the project set itself, and what a run says to each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import product

import numpy as np

from suite.rows import KERNEL, OWN, Row, where

ENHANCERS = ("gtcrn_simple", "ulunas_simple", "bsrnn_xxt", "fspen_a", "lisennet", "dprnn_*", "fastenhancer_*")
OTHERS = ("silero_*", "dtln_*")
BLOCK_F32 = "block of 256 frames, f32, vs onnxruntime's sequence run"
GATED = ("LSTM", "GRU")
LARGE = (256, 512, 1024)
#: hidden size -> how many times as long onnxruntime with io-binding is wanted to take, for a step in float32
STEPS = {8: 30.0, 16: 30.0, 32: 30.0, 64: 5.0, 128: 2.0, 256: 1.1}
#: kind of weights -> how many times as long onnxruntime in float32 is wanted to take, for a step of a LARGE cell
NARROW = {"f16": 2.0, "int8": 5.0}

#: way to call a step -> nanoseconds that it may add to what the step takes in native code
CALLS = {"step(x)": 150, "step()": 60}


@dataclass(frozen=True)
class Verdict:
    """met is None where the run has no figures for the target."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    return [
        *steps(rows),
        *narrow(rows),
        *blocks(rows),
        kernels(rows),
        *calls(rows),
        models(rows, ENHANCERS, 10.0),
        models(rows, OTHERS, 3.0),
        mallocs(rows),
        tails(rows),
        start(rows),
        first(rows),
        silence(rows),
    ]


def least(what: str, wanted: float, ratios: Sequence[float]) -> Verdict:
    """All of these ratios are wanted to reach a number."""
    if not ratios:
        return Verdict(what, f"{wanted:g}x", "not measured", None)
    low, high = min(ratios), max(ratios)
    return Verdict(what, f"{wanted:g}x", f"{low:.2f}x to {high:.2f}x", low >= wanted)


def mean(what: str, wanted: float, ratios: Sequence[float], note: str = "") -> Verdict:
    """The geometric mean of these ratios is wanted to reach a number."""
    if not ratios:
        return Verdict(what, f"{wanted:g}x geometric mean", "not measured", None)
    found = float(np.exp(np.mean(np.log(ratios))))
    return Verdict(what, f"{wanted:g}x geometric mean", f"{found:.2f}x{note}", found >= wanted)


def figures(rows: Iterable[Row], engine: str, figure: str = "ratio") -> list[float]:
    return [value for row in rows if (value := row.get(engine, figure)) is not None]


def cells(
    rows: Sequence[Row], sizes: Sequence[int], weights: str, way: str = "step", kinds: Sequence[str] = GATED
) -> list[Row]:
    chosen = product(kinds, sizes)
    return [r for cell, H in chosen for r in where(rows, "cells", cell=cell, H=H, weights=weights, way=way)]


def target(row: Row) -> tuple[str, float] | None:
    """The engine that a row is held against, and how many times as long that is wanted to take."""
    cell, H, weights, way = (row.axes.get(axis) for axis in ("cell", "H", "weights", "way"))
    if row.part != "cells":
        return None
    if way != "step":
        return ("onnxruntime", 1.0) if weights == "f32" else None
    if cell in GATED and weights == "f32" and H in STEPS:
        return "onnxruntime", STEPS[int(H)]
    if cell in GATED and weights in NARROW and H in LARGE:
        return "onnxruntime f32", NARROW[str(weights)]
    return None


def steps(rows: Sequence[Row]) -> list[Verdict]:
    peer, found = "onnxruntime", []
    for wanted in dict.fromkeys(STEPS.values()):
        sizes = [H for H, number in STEPS.items() if number == wanted]
        name = f"H<={sizes[-1]}" if len(sizes) > 1 else f"H={sizes[0]}"
        chosen = cells(rows, sizes, "f32")
        found.append(least(f"step, LSTM and GRU, {name}, f32, vs {peer} io-binding", wanted, figures(chosen, peer)))
        if len(sizes) > 1:
            found.append(least(f"the same vs {peer} run", 2 * wanted, figures(chosen, f"{peer} run")))
    return found


def narrow(rows: Sequence[Row]) -> list[Verdict]:
    f16, int8 = (figures(cells(rows, LARGE, kind), "onnxruntime f32") for kind in ("f16", "int8"))
    sizes = sorted({int(row.axes["H"]) for row in where(rows, "cells", weights="int8")})
    lstm = figures(cells(rows, sizes, "int8", kinds=("LSTM",)), "onnxruntime")
    gru = [best for row in cells(rows, sizes, "int8", kinds=("GRU",)) if (best := best_peer(row)) is not None]
    return [
        least("step, LSTM and GRU, H=256 to 1024, f16, vs onnxruntime f32", NARROW["f16"], f16),
        least("step, LSTM and GRU, H=256 to 1024, int8, vs onnxruntime f32", NARROW["int8"], int8),
        least("step, int8 LSTM vs onnxruntime int8", 3.0, lstm),
        least("step, int8 GRU vs the best peer in int8", 4.0, gru),
    ]


def best_peer(row: Row) -> float | None:
    """The ratio of the quickest peer with the same kind of weights."""
    others = [name for name in row.figures if name not in (OWN, KERNEL, "onnxruntime f32")]
    return min(figures([row], name)[0] for name in others) if others else None


def blocks(rows: Sequence[Row]) -> list[Verdict]:
    chosen = [row for row in where(rows, "cells", weights="f32") if str(row.axes["way"]).startswith("block")]
    found = figures(chosen, "onnxruntime")
    return [least(f"{BLOCK_F32}: every cell and size", 1.0, found), mean(BLOCK_F32, 1.3, found)]


def kernels(rows: Sequence[Row]) -> Verdict:
    found = figures(cells(rows, (32, 64, 128, 256), "f32"), KERNEL, "roofline")
    what, wanted = "step in the kernel, LSTM and GRU, f32, H=32 to 256: share of the roofline", "75 %"
    if not found:
        return Verdict(what, wanted, "not measured", None)
    return Verdict(what, wanted, f"{min(found):.0%} to {max(found):.0%}", min(found) >= 0.75)


def calls(rows: Sequence[Row]) -> list[Verdict]:
    verdicts = []
    for way, most in CALLS.items():
        what, wanted = f"{way} from Python, over the step in native code, LSTM and GRU, H=8 to 128", f"at most {most} ns"
        found = figures(where(rows, "calls"), way, "over the kernel, ns")
        text = f"{min(found):.0f} to {max(found):.0f} ns" if found else "not measured"
        verdicts.append(Verdict(what, wanted, text, max(found) <= most if found else None))
    return verdicts


def models(rows: Sequence[Row], names: Sequence[str], wanted: float) -> Verdict:
    chosen = [row for row in where(rows, "models") if named(str(row.axes["model"]), names)]
    ratios = [r for row in chosen if (r := row.get("onnxruntime", "ratio") or row.get("onnxruntime run", "ratio"))]
    run = figures(chosen, "onnxruntime run")
    note = f" over {len(ratios)} models; vs run {np.exp(np.mean(np.log(run))):.2f}x" if run else ""
    return mean(f"{', '.join(names)} vs onnxruntime io-binding", wanted, ratios, note)


def named(model: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(model, pattern) for pattern in patterns)


def mallocs(rows: Sequence[Row]) -> Verdict:
    found, theirs = (figures(where(rows, "mallocs"), name, "mallocs") for name in (OWN, "onnxruntime"))
    if not found:
        return Verdict("mallocs per step", "0", "not measured", None)
    beside = f" (onnxruntime {theirs[0]:.0f})" if theirs else ""
    return Verdict("mallocs per step", "0", f"{found[0]:.3g}{beside}", found[0] == 0)


def tails(rows: Sequence[Row]) -> Verdict:
    what, wanted = "p99.9 / p50 of a step, quiet machine, over onnxruntime's", "at most 0.5"
    for row in where(rows, "tails", way="step", load="none"):
        own, theirs = (spread(row, name) for name in (OWN, "onnxruntime"))
        if own and theirs:
            late = row.figures[OWN]["p99.9"] / row.figures["onnxruntime"]["p99.9"]
            text = f"{own / theirs:.2f} ({own:.1f} and {theirs:.1f}); p99.9 itself {late:.2f} of onnxruntime's"
            return Verdict(what, wanted, text, own / theirs <= 0.5)
    return Verdict(what, wanted, "not measured", None)


def spread(row: Row, engine: str) -> float | None:
    late, middle = row.get(engine, "p99.9"), row.get(engine, "ns")
    return late / middle if late and middle else None


def start(rows: Sequence[Row]) -> Verdict:
    what, wanted = "a new process, warm cache: import, load, first step", "0.35 s, under onnxruntime's, numba not imported"
    found = [(o, t, row.get(OWN, "numba")) for row in where(rows, "start") for o, t in [both(row, "seconds")] if o and t]
    if not found:
        return Verdict(what, wanted, "not measured", None)
    ratios = [theirs / own for own, theirs, _ in found]
    text = f"at most {max(own for own, _, _ in found):.2f} s; onnxruntime takes {min(ratios):.2f}x to {max(ratios):.2f}x"
    text += ", numba imported" * any(numba for _, _, numba in found)
    return Verdict(what, wanted, text, all(own < 0.35 and own < theirs and not numba for own, theirs, numba in found))


def first(rows: Sequence[Row]) -> Verdict:
    what, wanted = "the first step after load, over a later one", "at most 2"
    found = figures(where(rows, "start"), OWN, "first step")
    if not found:
        return Verdict(what, wanted, "not measured", None)
    return Verdict(what, wanted, f"{min(found):.1f} to {max(found):.1f}", max(found) <= 2)


def both(row: Row, figure: str) -> tuple[float | None, float | None]:
    return row.get(OWN, figure), row.get("onnxruntime", figure)


def silence(rows: Sequence[Row]) -> Verdict:
    what, wanted = "a step in silence that follows sound, over one in sound", "at most 1.1"
    found = figures(where(rows, "silence"), OWN, "slowdown")
    if not found:
        return Verdict(what, wanted, "not measured", None)
    return Verdict(what, wanted, f"{max(found):.2f} at worst", max(found) <= 1.1)
