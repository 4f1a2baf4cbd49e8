"""A case run by all engines: first compared, then timed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from streamrnn.ir.graph import Array
from suite.cells import CellCase, Session, UnsupportedCaseError, noise
from suite.peers import Peer
from suite.rows import OWN
from suite.timing import Side, abba, medians, ratios

#: largest difference from this engine in float32 that is no wrong result, where |outputs| are at most 1
TOLERANCE = {"f32": 1e-4, "f16": 2e-2, "int8": 0.25}
#: calls that are compared
CALLS = 12


def peer_sessions(peers: Mapping[str, Peer], case: CellCase, weights: str) -> tuple[dict[str, Session], dict[str, str]]:
    """Sessions by name, and why the other peers have none."""
    found: dict[str, Session] = {}
    skipped: dict[str, str] = {}
    for name, peer in peers.items():
        try:
            found |= peer.ways(case, weights)
        except UnsupportedCaseError as reason:
            skipped[name] = str(reason)
        except Exception as problem:  # each peer raises its own types
            skipped[name] = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
    return found, skipped


def answers(session: Session, clip: Array) -> Array:
    """Outputs of successive calls, [calls, numbers]."""
    return np.stack([np.array(session.call(x.reshape(session.shape)), np.float32).ravel() for x in clip])


def differences(sessions: Mapping[str, Session], clip: Array, expected: Array) -> dict[str, float]:
    """The largest difference of each session from what is expected; inf where a number is missing or none."""
    found = {}
    for name, session in sessions.items():
        given = answers(session, clip)
        same_shape = given.shape == expected.shape and np.isfinite(given).all()
        found[name] = float(np.abs(given - expected).max()) if same_shape else float("inf")
    return found


def measured(
    case: CellCase,
    weights: str,
    sessions: dict[str, Session],
    expected: Session,
    budget: float,
    extra: Mapping[str, tuple[Side, int]] | None = None,
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Figures by engine, and the engines whose results are wrong.

    sessions: OWN among them. expected: this engine in float32. extra: more sides to time, with the steps that one call makes.
    """
    clip = noise((2 if case.steps > 1 else CALLS, *case.x_shape))
    errors = differences(sessions, clip, answers(expected, clip))
    wrong = {n: f"wrong results: off by {e:.1e}" for n, e in errors.items() if not e <= TOLERANCE[weights]}
    if OWN in wrong:
        raise SystemExit(f"{case.cell} {case.hidden} {weights}: streamrnn has {wrong[OWN]}; there is nothing to compare")
    right = {name: session for name, session in sessions.items() if name not in wrong}
    sides: dict[str, tuple[Side, int]] = {
        name: ((session.call, clip[0].reshape(session.shape)), case.steps) for name, session in right.items()
    }
    names = [OWN, *(n for n in sides if n != OWN), *(extra or {})]
    sides |= extra or {}
    times = abba([sides[n][0] for n in names], budget) / [sides[n][1] for n in names]
    figures = {n: {"ns": ns, "ratio": r} for n, ns, r in zip(names, medians(times), ratios(times), strict=True)}
    for name, error in errors.items():
        if name in figures:
            figures[name]["error"] = error
    return figures, wrong
