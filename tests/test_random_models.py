"""Random step models: whatever lies inside of what, the import ends, and each step gives what onnxruntime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_files import noise, run_file, save
from random_models import SHAPE, Model
from streamrnn_converters import convert

from streamrnn import Engine, StatePairError, Stream
from streamrnn.ir.graph import Graph


def imported(path: Path, pairs: dict[str, str]) -> Graph:
    """With the pairs that the file leaves open; x is data also where it is what a cell begins with."""
    try:
        return convert(path, pair={"x": ""})
    except StatePairError:
        return convert(path, pair={**pairs, "x": ""})


@pytest.mark.parametrize("seed", range(24))
def test_each_step_of_a_random_model_gives_what_onnxruntime_gives(tmp_path: Path, seed: int) -> None:
    model, pairs = Model(seed).build()
    path = save(model, tmp_path)
    graph = imported(path, pairs)
    assert all(source in pairs for source, *_ in graph.meta["pairs"])  # type: ignore[attr-defined]
    found = {source: target for source, target, _ in graph.meta["pairs"]}  # type: ignore[attr-defined]
    engine = Engine(graph)
    stream, names = Stream(engine), [output.name for output in model.graph.output]
    state = {name: np.zeros(SHAPE, np.float32) for name in pairs}
    for t in range(3):
        x = noise(100 * seed + t, *SHAPE)
        feeds = {"x": x, **state}
        result = stream.step({name: feeds[name].reshape(info.shape) for name, info in engine.inputs.items()})
        expected = dict(zip(names, run_file(path, feeds), strict=True))
        given = result if isinstance(result, dict) else {next(iter(engine.outputs)): result}
        for name, value in given.items():
            np.testing.assert_allclose(value.ravel(), expected[name].ravel(), rtol=1e-4, atol=1e-5, err_msg=name)
        state.update((source, expected[target]) for source, target in found.items())
