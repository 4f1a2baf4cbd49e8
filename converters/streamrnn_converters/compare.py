"""Differences between engine and oracle, collected step by step; and one signal through an engine in three different cuts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamrnn import Engine, Stream
from streamrnn.ir.graph import Array
from streamrnn_converters.grid import Unit
from streamrnn_converters.report import Chunking, Curve
from streamrnn_converters.rows import Kind, Row, Ruling
from streamrnn_converters.signals import LOUD, Signal

#: |engine - oracle| <= RELATIVE[kind] * max(1, max |oracle|): onnxruntime with and without its optimisations differs from
#: itself by up to 5e-5 on states of real models
RELATIVE: dict[Kind, float] = {"output": 1e-4, "state": 5e-4}
#: a difference up to this many times the noise of onnxruntime itself says nothing about the engine, which rounds at each of
#: its operations where the measurement of noise nudges the input alone
NOISE_FACTOR = 4.0
#: where an output lies on a grid, at most this share of its elements may be one unit off for a signal to count as passed:
#: floats that lie so near to the middle of two steps are rare, and a weight that is wrong moves more
UNIT_SHARE = 0.02
#: a model whose weights are stored in these types has another law: each output and state keeps at least this ratio of signal to
#: noise (dB), or stays within the tolerance of float32
FLOORS: Mapping[str, float] = {"int8": 40.0, "float16": 60.0}
#: so many dB less are enough under the loud signal: it makes the errors of all sums LOUD times as large, while what gates give
#: stays as large as it was
LOUD_ALLOWANCE = 20 * math.log10(LOUD)
#: elements of an output that are kept for the plots
_KEPT = 64
#: bytes of one block of a signal, and steps in it
_BLOCK_BYTES, _BLOCK_STEPS = 64 << 20, 256


def difference(expected: Array, found: Array) -> Array:
    """|found - expected| in float64; 0 where both are NaN or the same infinity, inf where only one of them is finite."""
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def floor(meta: Mapping[str, object]) -> float | None:
    """The ratio of signal to noise (dB) that a model has to keep whose weights are stored as `meta` says; None for float32."""
    told = meta.get("weights")
    kinds = {layer["dtype"] for layer in told["layers"]} if isinstance(told, dict) else set()
    return min((FLOORS[kind] for kind in kinds if kind in FLOORS), default=None)


def peak(value: Array) -> float:
    """Largest finite magnitude; 0 where there is none."""
    magnitudes = np.abs(np.asarray(value, np.float64))
    return float(np.max(magnitudes, initial=0.0, where=np.isfinite(magnitudes)))


def tolerance(kind: Kind, largest: float, dtype: np.dtype[Any]) -> float:
    """What is allowed for a value whose largest magnitude is `largest`: at least a unit in the last place of its type, which
    counts for float16; 0 for integers and bools."""
    if dtype.kind != "f":
        return 0.0
    return max(RELATIVE[kind], float(np.finfo(dtype).eps)) * max(1.0, largest)


@dataclass
class Track:
    """One output or state under one signal, as far as it was compared.

    limit: a tolerance of its own, absolute.
    floor: a ratio of signal to noise (dB) that is enough, whatever the tolerance.
    unit:  of the grid that it lies on, see `grid`; a step counts by its distance from the oracle or, where that is nearer, from
           the oracle's neighbours on the grid.
    """

    kind: Kind
    name: str
    dtype: np.dtype[Any]
    steps: list[int] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    largest: float = 0.0
    max_rel: float = 0.0
    nonfinite: int = 0
    noise: dict[int, float] = field(default_factory=dict)
    kept: list[tuple[Array, Array]] = field(default_factory=list)
    every: int = 1
    limit: float | None = None
    floor: float | None = None
    power: float = 0.0
    error: float = 0.0
    unit: Unit | None = None
    decisive: list[float] = field(default_factory=list)
    elements: int = 0
    one_off: int = 0
    ruling: Ruling | None = None

    def add(self, step: int, expected: Array, found: Array) -> None:
        """Compare what the oracle and the engine have for this step; shapes may differ by axes of size 1."""
        a, b = np.asarray(expected).reshape(-1), np.asarray(found).reshape(-1)
        if a.size != b.size:
            self._note(step, np.inf, 0.0, np.inf)
            return
        apart = difference(a, b)
        beside = apart if self.unit is None else np.minimum(apart, np.abs(apart - self.unit.size))
        self._note(step, float(np.max(apart, initial=0.0)), peak(a), float(np.max(beside, initial=0.0)))
        self.elements += a.size
        finite = np.isfinite(a) if a.dtype.kind == "f" else np.ones(a.shape, bool)
        self.power += float(np.square(a[finite], dtype=np.float64).sum())
        self.error += float(np.square(apart[finite]).sum())
        self.one_off += int(np.count_nonzero(beside < apart))
        self.nonfinite += int(np.count_nonzero(~np.isfinite(a))) if a.dtype.kind == "f" else 0
        if self.kind == "output":
            self.every = max(1, -(-a.size // _KEPT))
            self.kept.append((a[:: self.every].astype(np.float64), b[:: self.every].astype(np.float64)))

    def _note(self, step: int, worst: float, largest: float, decisive: float) -> None:
        self.steps.append(step)
        self.worst.append(worst)
        self.decisive.append(decisive)
        self.largest = max(self.largest, largest)
        if largest > 0.0:
            self.max_rel = max(self.max_rel, worst / largest)

    def add_noise(self, step: int, expected: Array, other: Array) -> None:
        """Compare the oracle with itself under another plan and on a nudged input."""
        apart = float(np.max(difference(expected, other), initial=0.0))
        self.noise[step] = max(self.noise.get(step, 0.0), apart)

    @property
    def tolerance(self) -> float:
        return tolerance(self.kind, self.largest, self.dtype) if self.limit is None else self.limit

    @property
    def snr(self) -> float | None:
        """Ratio of signal to noise (dB), None where there is no noise or the values are no floats."""
        if self.floor is None or self.dtype.kind != "f" or not self.error:
            return None
        return 10 * float(np.log10(max(self.power, np.finfo(np.float64).tiny) / self.error))

    def row(self, signal: str) -> Row:
        """A step counts as bad where the tolerance is exceeded, unless the ruling is for the engine, or there is none that
        decides and the oracle's own noise up to then explains it."""
        beyond, right = self.beyond(), self.ruling.right if self.ruling is not None else ""
        bad = [step for step, worst in beyond.items() if right == "onnxruntime" or not worst <= self._explained(step)]
        snr = self.snr
        if right == "engine" or (self.floor is not None and snr is not None and snr >= self.floor):
            bad = []
        decided = right == "engine" or self.floor is not None
        return Row(
            signal, self.kind, self.name, len(set(self.steps)), max(self.worst, default=0.0), self.max_rel,
            min(bad, default=None), self.tolerance, max(self.noise.values(), default=None), self.nonfinite,
            undecided=not bad and not decided and (bool(beyond) or self._crowded), ruling=self.ruling,
            one_off=self.one_off / max(1, self.elements),
            unit=0.0 if self.unit is None else self.unit.size, grid="" if self.unit is None else self.unit.node,
            snr=snr, floor=self.floor,
        )  # fmt: skip

    @property
    def _crowded(self) -> bool:
        """Whether more elements are one unit of a grid off than ties explain."""
        coarse = self.unit is not None and self.unit.size > 2 * self.tolerance
        return coarse and self.one_off > UNIT_SHARE * self.elements

    def beyond(self) -> dict[int, float]:
        """The largest difference of each step that leaves the tolerance."""
        found: dict[int, float] = {}
        for step, apart in zip(self.steps, self.decisive, strict=True):
            if apart > self.tolerance:
                found[step] = max(found.get(step, 0.0), apart)
        return found

    def _explained(self, step: int) -> float:
        """What noise explains."""
        return NOISE_FACTOR * max((apart for at, apart in self.noise.items() if at <= step), default=0.0)

    def curve(self, signal: str) -> Curve | None:
        """The kept element with the largest difference, or, where all are the same, the one that moves most."""
        if not self.kept or len({a.size for a, _ in self.kept}) > 1 or not self.kept[0][0].size:
            return None
        expected, found = (np.stack([pair[k] for pair in self.kept]) for k in (0, 1))
        apart = difference(expected, found).max(axis=0)
        with np.errstate(invalid="ignore"):
            spread = np.nan_to_num(expected.max(axis=0) - expected.min(axis=0))
        element = int(np.lexsort((spread, apart))[-1]) if apart.max() > self.tolerance else int(np.argmax(spread))
        order = np.argsort(self.steps, kind="stable")
        return Curve(
            signal, self.name, element * self.every, np.asarray(self.steps)[order],
            expected[order, element], found[order, element], np.asarray(self.worst)[order], self.tolerance,
        )  # fmt: skip


@dataclass(frozen=True)
class Block:
    """Steps start .. stop of a signal: the inputs, and what single steps gave. `states[i]` is after step start + i."""

    start: int
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    states: list[dict[str, Array]]

    def __len__(self) -> int:
        return len(self.states)

    def frame(self, index: int) -> dict[str, Array]:
        """The inputs of one step."""
        return {name: a[index] for name, a in self.inputs.items()}


class Cuts:
    """One signal through three streams of an engine: by single steps, by blocks, by chunks of random size."""

    def __init__(self, engine: Engine, signal: Signal, seed: int) -> None:
        self.engine = engine
        self.signal = signal
        self._single, self._block, self._random = (Stream(engine) for _ in range(3))
        self._rng = np.random.default_rng(seed)
        self._same_block = self._same_random = True

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Block]:
        """The signal from `start` to `stop`, from the initial state."""
        stop = self.signal.steps if stop is None else stop
        for stream in (self._single, self._block, self._random):
            stream.reset()
        ports = (*self.engine.plan.inputs, *self.engine.plan.outputs)
        size = max(1, min(_BLOCK_STEPS, _BLOCK_BYTES // max(1, sum(p.type.nbytes for p in ports))))
        for at in range(start, stop, size):
            yield self._run(at, min(stop, at + size))
        ends = [stream.snapshot().state for stream in (self._single, self._block, self._random)]
        self._same_block &= ends[0] == ends[1]
        self._same_random &= ends[0] == ends[2]

    def _run(self, start: int, stop: int) -> Block:
        inputs = self.signal.block(start, stop)
        single, states = [], []
        for i in range(stop - start):
            single.append(self._named(self._single.step({name: a[i] for name, a in inputs.items()})))
            states.append(self._single.state())
        outputs = {name: np.stack([row[name] for row in single]) for name in self.engine.outputs}
        whole = self._named(self._block.process(inputs))
        pieces = []
        at = 0
        while at < stop - start:
            end = at + int(self._rng.integers(1, 9))
            pieces.append(self._named(self._random.process({name: a[at:end] for name, a in inputs.items()})))
            at = end
        for name, value in outputs.items():
            self._same_block &= value.tobytes() == whole[name].tobytes()
            self._same_random &= value.tobytes() == np.concatenate([p[name] for p in pieces]).tobytes()
        return Block(start, inputs, outputs, states)

    def _named(self, result: Array | dict[str, Array]) -> dict[str, Array]:
        return result if isinstance(result, dict) else {next(iter(self.engine.outputs)): result}

    def chunking(self) -> Chunking:
        """What the runs so far found."""
        return Chunking(self.signal.name, self.signal.steps, self._same_block, self._same_random)
