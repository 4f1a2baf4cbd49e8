"""Test signals: what `validate` feeds, step by step, the same whatever the cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamrnn import Engine
from streamrnn.errors import InputError
from streamrnn.ir.graph import Array

#: amplitude of the loud signal, in standard deviations: far into the saturation of every gate
LOUD = 30.0
#: steps of the long signal, over which errors of weights in fewer bits could add up
LONG = 10_000
#: steps between impulses; prime, so that they do not fall into step with blocks
IMPULSES = 29


@dataclass(frozen=True)
class Signal:
    """`frame(name, step)` gives one frame of an input; inputs that stand still have the frame of step 0 throughout.

    endless: whether there are frames behind `steps`, to fill the last clip of a prescribed length.
    """

    name: str
    steps: int
    engine: Engine
    frame: Callable[[str, int], Array]
    endless: bool = True

    def block(self, start: int, stop: int) -> dict[str, Array]:
        """Steps start .. stop of every input, [n, *frame shape]."""
        streams = self.engine.graph.streams
        found = {}
        for name, info in self.engine.inputs.items():
            still = bool(streams) and name not in streams
            rows = [self.frame(name, 0 if still else t) for t in range(start, stop)]
            found[name] = np.stack(rows).astype(info.dtype, copy=False)
        return found


def built_in_signals(engine: Engine, steps: int, seed: int) -> list[Signal]:
    """random (unit normal), silent (zeros), loud (saturating) and impulses (one element is 1, another one each time).
    Integers are 0 or 1, and bools true, except in silence, because they may be indices or masks."""
    order = {name: k for k, name in enumerate(engine.inputs)}

    def random(name: str, t: int, scale: float = 1.0) -> Array:
        info, rng = engine.inputs[name], np.random.default_rng([seed, order[name], t])
        if info.dtype.kind == "f":
            return np.asarray(rng.standard_normal(info.shape) * scale, info.dtype)
        if info.dtype.kind == "b":
            return np.ones(info.shape, info.dtype)
        return np.asarray(rng.integers(0, 2, info.shape), info.dtype)

    def silent(name: str, t: int) -> Array:
        return np.zeros(engine.inputs[name].shape, engine.inputs[name].dtype)

    def loud(name: str, t: int) -> Array:
        return random(name, t, LOUD)

    def impulses(name: str, t: int) -> Array:
        frame = silent(name, t)
        if t % IMPULSES == 1:
            frame.reshape(-1)[7 * (t // IMPULSES) % frame.size] = 1
        return frame

    rows = (("random", random), ("silent", silent), ("loud", loud), ("impulses", impulses))
    return [Signal(name, steps, engine, frame) for name, frame in rows]


def long_signal(engine: Engine, steps: int, seed: int) -> Signal:
    """The random signal under another name, for many steps."""
    return replace(built_in_signals(engine, steps, seed + 1)[0], name="long")


def nudged(inputs: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """The inputs with every float moved by about one unit in its last place, up or down."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, value in inputs.items():
        if value.dtype.kind == "f":
            ways = rng.choice(np.array([-1, 1], value.dtype), value.shape)
            value = value + value * (ways * np.finfo(value.dtype).eps)
        found[name] = value
    return found


def given_signal(engine: Engine, inputs: Mapping[str, Array]) -> Signal:
    """The user's own arrays, one per input.

    Each is [n, *frame shape], or [n * frames, *frame shape without its frames] in a model that takes several frames a step, or
    1-D where a frame is one window of samples: it is cut into windows then, the rest dropped. One of exactly the frame
    shape stands still. The shortest decides how many steps there are. Raises InputError.
    """
    if set(inputs) != set(engine.inputs):
        raise InputError(f"inputs {sorted(inputs)} were given, the model takes {sorted(engine.inputs)}")
    cut = {name: _cut(name, info.shape, info.dtype, np.asarray(inputs[name])) for name, info in engine.inputs.items()}
    lengths = [len(a) for name, a in cut.items() if inputs[name].shape != engine.inputs[name].shape]
    steps = min(lengths, default=1)
    if steps < 1:
        raise InputError("the given input is shorter than one step")
    return Signal("given", steps, engine, lambda name, t: cut[name][t if len(cut[name]) > 1 else 0], endless=False)


def _cut(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], array: Array) -> Array:
    """Steps [n, *shape] of one given input."""
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(f"input '{name}' is {array.dtype}, the model takes {dtype}; convert it with .astype('{dtype}')")
    if array.shape == shape:
        return array[None]
    if array.shape[1:] == shape:
        return array
    per_step = shape[0] if shape else 1
    if array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        n = len(array) // per_step
        return array[: n * per_step].reshape(n, *shape)
    if array.ndim == 1 and max(shape, default=1) == int(np.prod(shape)):
        n = array.size // max(shape, default=1)
        return array[: n * max(shape, default=1)].reshape(n, *shape)
    raise InputError(f"input '{name}' has shape {array.shape}, the model takes {list(shape)} behind a leading axis of steps")
