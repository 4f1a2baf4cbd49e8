"""Shapes that a file leaves open: inputs without even a rank, inputs without elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import helper as h
from onnx_files import F32, make, noise, save
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import BindingError, Engine, Stream


def unranked(path: Path) -> Path:
    """The file, its inputs declared without a shape."""
    model = onnx.load(path)
    for declared in model.graph.input:
        declared.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "window"},
        {"mode": "frame"},
        {"mode": "frame", "time_axis": {"x": 0}},
        {"mode": "frame", "time_axis": {"x": -3}},
    ],
    ids=str,
)
def test_a_given_shape_is_all_that_an_input_without_one_needs(tmp_path: Path, options: dict[str, Any]) -> None:
    path = unranked(models.two_layers(tmp_path / "m.onnx"))
    graph = convert(path, shape={"x": (7, 1, 3)}, **options)
    assert graph.meta["mode"] == options["mode"]
    report = validate(path, Engine(graph), steps=12)
    assert report.passed, report.verdict
    assert {row.name for row in report.rows} == {"y", "last"}


def test_states_without_a_declared_shape_are_states(tmp_path: Path) -> None:
    path = unranked(models.packed_step(tmp_path / "m.onnx"))
    state = (1, 1, 4)
    graph = convert(path, shape={"x": (1, 1, 3), "h1": state, "h2": state})
    assert {s.name: s.evidence for s in graph.states} == {"h1": "traced", "h2": "traced"}
    assert validate(path, Engine(graph), steps=12).passed


@pytest.mark.parametrize("options", [{}, {"mode": "window"}, {"mode": "frame", "time_axis": {"x": 0}}], ids=str)
def test_what_is_missing_is_asked_for(tmp_path: Path, options: dict[str, Any]) -> None:
    path = unranked(models.two_layers(tmp_path / "m.onnx"))
    with pytest.raises(BindingError, match=r"'x' has no shape in the file; give it: --shape x=SIZE"):
        convert(path, **options)


def test_an_input_may_be_without_elements(tmp_path: Path) -> None:
    """What is joined to nothing is itself."""
    nodes = [h.make_node("Concat", ["x", "nothing"], ["y"], axis=0)]
    path = save(make(nodes, [("x", F32, [3]), ("nothing", F32, ["n"])], [("y", F32, None)]), tmp_path)
    engine = Engine(convert(path, mode="window", shape={"nothing": (0,)}))
    x = noise(1, 3)
    np.testing.assert_array_equal(Stream(engine).step({"x": x, "nothing": np.zeros(0, np.float32)}), x)
    block = {"x": noise(2, 5, 3), "nothing": np.zeros((5, 0), np.float32)}
    np.testing.assert_array_equal(Stream(engine).process(block), block["x"])


def grouping(path: Path, group: int) -> Path:
    """x [1, T] samples -> groups of them -> GRU -> y [T / group, 1, 4]."""
    cell, constants = models.cell("GRU", "gru", "groups", group, 4, 10)
    nodes = [
        h.make_node("Reshape", ["x", "shape"], ["groups"], name="group"),
        cell,
        h.make_node("Squeeze", ["gru_all", "axis"], ["y"], name="squeeze"),
    ]
    constants |= {"shape": np.array([-1, 1, group]), "axis": np.array([1])}
    return models.write_model(path, {"x": [1, "T"]}, {"y": ["Y", 1, 4]}, nodes, constants)


@pytest.mark.parametrize("group", [160, 512])
def test_samples_in_groups_are_steps_of_so_many_frames(tmp_path: Path, group: int) -> None:
    path = grouping(tmp_path / "m.onnx", group)
    engine = Engine(convert(path))
    assert (engine.meta["mode"], engine.frames) == ("frame", group)
    assert validate(path, engine, steps=20).passed


def test_where_no_clip_fits_the_window_is_asked_for(tmp_path: Path) -> None:
    path = grouping(tmp_path / "m.onnx", 53)
    with pytest.raises(BindingError, match=r"dimension 1 \('T'\) is open(.|\n)*no clip of 1009 frames fits"):
        convert(path)
