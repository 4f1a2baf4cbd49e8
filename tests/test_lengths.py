"""Inputs that say how long the clips of a batch are: a stream has no end, so in frame mode they are as long as the clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files as files
import pytest
from contract import floats
from onnx import helper as h
from onnx_files import F32, I64
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import Engine, NotStreamableError, Stream

H, C = 4, 3


def packed(folder: Path, used_again: bool = False) -> Path:
    """x [1, T, C] and n [1], as PyTorch exports an LSTM behind pack_padded_sequence; with `used_again` n is data as well."""
    constants = {
        "W": floats(1, 1, 4 * H, C, scale=0.4),
        "R": floats(2, 1, 4 * H, H, scale=0.3),
        "B": floats(3, 1, 8 * H, scale=0.2),
        "axis": np.array([1]),
    }
    nodes = [
        h.make_node("Transpose", ["x"], ["frames"], perm=[1, 0, 2], name="in"),
        h.make_node("Cast", ["n"], ["lens"], to=6, name="cast"),
        h.make_node("LSTM", ["frames", "W", "R", "B", "lens"], ["all", "last"], hidden_size=H, name="cell"),
        h.make_node("Squeeze", ["all", "axis"], ["three"], name="squeeze"),
        h.make_node("Transpose", ["three"], ["y"], perm=[1, 0, 2], name="out"),
    ]
    outputs = [("y", F32, [1, "T", H]), ("last", F32, [1, 1, H])]
    if used_again:
        nodes += [
            h.make_node("Cast", ["n"], ["float"], to=1, name="as_float"),
            h.make_node("Mul", ["y", "float"], ["z"], name="scaled"),
        ]
        outputs.append(("z", F32, [1, "T", H]))
    return files.save(files.make(nodes, [("x", F32, [1, "T", C]), ("n", I64, [1])], outputs, constants), folder)


def test_the_length_of_a_clip_is_no_input_of_a_stream(tmp_path: Path) -> None:
    path = packed(tmp_path)
    engine = Engine(convert(path))
    assert list(engine.inputs) == ["x"]
    assert engine.meta["as_long_as_the_clip"] == ["n"]
    clip = floats(5, 1, 12, C)
    y = Stream(engine).process(clip[0])["y"]  # type: ignore[index]
    for frames in (1, 5, 12):
        expected = files.run_file(path, {"x": clip[:, :frames], "n": np.array([frames])})
        np.testing.assert_allclose(y[:frames], expected[0][0], atol=1e-6)
    report = validate(path, engine, steps=50)
    assert report.passed, report.verdict
    assert not report.excluded


def test_in_window_mode_it_stays_an_input(tmp_path: Path) -> None:
    engine = Engine(convert(packed(tmp_path), mode="window", shape={"x": (1, 7, C)}))
    assert list(engine.inputs) == ["x", "n"]


def test_a_length_that_is_also_data_has_no_meaning_in_a_stream(tmp_path: Path) -> None:
    with pytest.raises(NotStreamableError, match="depends on the length of the clip"):
        convert(packed(tmp_path, used_again=True), mode="frame")
