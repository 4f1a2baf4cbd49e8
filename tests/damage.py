"""Damaged copies of a file, and whether reading one ends in an error or in what the damaged bytes still say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from streamrnn_converters import convert
from streamrnn_converters.audio import read_audio
from streamrnn_converters.audio.oracle import output

from streamrnn import Engine, Stream
from streamrnn.errors import StreamRNNError

#: ways to damage a file at a place
WAYS = ("removed", "flipped", "doubled", "cut")
_FRAMES = 48
#: times the error of float32 itself
_NOISE = 8.0


def damaged(data: bytes, places: int, seed: int) -> Iterator[tuple[str, int, bytes]]:
    """(way, place, bytes): a byte removed, a bit of it flipped, the byte doubled, or the file cut there."""
    rng = np.random.default_rng(seed)
    for way in WAYS:
        for place in rng.integers(0, len(data), places):
            at, byte = int(place), data[int(place)]
            middle = {"removed": b"", "flipped": bytes([byte ^ (1 << int(rng.integers(8)))]), "doubled": bytes([byte, byte])}
            yield way, at, data[:at] if way == "cut" else data[:at] + middle[way] + data[at + 1 :]


def verdict(path: Path, layers: str = "") -> str:
    """Say "refused" where reading raises a StreamRNNError, "right" where the engine computes what the formula in float64 reads
    in the same bytes. Raises whatever else happens."""
    try:
        engine = Engine(convert(path, layers=layers))
    except StreamRNNError:
        return "refused"
    model = read_audio(path, layers)
    rng = np.random.default_rng(1)
    steps = -(-_FRAMES // engine.frames)
    x = {name: rng.normal(0, 0.3, (steps, *port.shape)).astype(np.float32) for name, port in engine.inputs.items()}
    found = Stream(engine).process(x if len(x) > 1 else next(iter(x.values())))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        exact, rounded = (output(model, x, dtype=kind).reshape(steps, -1) for kind in (np.float64, np.float32))
    agree(np.asarray(found).reshape(steps, -1), exact, rounded)
    return "right"


def agree(found: Any, exact: Any, rounded: Any) -> None:
    """Assert that `found` is as near to `exact` as float32 allows; beyond float32's range nothing can be said."""
    for t in range(len(exact)):
        if not (np.isfinite(rounded[: t + 1]).all() and np.isfinite(exact[: t + 1]).all()):
            return
        noise = np.abs(rounded[: t + 1] - exact[: t + 1]).max()
        limit = _NOISE * noise + 2e-5 * max(1.0, np.abs(exact[: t + 1]).max())
        assert np.abs(found[t] - exact[t]).max() <= limit, (t, found[t], exact[t], limit)
