"""Sound that decays into silence: states become denormal numbers, with which some CPUs are slow.

A state that is multiplied by more than a half at each step never leaves the smallest denormal number once it is there, so the
cells keep nine tenths of theirs. Each engine runs twice: in sound, and in silence after sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from streamrnn.ir.graph import Array
from suite.beside import peer_sessions
from suite.cells import CellCase, Session, noise
from suite.own import engine, session
from suite.parts import Setup
from suite.rows import OWN, Row
from suite.timing import abba, medians

HIDDEN = 64
#: steps of silence; 0.9 to the power of a thousand is below the smallest number
SILENCE = 3000
#: the bias of the gate that keeps the state: sigmoid(2.2) is 0.9
KEEP = 2.2


class FadingCase(CellCase):
    """A cell that forgets slowly, and whose state goes to zero where its input does."""

    @cached_property
    def weights(self) -> dict[str, Array]:
        H, keep = self.hidden, {"LSTM": 2, "GRU": 0}[self.cell]
        found = {name: np.float32(0.3) * array for name, array in CellCase.weights.func(self).items()}
        found["B"][...] = 0
        found["B"][0, keep * H : (keep + 1) * H] = KEEP
        return found


def rows(setup: Setup) -> Iterator[Row]:
    folder = setup.work / "fading"
    folder.mkdir(exist_ok=True)
    for cell in ("LSTM", "GRU"):
        case = FadingCase(cell, HIDDEN, folder)
        (loud, skipped), (quiet, _) = (sessions(setup, case) for _ in range(2))
        for live in quiet.values():
            fade(live, case)
        x = noise(case.x_shape)
        sides = [(s.call, x.reshape(s.shape)) for s in loud.values()]
        sides += [(s.call, np.zeros(s.shape, np.float32)) for s in quiet.values()]
        times = abba(sides, setup.budget)
        middle, n = medians(times), len(loud)
        slower = np.median(times[:, n:] / times[:, :n], axis=0)
        figures = {
            name: {"ns": middle[i], "in silence": middle[n + i], "slowdown": float(slower[i])} for i, name in enumerate(loud)
        }
        yield Row("silence", {"cell": cell, "H": HIDDEN}, figures, skipped)


def sessions(setup: Setup, case: CellCase) -> tuple[dict[str, Session], dict[str, str]]:
    others, skipped = peer_sessions(setup.peers, case, "f32")
    return {OWN: session(case, engine(case, "f32")), **others}, skipped


def fade(live: Session, case: CellCase) -> None:
    """Sound, then silence until the state is as small as it gets."""
    for frame in noise((20, *case.x_shape)):
        live.call(frame.reshape(live.shape))
    nothing = np.zeros(live.shape, np.float32)
    for _ in range(SILENCE):
        live.call(nothing)
