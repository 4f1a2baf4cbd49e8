"""One comparison of a report: an output or state under one signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["output", "state"]


@dataclass(frozen=True)
class Ruling:
    """What the file in float64 says about a comparison that leaves its tolerance.

    right:  "engine" where it is within the tolerance of float64 at all steps and onnxruntime further off wherever they part;
            "onnxruntime" where that alone stays within the tolerance; "neither", so that noise decides; "nobody" where float64
            is not to be believed, and noise decides too.
    engine: largest |engine - float64| up to the last step beyond the tolerance; oracle: likewise |onnxruntime - float64|.
    """

    right: Literal["engine", "onnxruntime", "neither", "nobody"]
    engine: float
    oracle: float


@dataclass(frozen=True)
class Row:
    """One output or state under one signal.

    compared:  steps that had a counterpart in the oracle.
    max_abs:   largest |engine - oracle|; inf where one of them is NaN or they are different infinities.
    max_rel:   largest, over the steps, of max |engine - oracle| / max |oracle| of that step (steps where the oracle is all zero
               are left out).
    first_bad: first step at which `tolerance` is exceeded and noise does not explain it, or None.
    tolerance: on |engine - oracle|, absolute.
    noise:     largest difference of the oracle from itself, made as `Report.noise_of` says. Measured on the first signal, and
               on every signal that leaves the tolerance; else None.
    undecided: `tolerance` is exceeded, but no step is further off than `compare.NOISE_FACTOR` times the noise up to it, so
               that this signal says nothing about the engine, and float64 does not decide either.
    ruling:    what float64 says, where it was asked.
    nonfinite: NaN and Inf elements that oracle and engine have in the same places; they count as equal.
    unit:      of the grid that it lies on (0: on none), which node `grid` of the file makes: elements may be off by exactly
               that, `tolerance` around it.
    floor:     ratio of signal to noise (dB) that is enough whatever the tolerance, for weights in fewer bits; None for float32.
    snr:       that ratio over all compared steps; None where it was not asked for or there is no noise.
    one_off:   share of the elements nearer to that than to the oracle; beyond `compare.UNIT_SHARE` the row is undecided.
    """

    signal: str
    kind: Kind
    name: str
    compared: int
    max_abs: float
    max_rel: float
    first_bad: int | None
    tolerance: float
    noise: float | None = None
    nonfinite: int = 0
    undecided: bool = False
    ruling: Ruling | None = None
    unit: float = 0.0
    grid: str = ""
    one_off: float = 0.0
    snr: float | None = None
    floor: float | None = None

    @property
    def allowed(self) -> str:
        """The tolerance for people, with the grid's unit where there is one; or the ratio that has to be kept."""
        if self.floor is not None:
            return f"{self.floor:.0f} dB"
        return number(self.tolerance) + (f" or 1 unit of {number(self.unit)}" if self.unit else "")

    @property
    def passed(self) -> bool:
        return self.first_bad is None and not self.undecided

    @property
    def mark(self) -> str:
        """The row's verdict in a word: ok (with the ratio of signal to noise where that counts), referee (ok by float64),
        undecided, or the first bad step."""
        if self.snr is not None:
            return f"{self.snr:.1f} dB"
        if self.passed:
            return "ok" if self.ruling is None else "referee"
        return "undecided" if self.undecided else str(self.first_bad)


def number(value: float | None) -> str:
    """A difference or tolerance in three digits; a dash for None."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:.2e}"
