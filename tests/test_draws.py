"""Outputs that depend on random numbers are judged by their distribution: right ones pass, wrong ones do not, all are told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from contract import floats
from onnx import helper as h
from streamrnn_converters import convert
from streamrnn_converters.draws import FALSE_ALARM, compared, distance, outside, random_results
from streamrnn_converters.page import report_html
from streamrnn_converters.report import Draw, Report, report_table
from streamrnn_converters.validate import validate

from streamrnn import Engine
from streamrnn.ir.graph import Attr, Graph, Node

STEPS = 300
#: the state that the noise reaches
FED = {"h1": "h1_out"}


def write(path: Path, *parts: Any) -> Path:
    """`models.write_model` at the newest opset for which onnxruntime draws."""
    model = onnx.load(models.write_model(path, *parts))
    model.opset_import[0].version = 21
    onnx.save(model, path)
    return path


def policy(path: Path) -> Path:
    """x [1, 1, 3], h1 -> scores -> a drawn action; the next h1 has noise in it."""
    cell, weights = models.cell("GRU", "one", "x", 3, 4, 10, h0="h1")
    nodes = [
        cell,
        h.make_node("Squeeze", ["one_last", "axis"], ["flat"], name="squeeze"),
        h.make_node("MatMul", ["flat", "K"], ["scores"], name="scores"),
        h.make_node("Multinomial", ["scores"], ["action"], name="action", sample_size=2),
        h.make_node("RandomNormalLike", ["one_last"], ["noise"], name="noise", scale=0.3),
        h.make_node("Add", ["one_last", "noise"], ["h1_out"], name="add"),
    ]
    state = [1, 1, 4]
    outputs: dict[str, models.Dims] = {"flat": [1, 4], "action": [1, 2], "h1_out": state}
    constants = {**weights, "K": floats(1, 4, 5, scale=3.0), "axis": np.array([0])}
    kinds = {"action": onnx.TensorProto.INT32}
    return write(path, {"x": [1, 1, 3], "h1": state}, outputs, nodes, constants, kinds)


def noisy_clip(path: Path, frames: int | str = "T") -> Path:
    """x [T, 1, 3] -> LSTM -> y with noise, and what a second layer makes of it; z [T, 1, 4] has none."""
    first, a = models.cell("LSTM", "one", "x", 3, 4, 10)
    second, b = models.cell("GRU", "two", "y", 4, 4, 20)
    nodes = [
        first,
        h.make_node("Squeeze", ["one_all", "axis"], ["z"], name="squeeze"),
        h.make_node("RandomUniformLike", ["z"], ["noise"], name="noise", low=-0.5, high=0.5),
        h.make_node("Add", ["z", "noise"], ["y"], name="add"),
        second,
        h.make_node("Identity", ["two_last"], ["last"], name="final"),
    ]
    outputs: dict[str, models.Dims] = {"z": [frames, 1, 4], "y": [frames, 1, 4], "last": [1, 1, 4]}
    return write(path, {"x": [frames, 1, 3]}, outputs, nodes, {**a, **b, "axis": np.array([1])})


def changed(graph: Graph, name: str, **attrs: Attr) -> Engine:
    """The graph with other attributes at one node."""
    nodes = (Node(n.op, n.name, n.inputs, n.outputs, {**n.attrs, **attrs}) if n.name == name else n for n in graph.nodes)
    return Engine(graph.replace(nodes=tuple(nodes)))


def checked(path: Path, engine: Engine, **options: Any) -> Report:
    return validate(path, engine, steps=STEPS, **options)


def names(draws: list[Draw] | tuple[Draw, ...]) -> set[tuple[str, str]]:
    return {(d.kind, d.name) for d in draws}


# -- whole models ---------------------------------------------------------------------------------------------------


def test_a_step_model_that_draws_passes_and_all_of_it_is_told(tmp_path: Path) -> None:
    path = policy(tmp_path / "policy.onnx")
    graph = convert(path, pair=FED)
    assert set(random_results(graph)) == {"flat", "action", "h1"}
    report = checked(path, Engine(graph))
    assert report.passed, report.verdict
    assert names(report.draws) == {("output", "flat"), ("output", "action"), ("state", "h1")}
    assert {d.signal for d in report.draws} == {"random", "silent", "loud", "impulses"}
    assert not report.rows
    assert not report.excluded
    assert "flat, action, h1: random, distributed as in onnxruntime" in report.verdict
    assert "action" in report_html(report)
    assert '"passed": true' in report.to_json()


@pytest.mark.parametrize(
    ("node", "attrs", "wrong"),
    [("noise", {"scale": 0.6}, ("state", "h1")), ("noise", {"mean": 0.3}, ("state", "h1"))],
    ids=["twice the noise", "another mean"],
)
def test_another_distribution_fails(tmp_path: Path, node: str, attrs: dict[str, Attr], wrong: tuple[str, str]) -> None:
    path = policy(tmp_path / "policy.onnx")
    report = checked(path, changed(convert(path, pair=FED), node, **attrs))
    assert not report.passed
    assert wrong in names([d for d in report.draws if not d.passed])
    assert "distributed otherwise" in report.verdict


def test_draws_by_wrong_scores_fail(tmp_path: Path) -> None:
    path = policy(tmp_path / "policy.onnx")
    graph = convert(path, pair=FED)
    wrong = graph.replace(constants={**graph.constants, "K": -graph.constants["K"]})
    report = checked(path, Engine(wrong))
    assert names([d for d in report.draws if not d.passed]) == {("output", "action")}


@pytest.mark.parametrize("frames", ["T", 7])
def test_frames_are_judged_beside_those_of_a_clip(tmp_path: Path, frames: int | str) -> None:
    path = noisy_clip(tmp_path / "clip.onnx", frames)
    graph = convert(path, mode="frame", time_axis={"x": 0})
    report = checked(path, Engine(graph))
    assert report.passed, report.verdict
    assert names(report.draws) == {("output", "y"), ("output", "last")}
    assert {row.name for row in report.rows} == {"z"}
    failed = checked(path, changed(graph, "noise", low=-0.1))
    assert {("output", "y")} <= names([d for d in failed.draws if not d.passed])


def test_the_console_shows_what_is_random(tmp_path: Path) -> None:
    from rich.console import Console

    path = noisy_clip(tmp_path / "clip.onnx")
    report = checked(path, Engine(convert(path, mode="frame", time_axis={"x": 0})))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report_table(report))
    assert "random: output 'y', signal 'loud'" in console.export_text()


# -- the two tests --------------------------------------------------------------------------------------------------


def sample(seed: int, runs: int = 400, values: int = 30) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((runs, values))


def test_equal_distributions_are_rarely_told_apart() -> None:
    assert all(compared("s", "output", "y", sample(2 * k), sample(2 * k + 1)).passed for k in range(40))


def test_the_limit_is_that_of_kolmogorov_and_smirnov() -> None:
    """Two samples of n: the tail of the limiting distribution is 2 exp(-n d²) (Smirnov 1948)."""
    draw = compared("s", "output", "y", sample(1), sample(2))
    assert 2 * np.exp(-draw.runs * draw.limit**2) == pytest.approx(FALSE_ALARM / draw.values)
    assert 2.0 ** -(draw.most_outside - 1) > FALSE_ALARM / draw.values >= 2.0**-draw.most_outside


@pytest.mark.parametrize(
    "move", [lambda x: x + 0.6, lambda x: 3 * x, lambda x: np.abs(x), lambda x: np.where(x > 0.9, np.nan, x)]
)
def test_one_element_with_another_distribution_is_found(move: Any) -> None:
    found = sample(2)
    found[:, 17] = move(found[:, 17])
    assert not compared("s", "output", "y", sample(1), found).passed


def test_a_few_values_out_of_range_are_found() -> None:
    """Five in a hundred classes that do not exist are too few for the distance."""
    expected, found = (np.random.default_rng(k).integers(0, 5, (1000, 1)) for k in (1, 2))
    found[::20] = 5
    draw = compared("s", "output", "y", expected, found)
    assert draw.distance < draw.limit
    assert not draw.passed
    assert outside(expected[:, 0], found[:, 0], 0.0) == 50


def test_what_is_not_random_after_all_may_be_off_by_the_tolerance() -> None:
    same = np.full((100, 1), 3.0)
    assert compared("s", "output", "y", same, same + 2e-4).passed
    assert not compared("s", "output", "y", same, same + 4e-4).passed
    assert distance(same[:, 0], same[:, 0] + 1.0, 0.0) == 1.0
    integers = np.full((100, 1), 3)
    assert not compared("s", "output", "y", integers, integers + 1).passed
