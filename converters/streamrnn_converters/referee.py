"""The referee: where a comparison leaves the tolerance against onnxruntime, the file in float64 judges both.

A difference between two float32 computations does not say which of them is off. The float64 run, with states carried in float64
from the initial state, says it. The engine is right where it is within the tolerance of float64 at every step compared, and
onnxruntime further off than the engine at every step at which they part. It is wrong where it leaves the tolerance and
onnxruntime does not. Where both leave it nothing is decided, and what lies between onnxruntime and float64 counts as noise of
onnxruntime. Float64 is believed only where it agrees with onnxruntime, within the tolerance, on the first steps of another
signal, noise of ordinary loudness, or else at most of the steps before engine and onnxruntime part: what it shares with the
engine, NumPy and the specification, might be misread by both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamrnn_converters.compare import Track
from streamrnn_converters.float64 import Float64
from streamrnn_converters.laws import Law
from streamrnn_converters.rows import Ruling
from streamrnn_converters.signals import Signal


def judge(law: Law, evaluator: Float64, signal: Signal, tracks: list[Track], believed: bool) -> None:
    """Give each of `tracks`, which leave their tolerance on `signal`, its ruling. `believed`: see `agrees`. Raises
    UnsupportedError where float64 cannot be had, or takes longer than the evaluator may."""
    last = max(max(track.beyond()) for track in tracks)
    found = _exact(law, evaluator, law.until(signal, last))
    for track in tracks:
        against = found.get((track.kind, track.name))
        if against is None:
            continue
        track.ruling = ruling(track, against, believed)
        if track.ruling.right == "neither":
            track.noise = {step: max(track.noise.get(step, 0.0), apart) for step, apart in against.noise.items()}


def agrees(law: Law, evaluator: Float64, signal: Signal) -> bool:
    """Whether onnxruntime gives what float64 gives on a signal, within the tolerance. Raises UnsupportedError."""
    tracks = [track for track in _exact(law, evaluator, signal).values() if track.noise]
    return bool(tracks) and all(max(track.noise.values()) <= track.tolerance for track in tracks)


def _exact(law: Law, evaluator: Float64, signal: Signal) -> dict[tuple[str, str], Track]:
    """The engine against float64, and as its noise onnxruntime against float64."""
    evaluator.clock.ask(law.calls(signal))
    exact = replace(law, session=evaluator, other=law.session, nudge=False, excluded=dict(law.excluded))
    return {(track.kind, track.name): track for track in exact.run(signal, noise=True).tracks}


def ruling(track: Track, exact: Track, believed: bool = False) -> Ruling:
    """`track`: engine against onnxruntime. `exact`: engine against float64, its noise onnxruntime against float64."""
    bad, limit = track.beyond(), min(track.tolerance, exact.tolerance)  # an onnxruntime that grows widens its own
    engine: dict[int, float] = {}
    for step, worst in zip(exact.steps, exact.worst, strict=True):
        engine[step] = max(engine.get(step, 0.0), worst)
    oracle = exact.noise
    before = [step for step in oracle if step < min(bad)]
    agree = sum(oracle[step] <= limit for step in before)
    ours, theirs = max(engine.values(), default=np.inf), max(oracle.values(), default=np.inf)
    if not (believed or 2 * agree > len(before)) or not set(bad) <= set(engine):
        return Ruling("nobody", ours, theirs)
    if ours <= limit and all(oracle[step] > engine[step] for step in bad):
        return Ruling("engine", ours, theirs)
    return Ruling("onnxruntime" if theirs <= limit < ours else "neither", ours, theirs)
