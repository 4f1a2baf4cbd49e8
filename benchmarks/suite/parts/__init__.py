"""The parts of the suite: each module has `rows(setup)`, a generator of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suite.peers import Peer
from suite.roofline import Roofline


@dataclass(frozen=True)
class Setup:
    """What all parts are given.

    quick:   a few small cases.
    budget:  seconds of measuring for one case.
    work:    a folder for files, removed afterwards.
    models:  a folder of models with a manifest, or None.
    missing: peers that are not installed, with the reason.
    """

    peers: Mapping[str, Peer]
    missing: Mapping[str, str]
    roofline: Roofline
    quick: bool
    budget: float
    work: Path
    models: Path | None
