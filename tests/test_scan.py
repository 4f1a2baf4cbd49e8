"""Scans of ONNX files, call by call beside onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from control_files import body, check, converted, node, ops, out, typed
from onnx_files import BOOL, F32, Typed, make, noise

from streamrnn import Engine, Stream, UnsupportedError
from streamrnn.ir.graph import Array

X: Typed = ("x", F32, [2, 3])
Y: Typed = ("y", F32, None)  # type: ignore[assignment]
GO: Typed = ("go", BOOL, [])
YES, NO = np.array(True), np.array(False)

A0 = noise(3, 2, 3)


def scan_model(trips: int = 5, **attrs: Any) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Two states, two scan inputs, two scan outputs, one capture; axes and directions as the attributes say."""
    axes = attrs.get("scan_input_axes", [0, 0])
    nodes = [
        node("Mul", ["s", "u"], ["su"]),
        node("Add", ["su", "x"], ["s1"]),
        node("Sub", ["r", "v"], ["r1"]),
        node("Tanh", ["s1"], ["p"]),
        node("Concat", ["p", "r1"], ["q"], axis=-1),
    ]
    s, r, u, v = noise(1, 2, 3), noise(2, 2, 1), noise(3, 2, 3), noise(4, 2, 1)
    inner = body(nodes, [typed(a, n) for n, a in (("s", s), ("r", r), ("u", u), ("v", v))], out("s1", "r1", "p", "q"))
    us, vs = (np.stack([noise(10 * k + t, *a.shape) for t in range(trips)], axes[k]) for k, a in enumerate((u, v)))
    feeds = {"s0": s, "r0": r, "us": us, "vs": vs, "x": noise(7, 2, 3)}
    nodes = [node("Scan", ["s0", "r0", "us", "vs"], ["s_end", "r_end", "ps", "qs"], body=inner, num_scan_inputs=2, **attrs)]
    return make(nodes, [typed(a, n) for n, a in feeds.items()], out("s_end", "r_end", "ps", "qs")), feeds


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"scan_input_directions": [1, 0]},
        {"scan_output_directions": [0, 1]},
        {"scan_input_axes": [1, 2], "scan_output_axes": [2, 1]},
        {
            "scan_input_axes": [-1, -2],
            "scan_output_axes": [-1, -3],
            "scan_input_directions": [1, 1],
            "scan_output_directions": [1, 0],
        },
    ],
)
def test_a_scan_with_several_states_inputs_and_outputs(tmp_path: Path, attrs: dict[str, Any]) -> None:
    model, feeds = scan_model(**attrs)
    check(model, tmp_path, feeds, {name: -array for name, array in feeds.items()})


def test_a_scan_over_one_slice_is_its_body(tmp_path: Path) -> None:
    model, feeds = scan_model(1, scan_output_axes=[1, 0])
    assert "Scan" not in ops(check(model, tmp_path, feeds))


def test_a_scan_of_opset_8_runs_over_its_batch(tmp_path: Path) -> None:
    inner = body(
        [node("Add", ["s", "u"], ["s1"]), node("Tanh", ["s1"], ["p"])], [typed(A0[0], "s"), typed(A0[0], "u")], out("s1", "p")
    )
    nodes = [node("Scan", ["", "s0", "us"], ["s_end", "ps"], body=inner, num_scan_inputs=1)]
    feeds = {"s0": noise(1, 4, 3), "us": noise(2, 4, 6, 3)}
    model = make(nodes, [typed(a, n) for n, a in feeds.items()], out("s_end", "ps"), opset=8)
    check(model, tmp_path, feeds)


def test_a_scan_with_a_state_whose_shape_changes_is_refused_or_unrolled(tmp_path: Path) -> None:
    inner = body([node("Concat", ["s", "u"], ["s1"], axis=0)], [typed(A0[0], "s"), typed(A0[0], "u")], out("s1"))
    nodes = [node("Scan", ["s0", "us"], ["s_end"], body=inner, num_scan_inputs=1)]
    feeds = {"s0": noise(1, 3), "us": noise(2, 6, 3)}
    engine = Engine(converted(make(nodes, [typed(a, n) for n, a in feeds.items()], out("s_end")), tmp_path))
    assert "Scan" not in ops(engine.graph)
    np.testing.assert_array_equal(Stream(engine).step(feeds), np.concatenate([feeds["s0"], feeds["us"].ravel()]))
    long = make(nodes, [("s0", F32, [3]), ("us", F32, [9000, 3])], out("s_end"))
    with pytest.raises(UnsupportedError, match=r"carries as 's' is float32\[3\] at first and float32\[6\] later"):
        converted(long, tmp_path)
