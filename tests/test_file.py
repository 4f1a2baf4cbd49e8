"""A `.srnn` file is what was saved, or it is refused with a reason."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from small import recurrent_clip
from streamrnn_converters.passes.align import align
from streamrnn_converters.passes.streamify import streamify

from streamrnn import GraphError, ModelFileError
from streamrnn.files import write_aside
from streamrnn.ir.file import FORMAT, fingerprint, load_graph, save_graph
from streamrnn.ir.graph import Graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    return align(streamify(recurrent_clip(), {"x": 0})).replace(meta={"mode": "frame", "frames": 1, "sample_rate": 48000})


@pytest.fixture
def path(graph: Graph, tmp_path: Path) -> Path:
    save_graph(graph, tmp_path / "m.srnn")
    return tmp_path / "m.srnn"


def test_a_file_gives_back_the_same_graph(graph: Graph, path: Path) -> None:
    again = load_graph(path)
    assert again.nodes == graph.nodes
    assert again.types == graph.types
    assert again.streams == graph.streams
    assert again.meta == graph.meta
    assert fingerprint(again) == fingerprint(graph)


def test_the_fingerprint_sees_weights_and_structure_but_not_meta(graph: Graph) -> None:
    other = {**graph.constants, "k": graph.constants["k"] + 1}
    assert fingerprint(graph.replace(constants=other)) != fingerprint(graph)
    assert fingerprint(graph.replace(meta={})) == fingerprint(graph)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_can_be_cut_or_changed_unnoticed(path: Path, data: st.DataObject) -> None:
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(["cut", "flip", "double"]))
    bad = {"cut": good[:at], "flip": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], "double": good[:at] + good[at - 1 :]}[
        how
    ]
    other = path.with_name("bad.srnn")
    other.write_bytes(bad)
    with pytest.raises(ModelFileError, match=r"bad\.srnn"):
        load_graph(other)


def with_metadata(path: Path, **changes: str) -> Path:
    with safe_open(path, framework="numpy") as file:
        metadata = {**file.metadata(), **changes}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(arrays, path, metadata)
    return path


def test_a_file_of_a_later_format_asks_for_an_upgrade(path: Path) -> None:
    with pytest.raises(ModelFileError, match="upgrade streamrnn"):
        load_graph(with_metadata(path, format=str(FORMAT + 1)))


def test_a_safetensors_file_of_something_else_is_named_as_such(tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.srnn")
    with pytest.raises(ModelFileError, match="not one of streamrnn's"):
        load_graph(tmp_path / "other.srnn")


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 64, b"not a model"])
def test_what_is_no_model_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.srnn").write_bytes(content)
    with pytest.raises(ModelFileError, match="not a readable"):
        load_graph(tmp_path / "m.srnn")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"missing\.srnn"):
        load_graph(tmp_path / "missing.srnn")


def test_only_step_graphs_are_saved(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="only step graphs"):
        save_graph(recurrent_clip(), tmp_path / "m.srnn")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "m.srnn"
    target.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # the size limit stands in for a full disk: the write fails half-way
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="large"):
            write_aside(target, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.srnn"]


def test_a_kill_while_writing_never_leaves_half_a_file(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom streamrnn.files import write_aside\n"
        "print('go', flush=True)\nn = 0\n"
        "while True:\n    n += 1\n    write_aside(Path(sys.argv[1]), bytes([n % 256]) * 3_000_000)\n"
    )
    target = tmp_path / "m.bin"
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while not target.exists():
        pass
    process.kill()
    process.wait()
    process.stdout.close()
    data = target.read_bytes()
    assert len(data) == 3_000_000
    assert len(set(data)) == 1
