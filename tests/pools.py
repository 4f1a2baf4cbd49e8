"""Pools whose slots are all joined, beside Streams of the same engine."""

from __future__ import annotations

import numpy as np
from contract import as_dict, floats

from streamrnn import Engine, Stream, StreamPool

#: one group that is full and one that is not
SLOTS = 18


def joined(engine: Engine, slots: int = SLOTS, **options: object) -> StreamPool:
    """A pool whose slots are all joined."""
    pool = StreamPool(engine, slots, **options)  # type: ignore[arg-type]
    for _ in range(slots):
        pool.join()
    return pool


def assert_slots_are_streams(engine: Engine, steps: int, slots: int = SLOTS, lanes: bool = True) -> None:
    """Outputs and snapshots of each slot are those of a Stream, also where slots begin anew at different times."""
    pool, twins = joined(engine, slots, lanes=lanes), [Stream(engine) for _ in range(slots)]
    for t in range(steps):
        X = {n: floats(t, slots, *info.shape, scale=0.3) for n, info in engine.inputs.items()}
        found = as_dict(engine, pool.step(X))
        for slot, twin in enumerate(twins):
            one = as_dict(engine, twin.step({n: x[slot] for n, x in X.items()}))
            for output, value in one.items():
                np.testing.assert_array_equal(found[output][slot], value)
            assert pool.snapshot(slot) == twin.snapshot()
        pool.reset(5 * t % slots)
        twins[5 * t % slots].reset()
