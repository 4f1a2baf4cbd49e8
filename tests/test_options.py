"""A converted file says how it was made: the options that were given, and what was found where the file leaves one choice."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx_files as files
import pytest
from onnx import helper as h
from onnx_files import F32
from streamrnn_converters import convert
from streamrnn_converters.validate import validate

from streamrnn import BindingError, Engine, load
from streamrnn.cli.options import Conversion
from streamrnn.cli.talk import data, print_rows, summary
from streamrnn.ir.file import fingerprint
from streamrnn.ir.graph import Graph


def words(graph: Graph, key: str) -> list[str]:
    found = graph.meta[key]
    assert isinstance(found, list)
    return found


def again(path: Path, options: list[str]) -> Graph:
    """The file converted with options as the command line takes them."""
    given: dict[str, Any] = {
        "bind": [],
        "shape": [],
        "pair": [],
        "time_axis": [],
        "mode": "auto",
        "lookahead": 0,
        "outputs": "",
    }
    for option, value in zip(options[::2], options[1::2], strict=True):
        key = option.removeprefix("--").replace("-", "_")
        if isinstance(given[key], list):
            given[key].append(value)
        else:
            given[key] = type(given[key])(value)
    return convert(path, **Conversion(**given).keywords())


def knob(path: Path) -> Path:
    """x [1, 3], a gain of [1, 3] and a level of any length -> s = s + gain * x + sum(level): a step model."""
    nodes = [
        h.make_node("Mul", ["x", "the gain"], ["louder"], name="mul"),
        h.make_node("ReduceSum", ["level"], ["sum"], keepdims=0, name="reduce"),
        h.make_node("Sum", ["louder", "s", "sum"], ["s_out"], name="sum"),
        h.make_node("Tanh", ["s_out"], ["y"], name="tanh"),
    ]
    inputs = [("x", F32, [1, 3]), ("the gain", F32, [1, 3]), ("level", F32, ["n"]), ("s", F32, ["batch", 3])]
    return files.save(files.make(nodes, inputs, [("y", F32, [1, 3]), ("s_out", F32, ["batch", 3])]), path.parent, path.name)


CASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], list[str], list[str]]] = {
    "nothing given": (models.two_layers, {}, [], ["--mode", "frame", "--time-axis", "x=0"]),
    "everything given": (
        models.packed_step,
        {"mode": "window", "pair": {"h1": "packed[0:1]", "h2": "packed[1:2]"}},
        ["--mode", "window", "--pair", "h1=packed[0:1]", "--pair", "h2=packed[1:2]"],
        [],
    ),
    "pairs traced": (
        models.packed_step,
        {},
        [],
        ["--mode", "window", "--pair", "h1=packed[0:1]", "--pair", "h2=packed[1:2]"],
    ),
    "bound": (models.two_rates, {"bind": {"rate": 16000}}, ["--bind", "rate=16000"], ["--mode", "frame", "--time-axis", "x=0"]),
    "a clip": (
        models.conv_gru,
        {"mode": "window", "shape": {"x": (1, 3, 9)}, "outputs": ["y"]},
        ["--mode", "window", "--shape", "x=1,3,9", "--outputs", "y"],
        [],
    ),
    "chunks": (
        models.both_ways,
        {"lookahead": 4},
        ["--lookahead", "4"],
        ["--mode", "frame", "--time-axis", "x=0"],
    ),
    "arrays": (
        knob,
        {"bind": {"the gain": np.array([[0.1, -2, 1e-9]], np.float32), "level": [1.5, 2.5]}},
        ["--bind", f"the gain={float(np.float32(0.1))},-2.0,{float(np.float32(1e-9))}", "--bind", "level=1.5,2.5"],
        ["--mode", "window", "--shape", "s=1,3", "--pair", "s=s_out"],
    ),
}


@pytest.mark.parametrize(("make", "options", "given", "found"), CASES.values(), ids=CASES)
def test_what_was_given_and_what_was_found_make_the_same_model_again(
    tmp_path: Path, make: Callable[[Path], Path], options: dict[str, Any], given: list[str], found: list[str]
) -> None:
    path = make(tmp_path / "model.onnx")
    graph = convert(path, **options)
    assert words(graph, "given") == given
    assert words(graph, "found") == found
    once, all_of_it = again(path, given), again(path, given + found)
    assert fingerprint(once) == fingerprint(all_of_it) == fingerprint(graph)
    assert words(all_of_it, "found") == []


def test_the_file_keeps_the_command_line_and_inspect_repeats_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Engine(convert(knob(tmp_path / "a knob.onnx"), bind={"the gain": [1, 2, 3], "level": 1})).save(tmp_path / "knob.srnn")
    engine = load(tmp_path / "knob.srnn")
    print_rows(data(), summary(engine))
    shown = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert shlex.split(shown["made by"])[1:] == [
        "convert", "a knob.onnx", "--bind", "the gain=1,2,3", "--bind", "level=1",
    ]  # fmt: skip
    assert shlex.split(shown["found"]) == ["--mode", "window", "--shape", "s=1,3", "--pair", "s=s_out"]


def test_as_many_numbers_as_an_input_has_elements_fill_it_row_by_row(tmp_path: Path) -> None:
    path = knob(tmp_path / "model.onnx")
    flat, shaped = (convert(path, bind={"the gain": gain, "level": 0}) for gain in ([1, 2, 3], [[1, 2, 3]]))
    assert fingerprint(flat) == fingerprint(shaped)
    assert validate(path, Engine(flat), steps=10).passed
    with pytest.raises(BindingError, match="does not fit input 'the gain'"):
        convert(path, bind={"the gain": [1, 2], "level": 0})


@pytest.mark.parametrize("value", [2**63, 10**30, 1.5, float("nan"), float("inf"), "fast"])
def test_a_value_that_an_integer_input_cannot_hold_is_refused(tmp_path: Path, value: object) -> None:
    nodes = [h.make_node("Cast", ["rate"], ["f"], to=F32), h.make_node("Mul", ["x", "f"], ["y"])]
    proto = files.make(nodes, [("x", F32, [1, 3]), ("rate", files.I64, [])], [("y", F32, [1, 3])])
    with pytest.raises(BindingError, match=r"--bind rate=.*: the value does not fit an input of int64"):
        convert(files.save(proto, tmp_path), bind={"rate": value})
