"""What every part of the suite gives: rows of figures by engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: this project's own name among the engines
OWN = "streamrnn"
#: the same code called from native code, without Python
KERNEL = "in kernel"
#: what is measured beside the engines to tell what the machine itself does
CONTROL = "control"


@dataclass(frozen=True)
class Row:
    """One case.

    part:    cells, calls, models, pool, tails, mallocs, start or silence.
    axes:    what the case is.
    figures: engine -> figure -> number. "ns" is per step (of all streams, in a pool), "ratio" that engine's time over
             streamrnn's, "error" the largest difference from streamrnn in float32, "roofline" the bound over the time.
    skipped: engine -> why it has no figures.
    """

    part: str
    axes: Mapping[str, str | int]
    figures: Mapping[str, Mapping[str, float]]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def get(self, engine: str, figure: str) -> float | None:
        return self.figures.get(engine, {}).get(figure)


def share(row: Row) -> float | None:
    """The part of the roofline that streamrnn reaches: in native code where that was measured, else from Python."""
    return row.get(KERNEL, "roofline") or row.get(OWN, "roofline")


def where(rows: Iterable[Row], part: str, **axes: str | int) -> list[Row]:
    """The rows of a part that agree with these axes."""
    return [row for row in rows if row.part == part and all(row.axes.get(k) == v for k, v in axes.items())]
