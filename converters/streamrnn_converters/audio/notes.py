"""What a file says about itself: the plain values of its metadata that survive into the graph, and the names of knobs."""

from __future__ import annotations

import math
from collections.abc import Collection

from streamrnn_converters.audio._json import Fields, number, refuse

#: keys of `Graph.meta` that have a meaning to the compiler; a file may not set them
_OWN = frozenset({
    "mode", "mode_reason", "time_axes", "shapes", "bind", "pairs", "producer", "opset", "lookahead", "frames", "hop",
    "receptive_field", "unused_inputs", "sample_rate", "format", "prewarm_samples", "prewarmed", "skip", "layers", "notes",
    "channels_in", "channels_out", "rate_correction", "trained_rate",
})  # fmt: skip
#: entries and characters of a file's own metadata that are kept
_MOST, _LONGEST = 40, 200
_RATES = (1.0, 1e7)


def meta_of(data: Fields, skip: Collection[str] = ()) -> dict[str, object]:
    """Text, numbers and flags directly in an object; the sample rate, under any of its names, as a whole number in Hz."""
    found: dict[str, object] = {}
    for key, value in data.data.items():
        if key in ("sample_rate", "samplerate", "expected_sample_rate"):
            if value is not None:
                found["sample_rate"] = _rate(value, f"{data.where}: '{key}'")
        elif key in skip or key in _OWN or len(found) >= _MOST or len(key) > 60:
            continue
        elif isinstance(value, str) and value.strip():
            found[plain(key)] = plain(value[:_LONGEST])
        elif isinstance(value, bool) or (isinstance(value, int) and abs(value) < 1 << 53) or isinstance(value, float):
            found[plain(key)] = value
    return found


def plain(text: str) -> str:
    """Text without characters that are none, or that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _rate(value: object, where: str) -> int | float:
    rate = number(value, where)
    if not _RATES[0] <= rate <= _RATES[1]:
        refuse(where, f"a sample rate of {rate:g} Hz is absurd")
    return int(rate) if math.floor(rate) == rate else rate


def knobs(count: int) -> tuple[tuple[str, int], ...]:
    """Inputs of a model with a signal and `count` knobs."""
    return (("audio", 1), *((f"param{k}", 1) for k in range(1, count + 1)))
