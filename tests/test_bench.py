"""What a bench reports: every way to make a step, ordered percentiles, figures as JSON. Never how long it took."""

from __future__ import annotations

import json
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import helper as h
from streamrnn_converters import convert
from streamrnn_converters.bench import bench_against_onnxruntime, ort_step
from typer.testing import CliRunner

from streamrnn import Engine, Stream
from streamrnn.bench import Times, bench, random_frames
from streamrnn.cli import app

MODELS = Path(__file__).resolve().parent.parent / "examples" / "models"


def test_percentiles_are_ordered_and_every_way_is_there() -> None:
    path = MODELS / "amp.onnx"
    engine = Engine(convert(path))
    for times in (bench(engine, 64), bench_against_onnxruntime(path, engine, 64)):
        assert len(times) == 3
        for row in times:
            assert 0 <= row.p50 <= row.p99 <= row.p999 <= row.max


def test_noise_for_a_bench_has_the_shape_of_every_input() -> None:
    engine = Engine(convert(MODELS / "amp.onnx"))
    frames = random_frames(engine, 5)
    assert {name: array.shape for name, array in frames.items()} == {"audio": (5, 1), "drive": (5, 1)}
    assert all(np.isfinite(array).all() and array.any() for array in frames.values())


def test_percentiles_are_those_of_the_samples() -> None:
    samples = np.random.default_rng(0).permutation(np.arange(1001.0))
    times = Times.of("way", samples)
    assert (times.p50, times.p99, times.p999, times.max) == pytest.approx((500, 990, 999, 1000))


def test_inputs_that_were_bound_reach_onnxruntime_in_their_own_element_type(tmp_path: Path) -> None:
    for kind in (onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64):
        nodes = [h.make_node("Cast", ["rate"], ["r"], to=1, name="cast"), h.make_node("Mul", ["x", "r"], ["y"], name="mul")]
        path = models.write_model(
            tmp_path / f"{kind}.onnx", {"x": [1, 3], "rate": []}, {"y": [1, 3]}, nodes, {}, {"rate": kind}
        )
        options = {"bind": {"rate": 2}, "mode": "window"}
        engine = Engine(convert(path, **options))
        x = np.ones((1, 3), np.float32)
        oracle = ort_step(path, engine, **options)
        np.testing.assert_array_equal(oracle.step({"x": x})[oracle.outputs["y"]].ravel(), Stream(engine).step(x[0]))


@pytest.mark.parametrize("against", [[], ["--against", "onnxruntime"]])
def test_the_command_writes_its_figures_as_json(against: list[str]) -> None:
    done = CliRunner().invoke(app, ["bench", str(MODELS / "sensor.onnx"), "--steps", "16", "--json", "-", *against])
    assert done.exit_code == 0
    rows = {row["way"]: row for row in json.loads(done.stdout)["times"]}
    assert ("onnxruntime run" in rows) is bool(against)
    assert {"step(x)", "step() on views", "process, per step"} <= set(rows)
    assert all(set(row) == {"way", "p50", "p99", "p999", "max"} for row in rows.values())
