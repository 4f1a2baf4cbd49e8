"""DepthToSpace and SpaceToDepth keep the contract of ops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
from contract import Case, Contract, floats
from moving import compiled
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert

from streamrnn import Engine, Stream
from streamrnn.errors import ShapeError, UnsupportedError

TWO = {"blocksize": 2}


class TestDepthToSpace(Contract):
    cases = [  # noqa: RUF012
        Case("DepthToSpace", (floats(1, 2, 8, 3, 5),), TWO, time={0: 0}),
        Case("DepthToSpace", (floats(2, 1, 18, 2, 3),), {"blocksize": 3, "mode": "CRD"}),
        Case("DepthToSpace", (floats(3, 1, 4, 5, 1),), {"blocksize": 1}, time={0: 2}),
        Case("DepthToSpace", (floats(4, 1, 8, 3, 6),), TWO, time={0: 3}, refused="makes 2 frames of each"),
        Case("DepthToSpace", (floats(4, 1, 8, 3, 6),), TWO, time={0: 1}, refused="along its channels"),
    ]


class TestSpaceToDepth(Contract):
    cases = [  # noqa: RUF012
        Case("SpaceToDepth", (floats(1, 2, 3, 4, 12),), TWO, time={0: 3}),
        Case("SpaceToDepth", (floats(2, 1, 2, 9, 6),), {"blocksize": 3}, time={0: 2}),
        Case("SpaceToDepth", (floats(3, 1, 2, 4, 6),), {"blocksize": 2, "mode": "CRD"}, onnx=False),
        Case("SpaceToDepth", (floats(4, 1, 4, 2, 6),), TWO, time={0: 1}, refused="along its channels"),
    ]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_one_undoes_the_other(mode: str) -> None:
    x = np.arange(72).reshape(1, 2, 6, 6)
    (deep,) = compiled(Case("SpaceToDepth", (x,), {"blocksize": 3, "mode": mode}))
    (again,) = compiled(Case("DepthToSpace", (deep,), {"blocksize": 3, "mode": mode}))
    np.testing.assert_array_equal(again, x)


def test_time_is_taken_together_and_parted_again(tmp_path: Path) -> None:
    """[1, 2, T, 4]: two frames at a time go through a running sum over the slower clock, and leave as two frames."""
    nodes = [
        h.make_node("SpaceToDepth", ["x"], ["d"], blocksize=2),
        h.make_node("CumSum", ["d", "axis"], ["s"]),
        h.make_node("DepthToSpace", ["s"], ["y"], blocksize=2),
    ]
    model = files.make(nodes, [("x", F32, [1, 2, 12, 4])], [("y", F32, [1, 2, 12, 4])], {"axis": np.array(2)})
    path = files.save(model, tmp_path)
    engine = Engine(convert(path, mode="frame", time_axis={"x": 2}))
    clip = floats(1, 1, 2, 12, 4)
    (expected,) = files.run_file(path, {"x": clip})
    steps = np.ascontiguousarray(clip[0].swapaxes(0, 1)).reshape(6, *engine.inputs["x"].shape)
    found = Stream(engine).process(steps)
    assert engine.frames == 2
    np.testing.assert_allclose(found.reshape(12, 2, 4), expected[0].swapaxes(0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "error", "reason"),
    [
        (Case("DepthToSpace", (floats(1, 1, 6, 2, 2),), TWO), ShapeError, "6 channels"),
        (Case("SpaceToDepth", (floats(1, 1, 6, 3, 2),), TWO), ShapeError, "3 x 2 positions"),
        (Case("SpaceToDepth", (floats(1, 1, 6, 3),), TWO), ShapeError, "blocksize"),
        (Case("DepthToSpace", (floats(1, 1, 8, 2, 2),), {"blocksize": 2, "mode": "RCD"}), UnsupportedError, "RCD"),
    ],
)
def test_what_has_no_blocks_is_refused(bad: Case, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        bad.site()
