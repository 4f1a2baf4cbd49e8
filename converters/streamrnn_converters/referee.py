"""The referee: where a comparison leaves the tolerance against onnxruntime, the file in float64 judges both.

A difference between two float32 computations does not say which of them is off. The float64 run, with states carried in float64
from the initial state, says it. The engine is right where it is within the tolerance of float64 at every step compared, and
onnxruntime further off than the engine at every step at which they part. It is wrong where it leaves the tolerance and
onnxruntime does not. Anything else decides nothing. Float64 is believed only where it agrees with onnxruntime, within the
tolerance, at most of the steps before engine and onnxruntime part, so never about a difference at the very first step: what it
shares with the engine, NumPy and the specification, might be misread by both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamrnn_converters.compare import Track
from streamrnn_converters.float64 import Float64
from streamrnn_converters.laws import Law
from streamrnn_converters.report import Ruling
from streamrnn_converters.signals import Signal


def judge(law: Law, evaluator: Float64, signal: Signal, tracks: list[Track]) -> None:
    """Give each of `tracks`, which leave their tolerance on `signal`, its ruling. Raises UnsupportedError where float64 cannot
    be had, or takes longer than the evaluator may."""
    last = max(max(track.beyond()) for track in tracks)
    until = law.until(signal, last)
    evaluator.clock.ask(law.calls(until))
    exact = replace(law, session=evaluator, other=law.session, nudge=False, excluded=dict(law.excluded))
    found = {(track.kind, track.name): track for track in exact.run(until, noise=True).tracks}
    for track in tracks:
        against = found.get((track.kind, track.name))
        if against is not None:
            track.ruling = ruling(track, against)


def ruling(track: Track, exact: Track) -> Ruling:
    """`track`: engine against onnxruntime. `exact`: engine against float64, its noise onnxruntime against float64."""
    bad, limit = track.beyond(), min(track.tolerance, exact.tolerance)  # an onnxruntime that grows widens its own
    engine: dict[int, float] = {}
    for step, worst in zip(exact.steps, exact.worst, strict=True):
        engine[step] = max(engine.get(step, 0.0), worst)
    oracle = exact.noise
    before = [step for step in oracle if step < min(bad)]
    agree = sum(oracle[step] <= limit for step in before)
    ours, theirs = max(engine.values(), default=np.inf), max(oracle.values(), default=np.inf)
    if 2 * agree <= len(before) or not set(bad) <= set(engine):
        return Ruling("nobody", ours, theirs)
    if ours <= limit and all(oracle[step] > engine[step] for step in bad):
        return Ruling("engine", ours, theirs)
    return Ruling("onnxruntime" if theirs <= limit < ours else "neither", ours, theirs)
