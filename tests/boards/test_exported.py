"""Exported libraries on their machines, each beside the host over 200 single steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_models import NAMES, assert_close, frames, graph, on_the_host, tolerance, with_one_weight_altered
from exported import MACHINES, need_machine, run
from streamrnn_converters import convert

from streamrnn import Engine
from streamrnn.export.artefact import export_model
from streamrnn.export.targets import find_target


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    folder = tmp_path_factory.mktemp("models")
    return {name: Engine(graph(name, folder)) for name in NAMES}


def export(engine: Engine, target: str, folder: Path) -> Path:
    export_model(engine, find_target(target), folder, name="model")
    return folder


@pytest.mark.parametrize("target", MACHINES)
@pytest.mark.parametrize("name", NAMES)
def test_a_library_computes_on_its_machine_what_the_host_computes(
    name: str, target: str, engines: dict[str, Engine], tmp_path: Path
) -> None:
    need_machine(target)
    engine = engines[name]
    X = frames(engine)
    found = run(target, export(engine, target, tmp_path / "out"), engine, X)
    worst = assert_close(found, on_the_host(engine, X), tolerance(name))
    print(f"{name} on {target}: {worst:.2g}")


@pytest.mark.parametrize("target", MACHINES)
def test_a_model_that_others_trained_computes_there_too(target: str, models: Path, tmp_path: Path) -> None:
    need_machine(target)
    engine = Engine(convert(models / "onnx" / "silero_v6_openvino.onnx"))
    X = frames(engine)
    worst = assert_close(run(target, export(engine, target, tmp_path / "out"), engine, X), on_the_host(engine, X))
    print(f"silero on {target}: {worst:.2g}")


@pytest.mark.parametrize("target", MACHINES)
@pytest.mark.parametrize("name", ["lstm", "gru_int8"])
def test_one_altered_weight_is_seen(name: str, target: str, engines: dict[str, Engine], tmp_path: Path) -> None:
    need_machine(target)
    engine = engines[name]
    altered = Engine(with_one_weight_altered(engine.graph))
    X = frames(engine)
    found = run(target, export(altered, target, tmp_path / "out"), engine, X)
    assert_close(found, on_the_host(altered, X), tolerance(name))
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(found, on_the_host(engine, X), tolerance(name))
